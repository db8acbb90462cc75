"""A recording on the screen: keys, what cannot be done, and files that are not what they should be."""

import re
import sqlite3
import subprocess
import sys

import fake_engine
import made
import pytest
from inspectors import screen_text, settled, until, up
from msgspec.structs import replace
from recordings import lengthened, recorded, session
from terminal import Terminal
from textual.actions import parse

from tui_entropy.records.commands import SetKnobs, SetVector
from tui_entropy.records.events import HeadSelected, Ready, SettingsPending
from tui_entropy.records.step import Step
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.schema import TABLES
from tui_entropy.ui.app.replay_app import RECORDING, ReplayApp
from tui_entropy.ui.capture import film, snapshot, wishes
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.wrap import Flow
from tui_entropy.ui.keys.keymap import KEYS, with_keys
from tui_entropy.ui.keys.needs import unable
from tui_entropy.ui.pages.layers import Layers
from tui_entropy.ui.pages.numbers import Numbers
from tui_entropy.ui.pages.quadrants import Quadrants
from tui_entropy.ui.pages.waterfall import Waterfall
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.chart import Chart
from tui_entropy.ui.panes.heads import HeadGrid
from tui_entropy.ui.panes.knobs import KnobStrip
from tui_entropy.ui.panes.status import Status
from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.views.frame import Frame

REFUSAL = with_keys(RECORDING, {})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("traces") / "story.tui", *session(), *session(12, run=2))


def shown(file, **options):
    """An inspector on a recording, in a time of its own."""
    clock = film.Clock()
    app = ReplayApp(Playback(Trace.open(file), clock=clock, **options))
    app.passing = clock

    def wait(seconds):
        clock.now += seconds
        app._go_on()

    app.wait = wait
    return app


async def test_everything_is_there_at_once_and_the_cursor_scrubs_through_it(file):
    app = shown(file, run=1, first=None)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        assert "step 40 of 40" in screen_text(app) and "ended (end of text)" in screen_text(app)
        await pilot.press("left", "left")
        await settled(app, pilot)
        assert "step 38 of 40" in screen_text(app)
        assert f"entropy {app.frame.step.entropy / 0.6931471805599453:.2f} bits" in screen_text(app)
        await pilot.press("home")
        assert app.frame.cursor == 0
        await pilot.press("end")
        assert app.frame.cursor == 39 and app.frame.following


async def test_the_status_says_what_is_played_how_far_and_how_fast(file):
    app = shown(file, run=1, first=5)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        assert "replay run 1 of 2 5/40 x1 story.tui" in screen_text(app)
        await pilot.press(">")
        app.wait(0.51)
        await settled(app, pilot)
        assert "25/40 x2" in screen_text(app) and "T 0.7→1.2" in screen_text(app)
        await pilot.press("<", "<")
        assert "x0.5" in screen_text(app).split("\n")[0]


async def test_space_pauses_n_goes_one_on_and_at_the_end_space_plays_again(file):
    app = shown(file, run=1, first=5)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("space")
        app.wait(60)
        assert len(app.frame.log.steps) == 5 and "paused" in screen_text(app)
        await pilot.press("n", "n")
        assert len(app.frame.log.steps) == 7 and app.frame.cursor == 6
        await pilot.press("space")
        app.wait(60)
        assert len(app.frame.log.steps) == 40
        await pilot.press("home", *["right"] * 8, "space")
        assert app.frame.cursor == 8 and len(app.frame.log.steps) == 9
        app.wait(60)
        await pilot.press("space")
        assert len(app.frame.log.steps) == 0 and app.playback.playing


async def test_looking_back_does_not_stop_the_playing(file):
    app = shown(file, run=1, first=20)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("left", "left", "left")
        app.wait(0.26)
        assert app.frame.cursor == 16 and len(app.frame.log.steps) == 25


async def test_the_other_runs_are_a_key_away(file):
    app = shown(file)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("(")
        assert app.playback.run == 1 and len(app.frame.log.steps) == 0
        app.wait(60)
        await pilot.press("right_parenthesis")
        assert app.playback.run == 2 and len(app.frame.log.steps) == 12
        await pilot.press(")")
        assert "there is no run after this one" in screen_text(app)


async def test_the_tree_of_branches_leads_to_another_run(file):
    app = shown(file, run=2, first=None)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("B", "up", "enter")
        await until(pilot, lambda: not app.page and app.frame.log.run_number == 1)
        assert app.playback.run == 1 and app.frame.log.run_number == 1 and not app.page
        assert len(app.frame.log.steps) == app.playback.length


NEED_AN_ENGINE = {
    "again", "stop", "restart", "prompt", "turn", "turn_chosen", "type", "take_typed", "reset_knob", "move_stage",
    "adaptive", "vector", "strength", "no_vectors", "name", "star", "delete", "edit", "edit_prompt", "lane",
    "type_lane", "shadow", "twin", "fan", "ask_fan", "same_text", "take_fan", "policy",
    "take", "ban", "ban_on", "force", "until", "write_some", "undo", "add_row", "edit_row", "delete_row",
    "switch_row", "ask_probe", "edit_probe", "cancel_probe", "open_prompt",
    "scale", "lens",
}  # fmt: skip
IN_THE_BOX = {"send", "newline", "recall", "chat_or_raw", "system", "close_prompt"}
"""Which never opens on a recording."""


def test_a_recording_lacks_what_needs_an_engine_and_nothing_else(file):
    app = shown(file)
    named = {parse(key.action)[1] for key in KEYS}
    lacking = {name for name in named if name not in app.actions and not hasattr(app, f"action_{name}")}
    assert lacking == NEED_AN_ENGINE | IN_THE_BOX == app.lacking
    assert unable(Playback.capabilities) == (NEED_AN_ENGINE | {"send"}) - {"restart"}
    assert not hasattr(app, "tell")


@pytest.mark.parametrize("action", sorted(NEED_AN_ENGINE))
async def test_what_needs_an_engine_says_that_this_is_a_recording(file, action):
    key = next(key for key in KEYS if key.action.split("(")[0] == action)
    app = shown(file, run=1, first=None)
    async with app.run_test(size=(120, 36)) as pilot:
        if key.where == "knobs":
            await pilot.press("f")
        elif key.where not in ("", "usual", "token"):
            page = {"lists": "breakpoints"}.get(key.where, key.where)
            await pilot.press(next((one.keys for one in KEYS if one.action == f"open('{page}')"), "W"))
            await until(pilot, lambda: app.page is not None and app.place == app.page.called)
        before = app.frame.knobs, app.frame.vectors, len(app.screen_stack)
        await pilot.press(key.keys.split(",")[0])
        await until(pilot, lambda: app.frame.notice == REFUSAL)
        assert (app.frame.knobs, app.frame.vectors, len(app.screen_stack)) == before


async def test_a_click_on_a_vector_changes_nothing_either(file):
    app = shown(file, run=1, first=None)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        row = next(y for y, line in enumerate(screen_text(app).split("\n")) if line.startswith("vectors"))
        await pilot.click(offset=(10, row))
        assert app.frame.notice == REFUSAL and app.frame.vectors[0].on


async def test_the_strip_shows_what_the_live_one_showed_of_what_was_set_and_never_written_with(tmp_path):
    ready, events = Ready(fake_engine.card(30, 9), fake_engine.vectors(30)), session()
    live = up()
    async with live.run_test(size=(120, 36)) as pilot:
        live.take([ready, *events])
        await settled(live, pilot)
        live.sent.clear()
        await pilot.press("1", "minus", "minus", "T")  # off, and then weaker
        asked = live.frame.knobs, live.frame.vectors
        assert [type(one) for one in live.sent] == [SetVector] * 3 + [SetKnobs] and asked[1][0].strength == 0.5
        live.take(pending := [SettingsPending(1, *asked)])
        await settled(live, pilot)
        strip = [row for row in screen_text(live).splitlines() if row.startswith(("knobs ", "vectors "))]
    app = shown(recorded(tmp_path / "a.tui", *events, *pending), first=None)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        assert (app.frame.knobs, app.frame.vectors) == asked
        assert [row for row in screen_text(app).splitlines() if row.startswith(("knobs ", "vectors "))] == strip
        assert "+0.5" in strip[1] and "→" in strip[0]


async def test_the_attention_pane_of_a_recording_with_rows_is_there_and_that_of_another_run_is_not(tmp_path):
    """Its head is the one that was recorded, from then on when it was."""
    events, log = session(), made.recorded_log()
    rows = log.steps[0].attention_rows
    steps = [replace(event, attention_rows=rows) if isinstance(event, Step) else event for event in events]
    steps.insert(10, HeadSelected(17, 2, by_score=True))
    app = shown(recorded(tmp_path / "a.tui", *steps, *session(12, run=2)), run=1, first=None)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        text = screen_text(app)
        assert app.attention.display and "layer 17 head 2" in text and "top 24" in text
        await pilot.press("left_curly_bracket")
        await settled(app, pilot)
        assert "layer 17 mean" in screen_text(app)
        await pilot.press("right_square_bracket")
        await settled(app, pilot)
        assert "layer 18 mean" in screen_text(app)
        app.go_to_run(2)
        await settled(app, pilot)
        assert not app.attention.display


async def test_the_attention_pane_of_a_recording_without_rows_takes_no_room_and_says_why_when_it_is_asked_for(file):
    app = shown(file, run=1, first=None)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        assert not app.attention.display
        await pilot.press("a")
        await settled(app, pilot)
        assert "No attention rows are recorded of this token" in screen_text(app)
        await pilot.press("a")
        await settled(app, pilot)
        assert not app.attention.display


async def test_pages_open_and_close_and_leave_the_keys_of_a_replay(file):
    app = shown(file, run=1, first=5)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("N")
        await settled(app, pilot)
        assert "uniform kl" in screen_text(app)
        await pilot.press("escape")
        await until(pilot, lambda: app.place == "replay")
        await pilot.press(">")
        await until(pilot, lambda: app.frame.place == "replay" and app.playback.speed == 2)


# --- A long one --------------------------------------------------------------------------------------------------


async def test_a_long_text_costs_no_more_than_what_is_looked_at(tmp_path, monkeypatch):
    file = lengthened(recorded(tmp_path / "long.tui", *session(64)), 100_000, arrays=False)
    work = {"laid": 0, "read": 0}
    lay, columns = Flow.add, Trace.columns

    def laid(self, text, owner):
        work["laid"] += 1
        lay(self, text, owner)

    def read(self, run, names, first=0, last=None):
        found = columns(self, run, names, first, last)
        work["read"] += len(found[0])
        return found

    monkeypatch.setattr(Flow, "add", laid)
    monkeypatch.setattr(Trace, "columns", read)
    app = shown(file, first=None)
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(app, pilot)
        assert "step 100000 of 100000" in screen_text(app)
        assert work["laid"] < 3000 and work["read"] < 4000
        await pilot.press("home")
        await settled(app, pilot)
        assert "step 1 of 100000" in screen_text(app)
        assert work["laid"] < 6000 and work["read"] < 8000
        work["laid"] = work["read"] = 0
        await pilot.press(*["right"] * 5)
        await settled(app, pilot)
        assert work == {"laid": 0, "read": 0}
        assert app.query_one(TokenStream).frame.cursor == 5


# --- Files from anywhere -----------------------------------------------------------------------------------------


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tui_entropy", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_a_replay_imports_neither_torch_nor_numpy(file, tmp_path):
    done = command("replay", file, "--snapshot", tmp_path / "a.svg", "--cast", tmp_path / "a.cast", "--speed", 9)
    assert done.returncode == 0 and (tmp_path / "a.svg").exists() and (tmp_path / "a.cast").exists()
    imported = set(re.findall(r"\| +(\w+)", done.stderr))
    assert "textual" in imported and not {"torch", "numpy", "transformers"} & imported


NONSENSE = [None, -1, 2**62, 1e308, "text", b"\x00\xff", "\x1b]0;x\x07", '{"a": [1]}', "[999999]"]
COLUMNS = [
    (table, name) for table in ("steps", "arrays") for name in TABLES[table] if name not in ("seq", "run", "step")
]


HOSTILE = "\\u001b]0;x\\u0007\\u202e\\u0000"
"""As JSON writes it: a window title, a direction, nothing."""
SAID = ("Scripted-135M", "made up", "cpu", "float32", "warm", "built in", "Where", "temperature", "end of text")


def test_no_word_of_a_file_reaches_the_screen_unseen_through(file, tmp_path):
    copy = tmp_path / "copy.tui"
    copy.write_bytes(file.read_bytes())
    with sqlite3.connect(copy) as db:
        for said in SAID:
            words = f'"{said}', f'"{HOSTILE}{said}', f'"{said}'
            done = db.execute("UPDATE events SET json = replace(json, ?, ?) WHERE instr(json, ?)", words)
            assert done.rowcount, said
    for wish in (
        "a.txt@200x60:token=30",
        "a.txt@80x24",
        *(f"a.txt@200x60:page={page}" for page in wishes.PICTURED),
    ):
        snapshot.draw(Trace.open(copy), 1, [wishes.parse_snapshot(str(tmp_path / wish))], Paint())
        text = (tmp_path / "a.txt").read_text()
        assert len(text) > 300 and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


VIEWS = (TokenStream, Chart, Candidates, HeadGrid, Quadrants, Status, KnobStrip, Numbers, Layers, Waterfall)


@pytest.mark.parametrize("table, column", COLUMNS, ids=lambda name: name)
def test_what_can_be_read_of_a_step_is_shown_whatever_a_column_holds(file, tmp_path, table, column):
    copy = tmp_path / "copy.tui"
    copy.write_bytes(file.read_bytes())
    with sqlite3.connect(copy) as db:
        for n, value in enumerate([*NONSENSE, b"\x7f" * 12]):
            db.execute(f"UPDATE {table} SET {column} = ? WHERE seq % 10 = ?", (value, n))
    log = Playback(Trace.open(copy), 1, first=None).log
    views = [view() for view in VIEWS]
    for cursor in range(20, 30):
        frame = Frame(log, Paint(), cursor, following=False, layer=30, knobs=log.knobs, vectors=log.vectors)
        for view in views:
            text = "".join(strip.text for strip in view.draw(frame, 160, 40))
            assert text and not re.search(r"[\x00-\x1f\x7f-\x9f]", text)


@pytest.mark.pty
def test_it_plays_in_a_terminal_and_leaves_it_as_it_was(file, tmp_path):
    with Terminal([sys.executable, "-m", "tui_entropy", "replay", str(file), "--run", "1"]) as terminal:
        terminal.wait_for(re.compile(r"replay run 1 of 2 1\d/40 x1"))
        terminal.press(" ")
        terminal.wait_for("paused")
        terminal.press("q")
        assert terminal.wait() == 0 and terminal.left_changed() == set()
