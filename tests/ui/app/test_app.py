"""The inspector as a person meets it: events come in, keys are pressed, the screen and the engine's orders follow."""

import os
import random
import signal
import sys

import fake_engine
import psutil
import pytest
from asking import is_rows
from inspectors import LAYERS, STEPS, WRITE, begun, ready, screen_text, settled, until, up, writing
from msgspec.structs import replace as changed
from places import FAKE_ENGINE
from textual import events
from textual.geometry import Size
from textual.screen import Screen

from tui_entropy.records.commands import Advance, Continue, Pause, SetKnobs, SetVector, Stop, Write
from tui_entropy.records.events import (
    BreakpointsChanged,
    Ended,
    Failed,
    KnobsChanged,
    Paused,
    Progress,
    Refused,
    WatchesChanged,
)
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Watch
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.dialogs.prompt_box import History, Prompt


async def test_the_welcome_of_a_first_start_goes_when_the_text_has_ended(own_folders):
    app = up(keymap={"help": "f9"})
    welcome = "space pauses · ← → look at one token · f9 every key · `tui-entropy tour`: a tour"
    async with app.run_test(size=(80, 24)) as pilot:
        app.take([ready(), *begun(1, 3)])
        await settled(app, pilot)
        assert app.frame.notice == welcome
        app.take([Ended(1, "end of text")])
        await settled(app, pilot)
        assert app.frame.notice == "" and welcome[:12] not in screen_text(app)


# --- Events in -------------------------------------------------------------------------------------------------


async def test_an_engine_is_told_of_the_sample_prompt_with_its_model_and_not_again():
    app = up()
    async with app.run_test() as pilot:
        assert app.orders.write == WRITE
        app.take([ready()])
        await settled(app, pilot)
        assert app.sent == [] and app.requests.wrote == WRITE and app.orders.write is None


async def test_a_prompt_that_is_typed_while_the_model_loads_is_told_at_once_and_takes_the_place_of_the_first():
    app = up()
    async with app.run_test() as pilot:
        app.take([Progress("loading weights")])
        await settled(app, pilot)
        app.knobs.set(changed(app.frame.knobs, temperature=1.5))
        app.write(changed(WRITE, prompt="Where is Rome?"))
        typed = changed(WRITE, prompt="Where is Rome?", knobs=app.frame.knobs)
        assert app.sent == [SetKnobs(app.frame.knobs), typed] and app.orders.write == typed
        app.take([ready()])
        await settled(app, pilot)
        assert app.sent[2:] == [] and app.requests.wrote == typed


async def test_whether_to_chat_is_left_to_the_engine_where_nobody_chose():
    app = up(Write("hello", None, None, 9, Knobs()))
    async with app.run_test() as pilot:
        assert app.orders.write.chat is None
        app.take([ready()])
        await settled(app, pilot)
        await pilot.press("g")
        assert app.sent[0].chat is None


async def test_breakpoints_and_watches_are_set_before_it_writes_and_again_as_they_are_in_a_new_engine():
    first, second = (Breakpoint(1, "rank > 3"),), (Breakpoint(1, "rank > 3", hits=2), Breakpoint(2, "step == 4"))
    app = up(breakpoints=first, watches=(" Yes",))
    async with app.run_test() as pilot:
        assert (app.orders.watches, app.orders.breakpoints) == ((" Yes",), first)
        app.take([ready(), WatchesChanged(0, 0, (Watch(" No", 9, b" No", 1),)), BreakpointsChanged(second)])
        await settled(app, pilot)
        assert (app.orders.watches, app.orders.breakpoints) == ((" No",), second)


async def test_every_pane_shows_the_newest_step_while_following():
    app = up()
    async with app.run_test(size=(120, 40)) as pilot:
        await writing(app, pilot)
        await until(pilot, lambda: {view.frame.cursor for view in app.views} == {STEPS - 1})
        assert f"step {STEPS}" in screen_text(app)


async def test_a_burst_of_events_is_shown_in_a_few_repaints(monkeypatch):
    app = up()
    shown = []
    async with app.run_test() as pilot:
        monkeypatch.setattr(app.views[0], "show", shown.append)
        for event in [ready(), *begun(steps=200)]:
            app.take([event])
        await settled(app, pilot)
    assert len(app.frame.log.steps) == 200
    assert 1 <= len(shown) <= 10


async def test_nothing_is_armed_and_nothing_drawn_when_nothing_comes(monkeypatch):
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        app.take([Paused(1, "by you")])
        await pilot.pause(0.6)
        assert app.repaints.idle
        monkeypatch.setattr(app, "show", lambda **_: pytest.fail("drawn without news"))
        await pilot.pause(0.5)


async def test_a_refusal_is_one_line_and_everything_goes_on():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        app.take([Refused("there is no [/such] vector")])
        await settled(app, pilot)
        assert "there is no [/such] vector" in screen_text(app)
        assert app.frame.log.state == "writing"


async def test_a_failure_says_why_and_which_key_helps():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        app.take([Failed("there is no such model", fatal=True)])
        await settled(app, pilot)
        assert "there is no such model" in screen_text(app) and "ctrl+r restart" in screen_text(app)


# --- Cursor ----------------------------------------------------------------------------------------------------


async def test_looking_back_stays_where_it_is_while_the_text_grows_and_end_follows_again():
    app = up()
    async with app.run_test(size=(120, 40)) as pilot:
        await writing(app, pilot)
        await pilot.press("left", "left", "shift+left")
        assert app.frame.cursor == STEPS - 13
        app.take(begun(steps=STEPS + 5)[-5:])
        await settled(app, pilot)
        assert {view.frame.cursor for view in app.views} == {STEPS - 13}
        await pilot.press("end")
        assert app.frame.cursor == STEPS + 4 and app.frame.following


async def test_the_cursor_stops_at_both_ends():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("home", "left")
        assert app.frame.cursor == 0
        await pilot.press(*["shift+right"] * 5)
        assert app.frame.cursor == STEPS - 1 and app.frame.following


async def test_a_new_text_is_followed_from_its_start():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("home")
        app.take(begun(run=2, steps=3))
        await settled(app, pilot)
        assert app.frame.cursor == 2 and app.frame.following


# --- Orders out ------------------------------------------------------------------------------------------------


async def test_space_pauses_and_goes_on():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("space")
        app.take([Paused(1, "by you")])
        await settled(app, pilot)
        await pilot.press("space", "n", "s")
        orders = [order for order in app.sent if not is_rows(order)]
        assert orders == [Pause(), Continue(), Advance(1), Stop()]


async def test_keys_that_cannot_act_say_why():
    app = up()
    async with app.run_test() as pilot:
        await pilot.press("space")
        assert "still starting" in screen_text(app)
        await writing(app, pilot)
        app.take([Ended(1, "token limit")])
        await settled(app, pilot)
        await pilot.press("n")
        assert "has ended" in screen_text(app) and not [c for c in app.sent if isinstance(c, Advance)]


async def test_a_turned_knob_is_asked_for_at_once_and_pending_until_the_engine_applies_it():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await pilot.press("T")
        asked = Knobs(temperature=0.8)
        assert SetKnobs(asked) in app.sent
        assert "0.70→0.80" in screen_text(app)
        app.take([KnobsChanged(1, STEPS, asked)])
        await settled(app, pilot)
        assert "0.70→0.80" not in screen_text(app) and "T 0.80" in screen_text(app)


async def test_a_knob_turned_while_the_model_loads_goes_with_the_prompt():
    app = up()
    async with app.run_test() as pilot:
        await pilot.press("T", "K")
        assert app.sent[-1] == SetKnobs(app.orders.write.knobs)
        app.take([ready()])
        await settled(app, pilot)
        assert app.requests.wrote.knobs == Knobs(temperature=0.8, top_k=50)


async def test_any_knob_can_be_typed_in_the_strip():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("f", "right", "1", "2", "enter")
        assert app.sent[-1] == SetKnobs(Knobs(top_k=12))
        await pilot.press("backspace")
        assert app.sent[-1] == SetKnobs(Knobs(top_k=0))
        await pilot.press("right", "7", "enter")
        assert "top_p is 7.0 but must be" in screen_text(app)
        assert app.frame.knobs == Knobs(top_k=0)
        await pilot.press("escape", "1")
        assert isinstance(app.sent[-1], SetVector)


async def test_vectors_are_toggled_scaled_and_all_switched_off():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        warm, formal = fake_engine.vectors(LAYERS)
        await pilot.press("2", "plus", "1", "minus")
        orders = [order.vector for order in app.sent if isinstance(order, SetVector)]
        assert [(v.name, v.on, v.strength) for v in orders] == [
            (formal.name, True, 0.8),
            (formal.name, True, 1.05),
            (warm.name, True, 1.0),
            (warm.name, True, 0.75),
        ]
        await pilot.press("x", "9")
        assert not any(vector.on for vector in app.frame.vectors)
        assert "there is no vector 9" in screen_text(app)


async def test_again_takes_the_next_seed_and_the_same_prompt():
    app = up()
    async with app.run_test() as pilot:
        app.take([ready()])
        await settled(app, pilot)
        await pilot.press("T", "g", "G")
        second, third = [order for order in app.sent if isinstance(order, Write)]
        assert (second.prompt, second.knobs) == (WRITE.prompt, Knobs(temperature=0.8, seed=8))
        assert third.knobs == second.knobs


async def test_attention_is_asked_for_what_is_on_screen_and_one_question_at_a_time():
    app = up()
    async with app.run_test(size=(120, 40)) as pilot:
        app.take([ready(), *begun()])
        await settled(app, pilot)
        asked = [order for order in app.sent if is_rows(order)]
        assert (
            len(asked) == 1 and asked[0].position == app.frame.step.position and asked[0].options["layer"] == LAYERS
        )
        await pilot.press("left_square_bracket", "right_curly_bracket")
        await settled(app, pilot)
        assert [order for order in app.sent if is_rows(order)] == asked
        app.take([fake_engine.rows(asked[0])])
        await settled(app, pilot)
        newest = [order for order in app.sent if is_rows(order)][-1]
        assert (newest.options["layer"], newest.options["head"]) == (LAYERS - 1, 1)


async def test_attention_that_is_not_on_screen_is_not_asked_for():
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        app.take([ready(), *begun()])
        await settled(app, pilot)
        assert not [order for order in app.sent if is_rows(order)]
        await pilot.press("a")
        await settled(app, pilot)
        assert [order for order in app.sent if is_rows(order)]


async def test_copying_sends_what_was_written_and_says_so(monkeypatch):
    app = up()
    copied = []
    monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
    async with app.run_test() as pilot:
        await writing(app, pilot, steps=2)
        await pilot.press("y", "t")
        assert copied == ["".join(step.text for step in app.frame.log.steps)]
        assert f"{len(copied[0])} characters" in screen_text(app)


# --- Panes -----------------------------------------------------------------------------------------------------

PANES = {
    (50, 12): {"stream"},
    (80, 24): {"stream", "chart", "candidates", "knobs"},
    (120, 36): {"stream", "chart", "candidates", "knobs", "heads", "attention"},
    (200, 60): {"stream", "chart", "candidates", "knobs", "heads", "attention", "quadrants"},
}


def panes(app):
    """What can be seen, with the rows each has."""
    seen = app.screen._compositor.visible_widgets
    return {view.id: view.size.height for view in app.views if view in seen and view.size}


@pytest.mark.parametrize("size", PANES, ids=str)
async def test_each_size_has_its_panes(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        await writing(app, pilot)
        assert set(panes(app)) == PANES[size] | {"status", "hints"}


async def test_small_screens_switch_a_pane_and_back():
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        await writing(app, pilot)
        await pilot.press("h")
        await pilot.pause()
        assert panes(app)["heads"] >= 10 and "chart" not in panes(app)
        await pilot.press("h")
        await pilot.pause()
        assert "heads" not in panes(app) and app.focused.id == "stream"


@pytest.mark.parametrize("size", [(50, 12), (80, 24), (120, 36), (200, 60)], ids=str)
async def test_any_pane_can_have_the_whole_screen(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        await writing(app, pilot)
        await pilot.press("a")
        await pilot.pause()
        await pilot.press("z")
        await pilot.pause()
        assert set(panes(app)) - {"knobs"} == {"status", "attention", "hints"}
        assert panes(app)["attention"] >= size[1] - 5
        await pilot.press("escape")
        await pilot.pause()
        assert set(panes(app)) == PANES[size] | {"status", "hints"}


async def test_resizing_at_any_moment_is_safe():
    app = up()
    luck = random.Random(4)
    events = [ready(), *begun(steps=118)]
    keys = ["h", "a", "z", "left", "end", "f", "escape", "tab", "T", "i", "escape"]
    async with app.run_test(size=(80, 24)) as pilot:
        for _ in range(30):
            app.take(events[:4])
            del events[:4]
            await pilot.resize_terminal(luck.randint(1, 200), luck.randint(1, 60))
            await pilot.press(luck.choice(keys))
        await pilot.resize_terminal(120, 36)
        await pilot.press("escape", "escape", "end")
        await settled(app, pilot)
        assert len(app.frame.log.steps) == 118
        assert set(panes(app)) >= {"stream", "status", "chart", "candidates"}


@pytest.mark.parametrize(("key", "found"), [("question_mark", "What the numbers mean"), ("C", "over time")])
async def test_help_and_the_big_chart_open_and_close(key, found):
    app = up()
    async with app.run_test(size=(100, 260)) as pilot:
        await writing(app, pilot)
        await pilot.press(key)
        await pilot.pause()
        assert found in screen_text(app)
        app.take(begun(steps=STEPS + 1)[-1:])
        await pilot.press("escape")
        await settled(app, pilot)
        assert len(app.screen_stack) == 1 and app.views[0].frame.cursor == STEPS


async def test_the_big_chart_has_each_series_once_and_in_its_unit():
    app = up()
    async with app.run_test(size=(100, 40)) as pilot:
        await writing(app, pilot)
        await pilot.press("u", "C")
        await pilot.pause()
        titles = [line for line in screen_text(app).splitlines() if "entropy (model)" in line]
        assert [line.split()[0] for line in titles] == ["entropy", "varentropy"]
        assert "nats ·" in titles[0] and "nats² ·" in titles[1]


async def test_a_theme_changes_what_is_drawn_and_stays_readable():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        before = app.export_screenshot()
        app.choose_theme("light")
        await settled(app, pilot)
        assert app.export_screenshot() != before and app.frame.paint.theme.name == "light"


# --- The prompt box --------------------------------------------------------------------------------------------


async def test_a_prompt_of_several_lines_with_markup_is_sent_as_typed():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i", "left_square_bracket", "slash", "ctrl+j", "q", "T", "enter")
        sent = app.sent[-1]
        assert (sent.prompt, sent.chat, sent.system) == ("[/\nqT", True, None)
        assert app.focused.id == "stream" and app.frame.knobs == Knobs()


async def test_raw_mode_and_a_system_prompt():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i", "tab", "o", "k", "tab", "h", "i", "enter")
        assert (app.sent[-1].prompt, app.sent[-1].system, app.sent[-1].chat) == ("hi", "ok", True)
        await pilot.press("i", "ctrl+t", "y", "o", "enter")
        assert (app.sent[-1].prompt, app.sent[-1].system, app.sent[-1].chat) == ("yo", None, False)
        assert not app.sent[-1].read
        await pilot.press("i", "ctrl+t")
        assert "a text to be read" in screen_text(app)
        await pilot.press("y", "o", "enter")
        assert (app.sent[-1].prompt, app.sent[-1].chat, app.sent[-1].read) == ("yo", False, True)
        await pilot.press("i", "ctrl+t", "h", "enter")
        assert (app.sent[-1].system, app.sent[-1].chat, app.sent[-1].read) == ("ok", True, False)


async def test_history_is_kept_for_the_next_start(tmp_path):
    for words in ("one", "two"):
        app = up()
        async with app.run_test() as pilot:
            await writing(app, pilot)
            await pilot.press("i", *words, "enter")
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i", "x", "up", "up", "up", "down", "enter")
        assert app.sent[-1].prompt == "two"
        await pilot.press("i", "x", "up", "down", "enter")
        assert app.sent[-1].prompt == "x"


async def test_escape_closes_and_keeps_what_was_typed():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i", "a", "b", "escape")
        assert not app.prompts.box.display and app.focused.id == "stream"
        await pilot.press("i", "c", "enter")
        assert app.sent[-1].prompt == "abc"


async def test_pasting_several_lines_does_not_send():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i")
        from textual import events

        app.post_message(events.Paste("first\nsecond"))
        await pilot.pause()
        assert app.prompts.box.text.text == "first\nsecond" and app.sent == []


def test_a_broken_history_is_passed_over_and_not_lost(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b'not json\n{"prompt":"a","system":null,"chat":true}\n\xff\n')
    history = History(file)
    assert history.prompts == [Prompt("a", None, True)]
    history.add(Prompt("b\nc", "s", False))
    assert History(file).prompts[-1] == Prompt("b\nc", "s", False)


# --- With an engine process ------------------------------------------------------------------------------------


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
