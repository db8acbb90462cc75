"""Panes hidden and resized by keys: kept at each size, and never at the cost of what must be seen."""

import pytest
from inspectors import begun, on_screen, ready, screen_text, settled, up

from tui_entropy.ui.views.pane_layout import PANES, PaneLayout, seen

SIZES = [(80, 24), (120, 36), pytest.param((200, 60), marks=pytest.mark.slow)]


async def ready_to_look(app, pilot):
    app.take([ready(), *begun(1, 20)])
    app.show(notice="")
    await settled(app, pilot)


def regions(app):
    return {pane.id: pane.region for pane in seen(app.base)}


async def press(app, pilot, *keys):
    await pilot.press(*keys)
    await settled(app, pilot)


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_every_pane_but_the_text_can_be_hidden_and_comes_back(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        await ready_to_look(app, pilot)
        before = regions(app), screen_text(app)
        for name in [pane for pane in before[0] if pane not in ("stream", "quadrants")]:
            app.focus_on(name)
            await press(app, pilot, "Z")
            assert not on_screen(app, name) and app.focused.id == "stream"
            assert on_screen(app, "stream") >= before[0]["stream"].area
            app.base.query_one("#stream").focus()
            app.show(notice="")
        hidden = regions(app)
        assert hidden.keys() - {"quadrants"} == {"stream"}
        if "quadrants" not in hidden:  # it takes no focus
            assert hidden["stream"].width == size[0]
        await press(app, pilot, "Z")
        assert (regions(app), screen_text(app)) == before
        await press(app, pilot, "Z")
        assert "no pane is hidden" in app.frame.notice


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_the_key_of_a_hidden_pane_brings_it_back(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        await ready_to_look(app, pilot)
        for key, name in (("a", "attention"), ("h", "heads")):
            await press(app, pilot, key)
            await press(app, pilot, "Z")
            assert not on_screen(app, name)
            await press(app, pilot, key)
            assert on_screen(app, name) and app.focused.id == name
            await press(app, pilot, "escape")


@pytest.mark.parametrize("key", ["a", "h"])
@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_the_key_of_a_pane_goes_there_from_a_pane_on_the_whole_screen(size, key):
    app = up()
    async with app.run_test(size=size) as pilot:
        await ready_to_look(app, pilot)
        await press(app, pilot, "z", key)
        name = {"a": "attention", "h": "heads"}[key]
        assert app.focused.id == name and on_screen(app, name) > size[0]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PANES)
async def test_a_pane_grows_and_shrinks_by_rows_and_the_rest_of_its_column_gives_or_takes_them(name, size):
    app = up()
    async with app.run_test(size=size) as pilot:
        await ready_to_look(app, pilot)
        if name == "quadrants" or not on_screen(app, name):
            return
        app.focus_on(name)
        before = regions(app)
        for key, by in (("shift+up", 1), ("ctrl+up", 2), ("shift+down", 1), ("ctrl+down", 0), ("shift+down", -1)):
            await press(app, pilot, key)
            if app.frame.notice:
                assert "there are" in app.frame.notice or "no room" in app.frame.notice
                continue
            now = regions(app)
            assert now[name].height == before[name].height + by
            assert sum(one.height for one in now.values() if one.x == now[name].x) == sum(
                one.height for one in before.values() if one.x == before[name].x
            )


@pytest.mark.parametrize("size", SIZES[1:], ids=str)
async def test_a_column_grows_and_the_other_gives(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        await ready_to_look(app, pilot)
        before = regions(app)
        await press(app, pilot, "ctrl+shift+right")
        wide = regions(app)
        assert wide["stream"].width > before["stream"].width and wide["candidates"].width < before["candidates"].width
        app.focus_on("candidates")
        await press(app, pilot, "ctrl+shift+right")
        assert regions(app)["candidates"].width == before["candidates"].width
        for _ in range(40):
            await press(app, pilot, "ctrl+shift+right")
        assert regions(app)["stream"].width >= size[0] // 5


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_rows_end_where_there_is_no_more_room(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        await ready_to_look(app, pilot)
        app.focus_on("chart")
        for key in ("shift+up", "shift+down"):
            app.show(notice="")
            for _ in range(size[1]):
                await press(app, pilot, key)
                if "no room" in app.frame.notice:
                    break
            await press(app, pilot, key)
            assert "no room" in app.frame.notice
            now = regions(app)
            assert now["stream"].height >= 3 and now["chart"].height >= 2
            assert max(one.bottom for one in now.values()) <= size[1] - 3


async def test_a_layout_is_kept_while_the_terminal_has_another_size_and_while_a_pane_fills_it():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await ready_to_look(app, pilot)
        app.focus_on("chart")
        await press(app, pilot, "shift+up", "shift+up")
        mine = regions(app)
        kept = app.frame.of(PaneLayout)
        await press(app, pilot, "z", "z")
        assert regions(app) == mine
        await pilot.resize_terminal(80, 24)
        await settled(app, pilot)
        small = regions(app)
        await pilot.resize_terminal(120, 36)
        await settled(app, pilot)
        assert regions(app) == mine and app.frame.of(PaneLayout) == kept == PaneLayout(rows={("w2 h2", "chart"): 2})
    other = up()
    async with other.run_test(size=(80, 24)) as pilot:
        await ready_to_look(other, pilot)
        assert regions(other) == small
        await pilot.resize_terminal(120, 36)
        other.arrange(kept)
        await settled(other, pilot)
        assert regions(other) == mine
