"""A recording that is gone on with, on the screen: there at once, asked about, and opened from its replay."""

from __future__ import annotations

from pathlib import Path

import fake_engine
import pytest
from inspectors import begun, ready, screen_text, settled, up, writing
from msgspec.structs import replace
from recorded import recorded

from tui_entropy.records.commands import Reopen
from tui_entropy.records.events import Continued, Differences, Paused, Prefilled, Progress, Switched
from tui_entropy.records.model import DTYPES, ModelSpec
from tui_entropy.trace.library import reopened_spec
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.app.replay_app import ReplayApp

N = 12


@pytest.fixture
def trace(tmp_path) -> Path:
    card = replace(fake_engine.card(6, 4), requested="toy")
    return recorded(tmp_path / "a.tui", [replace(ready(), card=card), *begun(steps=N)])


def opened(trace: Path) -> InspectorApp:
    return up(Reopen(str(trace), max_tokens=7))


async def test_the_text_is_there_and_can_be_looked_at_while_the_model_is_loaded(trace):
    app = opened(trace)
    async with app.run_test(size=(120, 36)) as pilot:
        app.take([Progress("importing torch and transformers")])
        await settled(app, pilot)
        assert "importing torch" in screen_text(app)
        await pilot.press("left", "left")
        await settled(app, pilot)
        assert app.frame.cursor == N - 3 and f"step {N - 2}" in screen_text(app)
        load = app.orders
        assert load.reopen == Reopen(str(trace), max_tokens=7) and load.write is None
        assert load.vectors == () and load.breakpoints == ()


async def test_how_far_it_is_read_again_and_how_that_agrees_is_told(trace):
    app = opened(trace)
    async with app.run_test(size=(120, 36)) as pilot:
        up_again = replace(ready(), recording=str(trace), trace="/new.tui")
        app.take([up_again, Switched(1), Continued(1), Prefilled(1, 512, 2000, 1.0)])
        await settled(app, pilot)
        assert "reading the text again 512/2000" in screen_text(app)
        assert len(app.frame.log.steps) == N and app.frame.log.runs.keys() == {1}
        app.take([Paused(1, "as recorded, to the bit")])
        await settled(app, pilot)
        assert "paused (as recorded, to the bit)" in screen_text(app)
        again = app.orders.reopen
        assert again == Reopen("/new.tui")  # an engine that is started again goes on with the newer record


@pytest.mark.parametrize("key", ["y", "n", "escape"])
async def test_what_differs_is_asked(trace, key):
    app = opened(trace)
    async with app.run_test(size=(80, 24)) as pilot:
        app.take([replace(ready(), recording=str(trace)), Differences(str(trace), ("its model was a and is b",))])
        await settled(app, pilot)
        assert "its model was a and is b" in screen_text(app)
        await pilot.press(key)
        await settled(app, pilot)
        agreed = [one for one in app.sent if isinstance(one, Reopen)]
        assert agreed == ([Reopen(str(trace), max_tokens=7, despite=True)] if key == "y" else [])
        await pilot.press("ctrl+e")
        await settled(app, pilot)
        assert app.questions.asking


async def test_an_engine_that_is_gone_has_left_a_recording_to_go_on_with(trace):
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        app.take([replace(ready(), recording=str(trace), trace=str(trace))])
        await settled(app, pilot)
        app.lose("the engine was killed")
        await settled(app, pilot)
        begun_again = []
        app.begin_engine = lambda: begun_again.append(app.orders)
        await pilot.press("ctrl+e")
        assert [load.reopen.path for load in begun_again] == [str(trace)]


async def test_a_replay_leads_to_it(trace):
    app = ReplayApp(Playback(Trace.open(trace), first=None))
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        await pilot.press("ctrl+e")
        await pilot.pause()
    assert app.next is not None and app.next.reopens and (app.next.file, app.next.run) == (trace, 1)


async def test_a_replay_of_what_an_engine_still_writes_says_where_to_go(trace, monkeypatch):
    from tui_entropy.ui.app import replay_app

    monkeypatch.setattr(replay_app, "is_recorded_now", lambda path: "bcdf")
    app = ReplayApp(Playback(Trace.open(trace), first=None))
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        await pilot.press("ctrl+e")
        await settled(app, pilot)
        assert "tui-entropy attach bcdf" in screen_text(app) and app.next is None


def test_the_model_is_asked_for_as_it_was(trace):
    spec, prompt = reopened_spec(trace, {"device": "cpu"})
    card = fake_engine.card(6, 4)
    dtype = card.dtype if card.dtype in DTYPES else "auto"
    assert spec == ModelSpec("toy", device="cpu", dtype=dtype) and prompt.startswith("Where")
    assert reopened_spec(trace, {"name": "other"})[0].name == "other"
