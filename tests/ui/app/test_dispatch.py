"""An action may come at any moment: with the one that quits, while a page opens, after the text changed."""

import asyncio

import pytest
from inspectors import WRITE, begun, ready, settled, up, writing
from msgspec.structs import replace
from rich.style import Style
from scripted import started, step
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from tui_entropy.records.settings import Vector
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.dialogs.ask_line import Ask
from tui_entropy.ui.dialogs.help import HelpScreen
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.keymap import KEYS, PAGES
from tui_entropy.ui.pages.page import Page
from tui_entropy.ui.protocol.dispatch import Palette
from tui_entropy.ui.views.frame import Frame

OPENING = (
    "open(",
    "prompt",
    "edit",
    "help",
    "command_palette",
    "force",
    "jump",
    "write_some",
    "pane(",
    "fan",
    "zoom",
)
"""What actions begin with that put something on the screen, or move the focus."""
OPENERS = [key.keys.split(",")[0] for key in KEYS if not key.where and key.action.startswith(OPENING)]


class Engine:
    """Counts how it is left."""

    def __init__(self) -> None:
        self.left: list[str] = []

    def close(self) -> None:
        self.left.append("closed")

    def leave(self) -> None:
        self.left.append("left to itself")


def at_once(app: InspectorApp, *keys: str) -> None:
    """As from one read of the terminal: all are there before the first is looked at."""
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else None))


def text_in_focus(app: InspectorApp) -> str:
    """What stands in the box that has the focus."""
    focused = app.focused
    if isinstance(focused, Ask):
        return focused.text
    if isinstance(focused, Input):
        return focused.value
    if isinstance(focused, TextArea):
        return focused.text[: focused.document.get_index_from_location(focused.cursor_location)]
    assert app.place == "knobs"
    return app.frame.typed


async def gone(app: InspectorApp, pilot: Pilot) -> None:
    async with asyncio.timeout(20):
        while app._running:
            await asyncio.sleep(0.01)


WAYS = ("quit first", "on a page", "quit by ctrl+q first", "quit after")
LEAVING = [
    pytest.param(way, other, marks=[] if way == "quit first" or n % len(WAYS) == at else pytest.mark.slow)
    for n, other in enumerate(OPENERS)
    for at, way in enumerate(WAYS)
]
"""Every opener behind q, and every fourth in each of the other ways; all of them are slow."""


@pytest.mark.parametrize(("way", "other"), LEAVING)
async def test_keys_that_come_with_the_one_that_quits_open_nothing_and_the_engine_ends(other, way):
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        app.engine = engine = Engine()
        keys = {
            "quit first": ["q", other],
            "quit by ctrl+q first": ["ctrl+q", other, other],
            "quit after": [other, "ctrl+q", "a"],
            "on a page": ["B", "ctrl+q", other],
        }
        at_once(app, *keys[way])
        await gone(app, pilot)
    assert (app.return_code, app._exception, engine.left) == (0, None, ["closed"])


async def test_once_leaving_has_begun_nothing_is_taken_in_shown_or_put_off():
    app, done = up(), []
    async with app.run_test() as pilot:
        await writing(app, pilot)
        app.exit()
        frame, sent = app.frame, list(app.sent)
        app.take([ready()])
        app.lose("the engine was killed")
        app.show(notice="too late")
        app.call_later(done.append, "later")
        app.call_after_refresh(done.append, "after the next frame")
        assert await app.run_action("open('numbers')")
        await gone(app, pilot)
    assert app.frame is frame and app.sent == sent and not done and app.page is None


async def test_a_key_finds_there_what_the_one_before_it_opened():
    """A page that is not mounted yet has no rows, and no keys of its own."""
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        for page in PAGES:
            if page != "diff":
                await app.run_action(f"open('{page}')")
                assert app.screen.is_mounted and all(view.is_mounted for view in app.page.views), page


async def test_help_that_is_closed_twice_at_once_leaves_the_page_under_it():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("N", "question_mark")
        assert isinstance(app.screen, HelpScreen)
        over = app.screen
        over.dismiss()
        over.dismiss()
        await pilot.pause()
        assert app.screen is app.page
        await pilot.press("u")
        assert not app.frame.bits and app._exception is None


async def test_what_is_typed_into_a_box_is_there_when_enter_comes_with_it_in_one_read():
    app = up()
    async with app.run_test(size=(100, 30)) as pilot:
        await writing(app, pilot)
        await pilot.press("j")
        await settled(app, pilot)
        at_once(app, *"12", "enter")
        await settled(app, pilot)
        assert app.frame.cursor == 11
        for typed in ("Why?", "And then?"):
            await pilot.press("i")
            await settled(app, pilot)
            at_once(app, *typed, "enter")
            await settled(app, pilot)
            assert app.requests.wrote.prompt == typed
        await pilot.press("i")
        await settled(app, pilot)
        at_once(app, *"one", "ctrl+j", *"two", "enter")
        await settled(app, pilot)
        assert app.requests.wrote.prompt == "one\ntwo"


async def in_order(app: InspectorApp, pilot: Pilot) -> None:
    """All that was typed is done with."""
    async with asyncio.timeout(10):
        while not app.input.idle:
            await pilot.pause(0.02)
    await settled(app, pilot)


@pytest.mark.parametrize(
    "keys",
    [
        "j",
        "J",
        "quotation_mark",
        "i",
        "I",
        "e",
        "b a",
        "w a",
        "B r",
        "V pagedown e",
        "ctrl+p",
        "f",
        "N escape i",
        "z i",
        "j escape i",
    ],
)
async def test_keys_that_come_with_the_one_that_opens_a_box_go_into_it_and_none_acts_elsewhere(keys):
    typed = "7" if keys == "f" else "iTqB7"
    app = up()
    async with app.run_test(size=(100, 30)) as pilot:
        await writing(app, pilot)
        at_once(app, *keys.split(), *typed)
        await in_order(app, pilot)
        assert text_in_focus(app).endswith(typed) and app.frame.knobs == WRITE.knobs


async def test_a_mouse_that_is_pressed_on_what_is_on_its_way_out_does_nothing():
    app = up()
    async with app.run_test(size=(100, 30)) as pilot:
        await writing(app, pilot)
        await pilot.press("question_mark")
        text = app.screen.query("*").last()
        x, y = text.region.offset
        await text.remove()
        assert text.parent is None and app.screen.get_widget_at(x, y)[0] is text
        await app.input.add(events.MouseDown(text, x, y, 0, 0, 1, False, False, False, x, y))
        await in_order(app, pilot)


async def test_the_palette_chosen_or_closed_twice_at_once_is_closed_once():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("N", "ctrl+p")
        assert isinstance(app.screen, Palette)
        await pilot.press(*"newest token")
        await until_listed(pilot)
        at_once(app, *["enter"] * 5)
        await settled(app, pilot)
        await pilot.pause(0.2)
        assert app._exception is None and isinstance(app.screen, Page)
        await pilot.press("ctrl+p")
        over = app.screen
        over.dismiss()
        over.dismiss()
        await pilot.pause()
        assert app._exception is None and not isinstance(app.screen, Palette)


async def test_a_palette_whose_list_has_gone_already_is_searched_for_nothing():
    app = up(write=None)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+p")
        palette = app.screen
        await palette.query_one("CommandList").remove()
        palette._gather_commands("kno")
        await pilot.pause()
        assert app._exception is None and app.screen is palette


async def test_a_click_on_a_row_of_the_palette_that_has_gone_chooses_nothing():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("ctrl+p", *"newest token")
        await until_listed(pilot)
        shown = app.screen.query_one("CommandList")
        for gone in (shown.option_count, 500):
            where = Style(meta={"option": gone})
            x, y = shown.region.offset
            shown.post_message(events.Click(shown, 1, 0, 0, 0, 1, False, False, False, x + 1, y, where))
        await pilot.pause()
        assert app._exception is None and isinstance(app.screen, Palette)
        assert shown.highlighted in range(shown.option_count)


async def until_listed(pilot: Pilot) -> None:
    async with asyncio.timeout(10):
        while pilot.app.screen.query_one("CommandList").option_count not in range(1, 9):
            await pilot.pause(0.02)


async def test_a_page_that_lies_under_something_else_is_closed_with_it():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("N", "question_mark")
        app.actions["close_page"]()
        await pilot.pause()
        assert len(app.screen_stack) == 1 and app.page is None


@pytest.mark.parametrize("way_out", ["question_mark", "ctrl+p", "i", "J", "N", "f"])
async def test_one_key_leaves_wherever_one_is(way_out):
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press(way_out, "ctrl+q")
        await gone(app, pilot)
    assert app.leaving and app._exception is None


# --- A frame and the log under it ------------------------------------------------------------------------------


async def test_panes_drawn_again_just_after_another_text_began_show_what_is_there():
    """Its events are in the log, and no frame was made of them yet."""
    app = up()
    async with app.run_test(size=(160, 50)) as pilot:
        await writing(app, pilot)
        for run, name in enumerate((*(page for page in PAGES if page != "diff"), ""), 2):
            if name:
                await app.run_action(f"open('{name}')")
            await settled(app, pilot)
            assert app.frame.cursor == len(app.frame.log.steps) - 1 > 3
            for view in app.views:
                view.on_resize()
            log = app.frame.log
            log.append(replace(log.started, run=run, parent=None))
            assert app.frame.cursor is None and all(view.frame.cursor is None for view in app.views if view.frame)
            for view in app.views:
                view.on_resize()
            app.actions["move"](-1)
            app.actions["select"](1)
            await app.run_action("focus_next")
            await pilot.click(offset=(90, 20))
            app.actions["close_page"]()
            app.take(begun(run)[1:])
            app.actions["follow"]()
        assert app._exception is None


def test_a_frame_stands_on_what_its_log_holds_by_now():
    paint = Paint()
    log = SessionView()
    log.append(started())
    assert Frame(log, paint, cursor=4).fitted.cursor is None
    for index in range(3):
        log.append(step(index))
    frame = Frame(log, paint, cursor=2)
    assert frame.fitted is frame
    assert Frame(log, paint, cursor=7, token=3).fitted == Frame(log, paint, cursor=2)
    log.append(started(2))
    assert frame.fitted.cursor is None and frame.fitted.step is None and frame.fitted.where == []


async def test_what_acts_on_the_last_vector_acts_on_one_that_is_there():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        app.actions["vector"](2)
        app.frame = app.frame.__class__(app.frame.log, app.frame.paint, vectors=(Vector("one", "built in", (1,)),))
        app.actions["strength"](1)
        app.actions["no_vectors"]()
        assert app._exception is None and app.frame.vectors[0].strength != 0


# --- What is pasted --------------------------------------------------------------------------------------------

ODD = "a\x01\x07\x1b[2J\x7f\x9b31m\u202e\u2066\u200e\u2028z"


@pytest.mark.parametrize("key", ["i", "ctrl+p"])
async def test_what_is_pasted_is_drawn_without_anything_that_a_terminal_obeys(key):
    from tui_entropy.ui.drawing.line_filter import OBEYED

    app = up()
    async with app.run_test(size=(120, 40)) as pilot:
        await writing(app, pilot)
        await pilot.press(key)
        app.post_message(events.Paste(ODD))
        await pilot.pause(0.3)
        shown = [segment.text for strip in app.screen._compositor.render_strips() for segment in strip]
        assert not OBEYED.search("".join(shown)) and any("31m" in text for text in shown)
        if key == "i":
            assert app.prompts.box.text.text.startswith("a\x01") and any(
                "a\u2401\u2407\u241b[2J" in text for text in shown
            )
