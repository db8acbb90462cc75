"""The help begins with what is in focus, and what is typed in it is searched."""

import pytest
from inspectors import screen_text, settled, up, writing
from textual.widgets import Static

from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.dialogs.help import help_text
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.keymap import KEYS, PAGES, holds
from tui_entropy.ui.views.frame import Frame


def titles(text):
    return [line for line in text.plain.splitlines()[1:] if line and not line.startswith(" ")]


@pytest.mark.parametrize("place", ["knobs", *PAGES])
def test_it_begins_with_the_keys_of_the_pane_or_page_in_focus(place):
    own = {key.group for key in KEYS if key.where and holds(key.where, place)}
    shown = titles(help_text(Frame(SessionView(), Paint(), place=place)))
    assert own and set(shown[: len(own)]) == own


def test_it_begins_with_what_the_focused_pane_shows():
    frame = Frame(SessionView(), Paint())
    assert titles(help_text(frame, "candidates"))[0] == "Another token"
    assert titles(help_text(frame, "stream"))[0] == "Looking"
    assert sorted(titles(help_text(frame, "stream"))) == sorted(titles(help_text(frame)))


def test_what_is_typed_leaves_the_lines_that_hold_it_under_their_titles():
    text = help_text(Frame(SessionView(), Paint()), typed="tempera").plain
    lines = text.splitlines()[1:]
    assert "temperature up" in text and "quit" not in text
    assert all("tempera" in line.lower() for line in lines if line.startswith(" "))
    assert "Knobs" in lines
    assert "nothing here holds that" in help_text(Frame(SessionView(), Paint()), typed="zebra\x1b[31m").plain


async def test_typing_searches_and_escape_takes_that_back_and_then_closes():
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        await writing(app, pilot)
        await pilot.press("question_mark", *"quit")
        await settled(app, pilot)
        assert "Panes" in screen_text(app) and "top-k down" not in screen_text(app)
        assert "quit" in str(app.screen.query_one(Static).render())
        await pilot.press("backspace", "escape")
        assert type(app.screen).__name__ == "HelpScreen" and app.screen.typed == ""
        await pilot.press("escape")
        assert type(app.screen).__name__ != "HelpScreen" and not app.sent
