"""A notice goes when what it says is not so any more, and when something with keys of its own opens over it."""

import made_lanes
import pytest
from inspectors import begun, ready, screen_text, settled, up, writing
from msgspec.structs import replace

from tui_entropy.records.events import Standing
from tui_entropy.records.model import ModelSpec

ALONE = Standing("e1", 1, 0.0, ModelSpec("toy"), "writing", 30, "", 0.0, in_control=False, screens=2)


@pytest.fixture
async def screen():
    """An app that writes, and its pilot."""
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        yield app, pilot


async def test_that_there_is_no_continuation_goes_when_they_come(screen):
    app, pilot = screen
    await pilot.press("H", "enter")
    assert "no continuation yet" in app.frame.notice
    app.take([made_lanes.fan(run=1)])
    await settled(app, pilot)
    assert app.frame.notice == ""


async def test_that_nothing_is_written_goes_with_the_first_token():
    app = up()
    async with app.run_test() as pilot:
        app.take([ready(), *begun(steps=0)])
        await settled(app, pilot)
        await pilot.press("y")
        assert "nothing is written yet" in app.frame.notice
        app.take(begun(steps=1)[1:])
        await settled(app, pilot)
        assert app.frame.notice == ""


@pytest.mark.parametrize("opened", ["i", "e", "j", "f", "N", "vertical_line"])
async def test_what_was_done_goes_when_something_with_keys_of_its_own_opens(screen, opened):
    app, pilot = screen
    await pilot.press("y", "t")
    await settled(app, pilot)
    assert "clipboard" in app.frame.notice
    await pilot.press(opened)
    await settled(app, pilot)
    assert app.frame.place and app.frame.notice == ""


async def test_what_was_done_from_a_box_stays_when_the_box_has_closed(screen):
    app, pilot = screen
    await pilot.press("e", *"more", "enter")
    await settled(app, pilot)
    assert app.frame.place == "" and "tokens are kept" in app.frame.notice


async def test_who_is_in_control_is_not_said_of_an_engine_that_is_gone(screen):
    app, pilot = screen
    app.take([replace(ALONE, in_control=True)])
    await settled(app, pilot)
    app.take([ALONE])
    await settled(app, pilot)
    assert "took control" in app.frame.notice
    app.lose("the engine was ended from another screen")
    await settled(app, pilot)
    assert app.frame.notice == ""


async def test_on_a_small_screen_a_notice_takes_a_row_and_gives_it_back():
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        await writing(app, pilot)
        app.notices.say("")
        await settled(app, pilot)
        hints = app.query_one("#hints")
        assert hints.size.height == 1
        footer = screen_text(app).splitlines()[-1]
        app.say("a sentence of some length, which says what came of a key that somebody pressed", seconds=60)
        await settled(app, pilot)
        rows = screen_text(app).splitlines()
        assert hints.size.height == 2
        assert rows[-2].startswith("a sentence of some length") and rows[-1] == footer


async def test_a_notice_names_the_key_that_a_person_chose():
    app = up(write=None, keymap={"prompt": "f7"})
    async with app.run_test(size=(120, 36)) as pilot:
        app.take([ready()])
        await settled(app, pilot)
        await pilot.press("g")
        assert app.frame.notice == "nothing is being written: f7 asks for a prompt"
        app.say("what is written in {braces} stays")
        assert app.frame.notice == "what is written in {braces} stays"
