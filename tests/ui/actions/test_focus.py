"""Where the focus is and what is zoomed: one pane on the whole screen, and keys that stay with the text."""

import made_lanes as lanes
import pytest
from inspectors import begun, on_screen, ready, screen_text, settled, up
from shown_logs import shown

from tui_entropy.ui.views.pane_layout import PANES

ZOOMABLE = [pane for pane in PANES if pane != "quadrants"]
SIZES = [(80, 24), (120, 36), pytest.param((200, 60), marks=pytest.mark.slow)]


@pytest.mark.parametrize("with_twin", [False, True], ids=["alone", "with a twin"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ZOOMABLE)
async def test_z_shows_the_pane_in_focus_alone_and_z_again_what_there_was(name, size, with_twin):
    app = up()
    async with app.run_test(size=size) as pilot:
        if with_twin:
            await shown(pilot, lanes.twins())
        else:
            app.take([ready(), *begun(1, 20)])
            await settled(app, pilot)
        if name in ("heads", "attention") and not on_screen(app, name):
            await pilot.press(name[0])
        app.focus_on(name)
        await settled(app, pilot)
        if app.focused is None or app.focused.id != name:
            assert name == "twin" and not with_twin
            return
        before = screen_text(app)
        await pilot.press("z")
        await settled(app, pilot)
        width, height = size
        assert on_screen(app, name) >= width * (height - 6)
        assert not any(on_screen(app, other) for other in ZOOMABLE if other != name)
        shown_rows = [row for row in screen_text(app).splitlines() if row.strip()]
        assert len(shown_rows) > 3
        await pilot.press("z")
        await settled(app, pilot)
        assert screen_text(app) == before


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_after_a_click_on_a_vector_arrows_still_move_in_the_text(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        app.take([ready(), *begun(1, 20)])
        await settled(app, pilot)
        lines = screen_text(app).splitlines()
        y = next(n for n, line in enumerate(lines) if "vectors" in line and app.frame.vectors[0].name in line)
        await pilot.click(offset=(lines[y].index(app.frame.vectors[0].name), y))
        await settled(app, pilot)
        assert app.frame.vectors[0].on and app.focused.id == "stream"
        knobs, last = app.frame.knobs, app.frame.last
        await pilot.press("left", "left")
        assert app.frame.knobs == knobs and app.frame.cursor == last - 2
