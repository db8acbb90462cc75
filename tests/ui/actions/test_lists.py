"""The pages of breakpoints and watches, and questions on one line: keys in, orders to the engine out."""

import sys

import pytest
from inspectors import WRITE, screen_text, settled, until, up, writing
from places import FAKE_ENGINE
from stopped_texts import sent, stopped
from textual.events import Paste

from tui_entropy.records.commands import SetBreakpoints, SetWatches
from tui_entropy.records.events import BreakpointsChanged, Paused, WatchesChanged
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.settings import Breakpoint, Watch
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.dialogs.ask_line import unescape

FAKE = [sys.executable, str(FAKE_ENGINE), "--layers", "6", "--heads", "4"]
TWO = (Breakpoint(1, "entropy > 3 bits", hits=2), Breakpoint(4, "step % 50 == 0"))


async def typed(pilot, text):
    await pilot.press(*({" ": "space", "%": "percent_sign", "=": "equals_sign"}.get(one, one) for one in text))


async def test_a_breakpoint_is_added_and_what_is_wrong_with_it_is_told_while_it_is_typed():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("b", "a")
        await pilot.pause()
        await typed(pilot, "entopy > 3")
        rows = screen_text(app).splitlines()
        at = next(n for n, row in enumerate(rows) if row.startswith("stop before a token when entopy"))
        assert rows[at + 1].index("^") == rows[at].index("entopy") and "did you mean entropy" in rows[at + 1]
        await pilot.press("enter")
        assert sent(app) == [] and app.place == "ask"
        await pilot.press("home", "right", "right", "right")
        await typed(pilot, "r")
        assert "means entropy > 3 bits" in screen_text(app)
        await pilot.press("enter")
        assert sent(app) == [SetBreakpoints((Breakpoint(1, "entropy > 3"),))] and app.place == "breakpoints"


async def test_breakpoints_are_changed_switched_and_deleted():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot, BreakpointsChanged(TWO))
        await pilot.press("b", "space", "down", "e")
        await pilot.pause()
        await pilot.press("backspace", "1", "enter", "up", "d", "down", "down", "enter")
        await pilot.pause()
        await typed(pilot, "rank > 5")
        await pilot.press("enter", "escape")
        assert sent(app) == [
            SetBreakpoints((Breakpoint(1, "entropy > 3 bits", False, 2), TWO[1])),
            SetBreakpoints((TWO[0], Breakpoint(4, "step % 50 == 1"))),
            SetBreakpoints((TWO[1],)),
            SetBreakpoints((*TWO, Breakpoint(5, "rank > 5"))),
        ]


async def test_the_status_line_names_the_breakpoint_that_stopped():
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        await stopped(app, pilot, BreakpointsChanged(TWO), Paused(1, "breakpoint: step % 50 == 0", 4))
        assert "paused (breakpoint 4: step % 50 == 0)" in screen_text(app)


async def test_watches_are_added_changed_and_deleted():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot, WatchesChanged(1, 0, (Watch(" Yes", 5, b" Yes", 1), Watch("\n", 6, b"\n", 1))))
        await pilot.press("w", "a")
        await pilot.pause()
        await typed(pilot, " No")
        assert "follows ·No" in screen_text(app)
        await pilot.press("enter", "up", "e")
        await pilot.pause()
        assert "watch the text \\n" in screen_text(app)
        await pilot.press("backspace", "t", "enter", "d")
        assert sent(app) == [SetWatches((" Yes", "\n", " No")), SetWatches((" Yes", "\t")), SetWatches((" Yes",))]


async def test_a_click_chooses_a_row():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot, BreakpointsChanged(TWO))
        await pilot.press("b")
        await settled(app, pilot)
        await pilot.click("Breakpoints", offset=(12, 3))
        assert app.frame.row == 1


# --- Questions -------------------------------------------------------------------------------------------------


async def test_a_question_takes_every_letter_and_earlier_answers_come_back():
    app = up()
    answers = []
    async with app.run_test() as pilot:
        await writing(app, pilot)
        for text in ("qT", "second"):
            app.ask("name:", answers.append)
            await pilot.pause()
            await typed(pilot, text)
            await pilot.press("enter")
        assert answers == ["qT", "second"] and app.frame.knobs == WRITE.knobs
        app.ask("name:", answers.append)
        await pilot.pause()
        await typed(pilot, "draft")
        await pilot.press("up", "up", "up")
        assert app.questions.question.text == "qT"
        await pilot.press("down", "down")
        assert app.questions.question.text == "draft"
        app.ask("another:", answers.append)
        await pilot.pause()
        await pilot.press("up")
        assert app.questions.question.text == ""
        await pilot.press("escape")
        assert answers == ["qT", "second"] and app.place == "" and app.focused.id == "stream"


async def test_what_is_pasted_stays_on_one_line():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        app.ask("name:", print)
        await pilot.pause()
        app.questions.question.post_message(Paste("a\r\nb\x1b[2J"))
        await pilot.pause()
        assert app.questions.question.text == "a\\nb\x1b[2J"
        assert "\x1b" not in screen_text(app)


async def test_a_question_over_a_page_goes_with_it():
    app = up()
    async with app.run_test() as pilot:
        await stopped(app, pilot)
        await pilot.press("b", "a")
        await pilot.pause()
        app.actions["close_page"]()
        await pilot.pause()
        assert app.place == ""
        await pilot.press("u")
        assert not app.frame.bits


@pytest.mark.parametrize(
    ("text", "meant"), [("a\\nb", "a\nb"), ("\\t", "\t"), ("\\\\n", "\\n"), ("C:\\x", "C:\\x"), ("\\", "\\")]
)
def test_a_backslash_spells_what_cannot_be_typed(text, meant):
    assert unescape(text) == meant


# --- With an engine --------------------------------------------------------------------------------------------


async def test_stop_on_a_condition_take_another_token_ban_one_and_go_on():
    app = InspectorApp(ModelSpec("toy"), WRITE, engine_command=[*FAKE, "--rate", "60"])
    async with app.run_test(size=(120, 36)) as pilot:
        log = app.frame.log
        await until(pilot, lambda: log.steps)
        await pilot.press("b", "a")
        await pilot.pause()
        await typed(pilot, "step % 40 == 0")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: log.state == "paused" and log.proposed)
        n = len(log.steps)
        assert n % 40 == 39 and log.stopped_by == 1 and log.breakpoints[0].hits >= 1
        await until(pilot, lambda: app.frame.held_up)
        taken = log.proposed.candidates[2].token_id
        await pilot.press("down", "down", "down", "enter")
        await until(pilot, lambda: len(log.steps) == n + 1 and log.proposed)
        assert log.run_number == 1 and log.steps[n].token_id == taken and log.steps[n].forced
        await pilot.press("left", "left", "d")
        await until(pilot, lambda: log.run_number == 2 and log.proposed)
        assert len(log.steps) == n - 1 and log.started.parent == 1
        assert log.proposed.stages[0].name == "banned" and log.proposed.token_id != log.runs[1].steps[n - 1].token_id
        await pilot.press("space")
        await until(pilot, lambda: log.state == "paused" and len(log.steps) == n and log.stopped_by == 1)
        app.link.ending = True
