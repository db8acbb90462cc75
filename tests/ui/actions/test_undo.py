"""The last change of a knob, a vector, a ban or a stop is undone, one action at a time."""

from types import SimpleNamespace

import pytest
from inspectors import WRITE, begun, ready, screen_text, settled
from msgspec.structs import replace
from stopped_texts import STEPS, proposal

from tui_entropy.records.commands import Branch, Continue, Go, Pause, SetKnobs, SetVector, Stop
from tui_entropy.records.events import Ended, Paused, Switched
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.ui.app.app import InspectorApp

TOLD = (SetKnobs, SetVector, Branch, Go, Stop, Continue, Pause)


def linked():
    """An inspector whose commands go out as they do to an engine; they are in `sent`."""
    app = InspectorApp(ModelSpec("toy"), WRITE, engine_command=None)
    app.sent = []
    app.engine = SimpleNamespace(send=app.sent.append, start=lambda *_: None, leave=lambda: None, close=lambda: None)
    app.requests.opening = None
    return app


async def at_a_step(app, pilot, *more):
    app.take([ready(), *begun(steps=STEPS), *more])
    await settled(app, pilot)
    app.sent.clear()


def told(app):
    found = [one for one in app.sent if isinstance(one, TOLD)]
    app.sent.clear()
    return found


async def test_a_knob_goes_back_and_only_that_knob():
    app = linked()
    async with app.run_test(size=(120, 36)) as pilot:
        await at_a_step(app, pilot)
        await pilot.press("T", "k", "T")
        turned = app.frame.knobs
        app.sent.clear()
        await pilot.press("ctrl+u")
        assert app.frame.knobs.temperature == 0.8 and app.frame.knobs.top_k == turned.top_k
        assert told(app) == [SetKnobs(app.frame.knobs)] and app.frame.notice == "undone: T 0.8→0.9"
        await pilot.press("ctrl+u", "ctrl+u")
        assert app.frame.knobs == Knobs()
        app.sent.clear()
        await pilot.press("ctrl+u")
        assert "nothing was changed" in app.frame.notice and not told(app)


async def test_all_vectors_that_one_key_switched_off_come_back_with_one_undo():
    app = linked()
    async with app.run_test(size=(120, 36)) as pilot:
        await at_a_step(app, pilot)
        await pilot.press("1", "2", "plus")
        before = app.frame.vectors
        assert sum(vector.on for vector in before) == 2
        await pilot.press("x")
        assert not any(vector.on for vector in app.frame.vectors)
        app.sent.clear()
        await pilot.press("ctrl+u")
        assert app.frame.vectors == before and len(told(app)) == 2
        assert "undone" in app.frame.notice and "off" in app.frame.notice
        await pilot.press("ctrl+u")
        assert app.frame.vectors[1].strength == before[1].strength - 0.25


async def test_a_part_that_was_scaled_is_left_as_it_was_again():
    app = linked()
    async with app.run_test(size=(120, 36)) as pilot:
        await at_a_step(app, pilot)
        app.sent.clear()
        await pilot.press("X", "enter")
        name = f"{app.frame.layer}.attention"
        added = app.frame.vectors[-1]
        assert (added.name, added.strength, added.on) == (name, 0.0, True) and told(app) == [SetVector(added)]
        await pilot.press("plus")
        assert app.frame.vectors[-1].strength == 0.25
        app.sent.clear()
        await pilot.press("ctrl+u")
        await pilot.press("ctrl+u")
        assert not app.frame.vectors[-1].on and told(app)[-1] == SetVector(replace(added, on=False))


async def test_a_stop_is_gone_on_with_and_rests_where_it_rested():
    for rested in (False, True):
        app = linked()
        async with app.run_test(size=(120, 36)) as pilot:
            await at_a_step(app, pilot, *([Paused(1, "by you"), proposal()] if rested else []))
            await pilot.press("s")
            app.take([Ended(1, "stopped")])
            await settled(app, pilot)
            app.sent.clear()
            await pilot.press("ctrl+u")
            assert told(app) == [Pause() if rested else Continue()]


async def test_a_ban_is_lifted_at_the_step_that_is_held_up_and_left_by_going_back_elsewhere():
    app = linked()
    async with app.run_test(size=(120, 36)) as pilot:
        await at_a_step(app, pilot, Paused(1, "by you"), proposal())
        await pilot.press("d")
        (ban,) = told(app)
        assert ban.ban and ban.step == STEPS
        await pilot.press("ctrl+u")
        assert told(app) == [Branch(1, STEPS, ban=(), pause=True)] and "is banned" not in app.frame.notice
        assert app.frame.notice.startswith("undone: ") and f"banned at step {STEPS + 1}" in app.frame.notice
        await pilot.press("left", "left", "d")
        app.sent.clear()
        await pilot.press("ctrl+u")
        assert told(app) == [Go(1)]


async def test_a_ban_from_there_on_is_lifted_in_the_run_that_one_comes_back_to():
    app = linked()
    async with app.run_test(size=(120, 36)) as pilot:
        await at_a_step(app, pilot, Paused(1, "by you"))
        await pilot.press("left", "left")
        await app.run_action("ban_on")
        assert [type(one) for one in told(app)] == [SetKnobs, Branch]
        await pilot.press("ctrl+u")
        assert told(app) == [Go(1)]
        app.take([Switched(1)])
        await settled(app, pilot)
        assert told(app) == [SetKnobs(Knobs())] and app.frame.knobs.banned == ()


async def test_after_another_engine_there_is_nothing_to_undo():
    app = linked()
    async with app.run_test(size=(120, 36)) as pilot:
        await at_a_step(app, pilot)
        await pilot.press("T")
        app.take([ready()])
        await settled(app, pilot)
        await pilot.press("ctrl+u")
        assert "nothing was changed" in app.frame.notice


@pytest.mark.parametrize("page", ["N", "L", "Q", "b", "w", "C"])
@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_on_a_page_a_key_that_changes_the_run_says_what_it_changed(page, size):
    app = linked()
    async with app.run_test(size=size) as pilot:
        await at_a_step(app, pilot)
        await pilot.press(page, "T")
        assert app.page is not None and app.frame.notice == "T 0.7→0.8"
        await settled(app, pilot)
        assert "T 0.7→0.8" in screen_text(app)
        await pilot.press("1")
        assert f"{app.frame.vectors[0].name} on" in app.frame.notice
