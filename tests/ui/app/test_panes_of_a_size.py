"""Which panes a screen of a size has, and what of them a key shows, hides or enlarges."""

import random

import pytest
from inspectors import STEPS, begun, ready, screen_text, settled, up, writing

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
