"""The inspector as a person meets it: events come in, keys are pressed, the screen and the engine's orders follow."""

import fake_engine
import fake_probes
import pytest
from asking import is_rows
from inspectors import LAYERS, STEPS, WRITE, begun, ready, screen_text, settled, until, up, writing
from msgspec.structs import replace as changed

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
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Watch


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
        app.take([fake_probes.rows(asked[0])])
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
