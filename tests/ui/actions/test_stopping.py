"""At a stop: the step that is held up, another token in its place, what would be with other knobs, and how far on."""

import fake_engine
import pytest
from asking import is_step, step_answer, step_ask
from inspectors import LAYERS, begun, ready, screen_text, settled, up, writing
from msgspec.structs import replace as changed
from stopped_texts import STEPS, proposal, sent, stopped

from tui_entropy.records.commands import Advance, Branch, SetKnobs
from tui_entropy.records.events import (
    Continued,
    Ended,
    KnobsChanged,
    Paused,
    Proposed,
    Refused,
    Started,
)
from tui_entropy.records.sampling import Knobs

SIZES = ((80, 24), (120, 36), (200, 60))


def shown(app, name):
    pane = app.query_one(f"#{name}")
    return "\n".join(strip.text.rstrip() for strip in pane._rows)


# --- The step that is held up ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_at_a_stop_every_pane_shows_what_comes_next_and_says_that_it_is_not_written(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        await stopped(app, pilot)
        assert {view.frame.cursor for view in app.views} == {STEPS} and app.frame.held_up
        name = proposal().step.token_bytes.decode().strip()
        assert f"‹·{name}›" in shown(app, "stream") and "next" in shown(app, "stream").splitlines()[0]
        assert f"step {STEPS + 1}" in shown(app, "candidates").splitlines()[0]
        assert f"enter write ·{name} at step {STEPS + 1}, then stop" in shown(app, "candidates")
        assert "".join(app.frame.log.steps.texts).count(name) == 0 or len(app.frame.log.steps) == STEPS


async def test_left_goes_back_to_what_is_written_and_right_or_end_comes_back():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("left")
        assert (app.frame.cursor, app.frame.held_up, app.frame.following) == (STEPS - 1, False, False)
        assert app.frame.step == app.frame.log.steps[-1]
        await pilot.press("right")
        assert (app.frame.cursor, app.frame.held_up, app.frame.following) == (STEPS, True, True)
        await pilot.press("home", "end")
        assert app.frame.cursor == STEPS and app.frame.step == proposal().step


async def test_what_is_held_up_turns_into_text_or_into_another_proposal():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        app.take([KnobsChanged(1, STEPS, Knobs(temperature=0.0)), proposal(token_bytes=b" else", text=" else")])
        await settled(app, pilot)
        assert "‹·else›" in shown(app, "stream")
        app.take([Continued(1), proposal().step, Paused(1, "after a step"), proposal(STEPS + 1)])
        await settled(app, pilot)
        assert len(app.frame.log.steps) == STEPS + 1 and app.frame.cursor == STEPS + 1
        app.take([Ended(1, "stopped")])
        await settled(app, pilot)
        assert "‹" not in shown(app, "stream") and app.frame.cursor == STEPS


async def test_nothing_is_held_up_once_the_engine_is_gone():
    app = up()
    async with app.run_test() as pilot:
        await stopped(app, pilot)
        app.lose("it was killed")
        await pilot.pause()
        assert app.frame.cursor == STEPS - 1 and "‹" not in shown(app, "stream")


async def test_at_a_stop_before_the_first_token_the_cursor_stands_on_it():
    app = up()
    async with app.run_test(size=(200, 60)) as pilot:
        app.take([ready(), begun(steps=0)[0], Paused(1, "by you"), proposal(0)])
        await settled(app, pilot)
        assert app.frame.cursor == 0 and app.frame.held_up
        for key in ("N", "L", "W", "Q", "C", "w", "b"):
            await pilot.press(key)
            await settled(app, pilot)
            assert "step 1" in screen_text(app) or key in "Cb"


async def test_a_click_on_it_asks_for_it():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("home")
        rows = shown(app, "stream").splitlines()
        y = next(y for y, row in enumerate(rows) if "‹" in row)
        await pilot.click("#stream", offset=(rows[y].index("‹") + 1, y))
        assert app.frame.held_up


async def test_where_it_does_not_fit_behind_the_text_it_stands_below():
    app = up()
    async with app.run_test(size=(40, 30)) as pilot:
        await stopped(app, pilot, proposal(token_bytes=b" x" * 19))
        assert shown(app, "stream").strip().splitlines()[-1].strip().startswith("‹·x x x")


# --- Another token ---------------------------------------------------------------------------------------------


async def test_a_candidate_is_chosen_with_the_arrows_and_taken_with_enter():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("down", "down", "down", "up")
        third = app.frame.step.candidates[1]
        assert app.frame.token == 2 and app.frame.candidate == third
        await settled(app, pilot)
        assert f"enter write {third.token_bytes.decode().replace(' ', '·')} at step" in shown(app, "candidates")
        await pilot.press("enter")
        assert sent(app) == [Branch(1, STEPS, (third.token_id,), pause=True)] and app.frame.token == 0


async def test_enter_with_nothing_chosen_writes_what_is_held_up():
    app = up()
    async with app.run_test() as pilot:
        await stopped(app, pilot)
        await pilot.press("enter")
        assert sent(app) == [Advance(1)]


async def test_enter_on_an_earlier_step_goes_back_there_unchanged():
    app = up()
    async with app.run_test() as pilot:
        await stopped(app, pilot)
        await pilot.press("home", "right", "right", "enter")
        assert sent(app) == [Branch(1, 2, pause=True)]


async def test_taking_a_candidate_of_an_ended_text_writes_on():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot, steps=STEPS)
        app.take([Ended(1, "end of text")])
        await settled(app, pilot)
        await pilot.press("enter")
        assert sent(app) == [] and "nothing is chosen" in app.frame.notice
        await pilot.press("left", "down", "down", "enter")
        step = app.frame.log.steps[STEPS - 2]
        assert sent(app) == [Branch(1, STEPS - 2, (step.candidates[1].token_id,))]


async def test_choosing_while_it_writes_holds_the_cursor_where_it_is():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot, steps=STEPS)
        await pilot.press("down")
        app.take([fake_engine.step(STEPS, layers=LAYERS, heads=4)])
        await settled(app, pilot)
        assert (app.frame.cursor, app.frame.token, app.frame.following) == (STEPS - 1, 1, False)
        await pilot.press("enter")
        first = app.frame.log.steps[STEPS - 1].candidates[0]
        assert sent(app) == [Branch(1, STEPS - 1, (first.token_id,))]


async def test_a_choice_is_of_one_step_only():
    app = up()
    async with app.run_test() as pilot:
        await stopped(app, pilot)
        await pilot.press("down", "down", "left")
        assert app.frame.token == 0


async def test_one_that_is_far_down_comes_into_view():
    app = up()
    async with app.run_test() as pilot:
        await stopped(app, pilot)
        await pilot.press(*["down"] * 20)
        await settled(app, pilot)
        last = app.frame.step.candidates[-1].token_bytes.decode().replace(" ", "·")
        assert f" 20 {last}" in shown(app, "candidates") and app.frame.token == 20


async def test_a_click_chooses_and_a_second_one_takes():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.click("#candidates", offset=(8, 3))
        await pilot.pause()
        assert app.frame.token == 3 and sent(app) == []
        await pilot.click("#candidates", offset=(8, 3))
        await pilot.pause()
        assert sent(app) == [Branch(1, STEPS, (app.frame.step.candidates[2].token_id,), pause=True)]


async def test_a_token_is_banned_here_and_what_was_banned_here_stays_so():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        step = proposal().step
        await pilot.press("d")
        assert sent(app) == [Branch(1, STEPS, ban=(step.token_id,), pause=True)]
        app.sent.clear()
        gone = fake_engine.shaped(step, Knobs(), (step.token_id,))
        app.take([Proposed(gone)])
        await settled(app, pilot)
        assert "banned" in shown(app, "candidates")
        await pilot.press("down", "down", "d")
        assert sent(app) == [Branch(1, STEPS, ban=(step.token_id, step.candidates[1].token_id), pause=True)]


async def test_a_token_is_banned_from_here_on_and_allowed_again():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        token = app.frame.step.candidates[1].token_id
        await pilot.press("down", "down", "D")
        assert sent(app) == [SetKnobs(Knobs(banned=(token,)))]
        await settled(app, pilot)
        assert "banned off→1" in screen_text(app)
        await pilot.press("D")
        assert sent(app)[1:] == [SetKnobs(Knobs())]
        app.sent.clear()
        await pilot.press("home", "down", "D")
        first = app.frame.log.steps[0].candidates[0].token_id
        assert sent(app)[:2] == [SetKnobs(Knobs(banned=(first,))), Branch(1, 0, pause=True)]


async def test_all_bans_go_with_one_key_in_the_knob_strip():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("D")
        app.show(knob="banned")
        await pilot.press("f", "backspace")
        assert sent(app)[-1] == SetKnobs(Knobs())


async def test_a_text_is_forced_from_the_cursor_on():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("left", "quotation_mark")
        await pilot.pause()
        assert app.place == "ask"
        await pilot.press("enter")
        assert sent(app) == [] and app.place == "ask"
        await pilot.press("space", "L", "y", "o", "n", "backslash", "n")
        assert "writes ·Lyon⏎" in screen_text(app)
        await pilot.press("enter")
        assert sent(app) == [Branch(1, STEPS - 1, text=" Lyon\n", pause=True)] and app.place == ""


async def test_what_was_forced_is_marked():
    app = up()
    async with app.run_test(size=(200, 60)) as pilot:
        await stopped(app, pilot)
        forced = fake_engine.shaped(proposal().step, Knobs(), (), 1005)
        app.take([Continued(1), forced, Paused(1, "as asked"), proposal(STEPS + 1)])
        await settled(app, pilot)
        assert "forced ┴" in shown(app, "chart") and "┴ " in shown(app, "stream")
        await pilot.press("left")
        await settled(app, pilot)
        assert "forced 1 (" in shown(app, "candidates")
        await pilot.press("W")
        await settled(app, pilot)
        assert "4 forced" in screen_text(app) and "forced: position" in screen_text(app)


async def test_a_branch_is_shown_from_where_it_begins():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("home")
        start = changed(fake_engine.started(app.requests.opening or app.requests.wrote, 2), parent=1, shared=3)
        assert isinstance(start, Started)
        app.take([start, Paused(2, "as you asked"), proposal(3, 2)])
        await settled(app, pilot)
        assert (app.frame.log.run_number, len(app.frame.log.steps), app.frame.cursor) == (2, 3, 3)
        assert app.frame.following and app.frame.held_up


# --- How far ---------------------------------------------------------------------------------------------------


async def test_it_writes_to_the_end_of_a_sentence_a_line_or_so_many_tokens():
    app = up()
    async with app.run_test() as pilot:
        await stopped(app, pilot)
        await pilot.press("n", "full_stop", "dollar_sign", "J")
        await pilot.pause()
        await pilot.press("2", "x", "enter")
        assert "x is no digit" in screen_text(app)
        await pilot.press("backspace", "5", "enter")
        assert sent(app) == [Advance(1), Advance(until="sentence"), Advance(until="line"), Advance(25)]


async def test_it_jumps_to_a_step_by_number():
    app = up()
    async with app.run_test() as pilot:
        await stopped(app, pilot)
        await pilot.press("j")
        await pilot.pause()
        await pilot.press("9", "9", "enter")
        assert "a number from 1 to 13" in screen_text(app)
        await pilot.press("ctrl+u", "4", "enter")
        assert app.frame.cursor == 3 and not app.frame.following


# --- What would be ---------------------------------------------------------------------------------------------


async def test_turning_a_knob_on_an_earlier_step_shows_it_as_it_would_be():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("left", "left")
        await settled(app, pilot)
        assert not [command for command in sent(app) if is_step(command)]
        await pilot.press("T")
        await settled(app, pilot)
        asked = step_ask(1, app.frame.step.position, Knobs(temperature=0.8))
        assert [command for command in sent(app) if is_step(command)] == [asked]
        supposed = fake_engine.shaped(app.frame.step, Knobs(temperature=0.8))
        app.take([step_answer(supposed)])
        await settled(app, pilot)
        assert "as it would be with the knobs set now" in shown(app, "candidates")
        assert app.frame.seen == supposed != app.frame.step
        await pilot.press("t")
        await settled(app, pilot)
        assert app.frame.seen == app.frame.step and "as it would be" not in screen_text(app)


async def test_one_question_at_a_time_and_the_newest_one_last():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("left", "T")
        await settled(app, pilot)
        await pilot.press("T", "T", "left")
        await settled(app, pilot)
        asked = [command for command in sent(app) if is_step(command)]
        assert asked == [step_ask(1, app.frame.log.steps[STEPS - 1].position, Knobs(temperature=0.8))]
        app.take([step_answer(app.frame.log.steps[STEPS - 1])])
        await settled(app, pilot)
        asked = [command for command in sent(app) if is_step(command)]
        newest = step_ask(1, app.frame.log.steps[STEPS - 2].position, Knobs(temperature=1.0))
        assert asked[1:] == [newest] and app.frame.what_if is None


async def test_a_question_that_is_refused_is_not_asked_again():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await stopped(app, pilot)
        await pilot.press("left", "T")
        await settled(app, pilot)
        for _ in range(3):
            app.take([Refused("this model cannot go back")])
            await settled(app, pilot)
        assert len([command for command in sent(app) if is_step(command)]) == 1
