"""The app with an engine process of its own: it starts, obeys, is killed, cannot start."""

import os
import signal
import sys

import psutil
import pytest
from inspectors import WRITE, screen_text, settled, until, up, writing
from places import FAKE_ENGINE
from textual import events
from textual.geometry import Size
from textual.screen import Screen

from tui_entropy.records.model import ModelSpec
from tui_entropy.ui.app.app import InspectorApp


def live(*options):
    script = str(FAKE_ENGINE)
    return InspectorApp(
        ModelSpec("toy"), WRITE, engine_command=[sys.executable, script, "--layers", "6", "--heads", "4", *options]
    )


async def test_it_starts_writes_obeys_and_leaves_nothing_behind():
    app = live("--rate", "60")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: len(app.frame.log.steps) > 5)
        pid = app.engine.pid
        await pilot.press("T", "1")
        await until(pilot, lambda: app.frame.log.knobs.temperature == 0.8 and app.frame.log.vectors[0].on)
        assert [mark.label for mark in app.frame.log.marks] == ["T 0.7→0.8", "warm on +1"]
        await until(pilot, lambda: app.frame.log.attention is not None)
        await pilot.press("space")
        await until(pilot, lambda: app.frame.log.state == "paused")
        count = len(app.frame.log.steps)
        await pilot.press("n")
        await until(pilot, lambda: len(app.frame.log.steps) == count + 1 and app.frame.log.state == "paused")
        await pilot.press("q")
        await pilot.pause()
    assert not psutil.pid_exists(pid)


async def test_a_text_that_was_stopped_goes_on_with_space_and_an_undo_rests_where_it_was():
    app = live("--rate", "40")
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: len(app.frame.log.steps) > 5)
        await pilot.press("s")
        await until(pilot, lambda: app.frame.log.stopped)
        count = len(app.frame.log.steps)
        await pilot.press("space")
        await until(pilot, lambda: len(app.frame.log.steps) > count)
        assert app.frame.log.run_number == 1
        await pilot.press("space")
        await until(pilot, lambda: app.frame.log.state == "paused")
        count = len(app.frame.log.steps)
        await pilot.press("s")
        await until(pilot, lambda: app.frame.log.stopped)
        await pilot.press("ctrl+u")
        await until(pilot, lambda: app.frame.log.state == "paused")
        assert len(app.frame.log.steps) == count and app.frame.notice == "undone: the end of the text"


async def test_a_killed_engine_takes_neither_screen_nor_text_down_and_can_be_started_again():
    app = live("--rate", "100")
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: len(app.frame.log.steps) > 5)
        await pilot.press("1")
        first = app.engine.pid
        os.kill(first, signal.SIGKILL)
        await until(pilot, lambda: app.frame.log.state == "lost")
        written = len(app.frame.log.steps)
        await pilot.press("left", "T", "n")
        await settled(app, pilot)
        assert "killed" in screen_text(app) and "model" in screen_text(app)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.frame.log.state == "ready")
        assert app.engine.pid != first and len(app.frame.log.steps) == written
        await pilot.press("g")
        await until(pilot, lambda: app.frame.log.state == "writing" and len(app.frame.log.steps) > 3)
        assert app.frame.log.knobs.temperature == 0.8 and app.frame.log.vectors[0].on


@pytest.mark.parametrize(
    ("option", "said"), [("--fail", "no such model"), ("--die", "libmade_up"), ("--garbage", "link")]
)
async def test_an_engine_that_cannot_start_says_why(option, said):
    app = live(option)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.frame.log.state in ("failed", "lost"))
        await settled(app, pilot)
        assert said in screen_text(app) and "ctrl+r restart" in screen_text(app)


@pytest.mark.parametrize("opened", ["", "N", "question_mark"])
async def test_sizes_that_a_terminal_had_at_once_do_not_take_turns_for_ever(opened, monkeypatch):
    app, laid_out = up(), []
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        if opened:
            await pilot.press(opened)
            await settled(app, pilot)
        honest = Screen._screen_resized

        def resized(screen, size):
            laid_out.append(tuple(size))
            honest(screen, size)

        monkeypatch.setattr(Screen, "_screen_resized", resized)
        for size in ((160, 50), (160, 51), (120, 36)):
            app.screen.post_message(events.Resize(Size(*size), Size(*size)))
            app.screen.call_later(lambda: None)  # two that follow each other would be one
        await pilot.pause(0.3)
        assert len(laid_out) < 12 and laid_out[-1] == tuple(app.screen.size) == (120, 36)
        await pilot.resize_terminal(100, 30)
        await settled(app, pilot)
        assert tuple(app.screen.size) == (100, 30)
