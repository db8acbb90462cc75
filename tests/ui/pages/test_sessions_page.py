"""The page of sessions: what there is on this machine, and how one goes to it."""

import os
import sys

import made
import pytest
from inspectors import screen_text, settled, until, up, writing
from made_frames import frame_of
from places import FAKE_ENGINE
from recordings import recorded, session

from tui_entropy.core import paths
from tui_entropy.records.commands import Load, Write
from tui_entropy.records.events import Standing
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.transport import discovery
from tui_entropy.ui.actions.pages import found_sessions
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.keys.session_choice import Session, SessionsState
from tui_entropy.ui.pages.sessions import Sessions

FAKE = [sys.executable, str(FAKE_ENGINE), "--layers", "6", "--heads", "4"]


@pytest.fixture
def two():
    """A user's folder with two recordings, the older one first."""
    files = [recorded(paths.traces() / f"{name}.tui", *session()) for name in ("old", "new")]
    for at, file in enumerate(files):
        os.utime(file, (1_800_000_000 + at,) * 2)
    return files


def sessions(app):
    return app.frame.of(SessionsState).sessions


async def looked(app, pilot):
    """The page is open, and what there is has been found."""
    await pilot.press("ctrl+o")
    await until(pilot, lambda: sessions(app) is not None)
    await settled(app, pilot)


def standing(**fields):
    known = dict(
        engine="abcd", pid=1, began=0.0, model=ModelSpec("toy"), state="writing", tokens=3, trace="", keep=0.0
    )
    return Standing(**(known | {"in_control": True} | fields))


async def test_recordings_are_listed_newest_first_and_enter_goes_to_one(two):
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await looked(app, pilot)
        rows = screen_text(app).splitlines()
        assert "0 engines running" in rows[1] and "2 recordings" in rows[1]
        assert [one.file.stem for one in sessions(app)] == ["new", "old"]
        assert "`tui-entropy replay new`" in screen_text(app)
        await pilot.press("down")
        assert "`tui-entropy replay old`" in screen_text(app)
        await pilot.press("enter")
    assert app.next.file == two[0] and app.leaving


async def test_a_click_chooses_a_row_and_the_key_closes_the_page(two):
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        await writing(app, pilot)
        await looked(app, pilot)
        await pilot.click("Sessions", offset=(12, 3))
        assert app.frame.row == 1
        await pilot.press("ctrl+o")
        assert app.page is None


async def test_what_cannot_be_shown_is_not_gone_to(two):
    two[0].write_bytes(b"no trace")
    os.utime(two[0], (1_800_000_000,) * 2)
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await looked(app, pilot)
        assert "cannot be read" in screen_text(app)
        await pilot.press("down", "enter")
        assert app.next is None and not app.leaving and "old.tui" in app.frame.notice


async def test_a_recording_is_left_at_once_and_is_marked_where_it_is_listed(two):
    app = ReplayApp(Playback(Trace.open(two[1]), first=None))
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(app, pilot)
        assert "this screen shows it" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.page is None)  # what is pressed meanwhile is nobody's
        assert "already" in app.frame.notice
        await looked(app, pilot)
        await pilot.press("down", "enter")
    assert app.next.file == two[0]


@pytest.mark.parametrize(("keep", "asks"), [(60.0, False), (0.0, True)])
async def test_an_engine_that_would_end_is_left_only_when_a_person_agrees(two, keep, asks):
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        app.take([standing(keep=keep)])
        await settled(app, pilot)
        await looked(app, pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert app.questions.asking == asks
        if asks:
            await pilot.press("n", "enter")
            assert app.next is None
            await pilot.press("backspace", "y", "enter")
            await pilot.pause()
    assert app.next.file == two[1] and not app.link.ending


def test_an_engine_is_listed_once_with_what_it_records(two, tmp_path):
    write = Write("a b c", None, None, 5, Knobs(), False)
    started = discovery.start(FAKE, Load(ModelSpec("toy"), (), str(paths.traces() / "live.tui"), 60.0, write=write))
    try:
        while (end := started.reach()) is None:
            pass
        end.close()
        found = ()
        while not (found and found[0].n_tokens == 5):
            found, n_more = found_sessions(1)
        live = paths.traces() / "live.tui"
        assert (found[0].socket, found[0].file, found[0].prompt) == (started.socket, live, "a b c")
        assert found[0].command == f"attach {started.id}" and n_more == 1
        assert [one.file for one in found[1:]] == [two[1]]
    finally:
        started.end()


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (200, 60)])
def test_hostile_words_and_a_long_list_stay_inside_the_page(size):
    odd = "\x1b[31mred\x1b]0;x\x07 \u202e" + "wide 東京" * 30
    many = tuple(Session(paths.traces() / f"{n}{odd[:20]}.tui", at=1.0, prompt=odd, model=odd) for n in range(300))
    frame = frame_of(made.log(3), sessions=many, n_more=7, row=299)
    rows = Sessions().draw(frame, *size)
    text = "\n".join(row.text for row in rows)
    assert len(rows) <= size[1] and all(row.cell_length <= size[0] for row in rows)
    assert "\x1b" not in text and "\u202e" not in text and "7 older ones" in text
    assert size[0] < 80 or "307 recordings" in text
