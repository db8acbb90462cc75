"""Rows on the shortest way to the terminal are those that Textual would paint, and it paints where there is none."""

from __future__ import annotations

from itertools import islice

import made
from textual.strip import Strip
from textual.widgets import Static

from tui_entropy.records.model import ModelSpec
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.terminal.fast_path import Shortcut

SIZE = (160, 50)


def writing() -> tuple[InspectorApp, list[tuple[int, int, Strip]]]:
    app, sent = InspectorApp(ModelSpec("toy"), engine_command=None), []
    app.frame.log.append(made.Ready(made.card()))
    app.frame.log.append(made.started())
    app.shortcut = Shortcut(app, sent.extend, app.repaints.pacer)
    return app, sent


async def write_steps(app: InspectorApp, pilot, steps: range) -> None:
    for n in steps:
        app.frame.log.append(made.step(n, made.WORDS[n % len(made.WORDS)]))
    for view in app.views:
        view.show(app.frame)
    app.show()
    await pilot.pause()


async def test_what_changed_is_sent_as_textual_would_paint_it():
    app, sent = writing()
    async with app.run_test(size=SIZE) as pilot:
        await write_steps(app, pilot, range(10))
        sent.clear()
        await write_steps(app, pilot, range(10, 11))
        painted = app.screen._compositor.render_strips()
        newest = {(y, x): row for y, x, row in sent}
        assert newest
        for (y, x), row in newest.items():
            assert row.text == painted[y].crop(x, x + row.cell_length).text


async def test_what_lies_over_a_pane_is_not_painted_over():
    app, sent = writing()
    async with app.run_test(size=SIZE) as pilot:
        await write_steps(app, pilot, range(10))
        over = Static("over the lower panes")
        over.styles.dock, over.styles.layer, over.styles.height = "bottom", "above", 20
        app.screen.styles.layers = ("default", "above")
        await app.screen.mount(over)
        await pilot.pause()
        sent.clear()
        await write_steps(app, pilot, range(10, 20))
        assert sent
        assert not any(over.region.contains(x + at, y) for y, x, row in sent for at in range(row.cell_length))


async def test_under_another_screen_nothing_is_sent():
    app, sent = writing()
    async with app.run_test(size=SIZE) as pilot:
        await write_steps(app, pilot, range(10))
        await pilot.press("?")
        await pilot.pause()
        sent.clear()
        await write_steps(app, pilot, range(10, 20))
        assert not sent


async def test_what_a_frame_has_no_room_for_goes_with_the_next():
    app, frames = writing()[0], []
    app.shortcut = Shortcut(app, lambda rows: frames.append(list(islice(rows, 5))), app.repaints.pacer)
    async with app.run_test(size=SIZE) as pilot:
        await write_steps(app, pilot, range(10))
        while not frames or app.shortcut._late:
            await pilot.pause(0.06)
        frames.clear()
        await write_steps(app, pilot, range(10, 11))
        while app.shortcut._late:
            await pilot.pause(0.06)
        painted = app.screen._compositor.render_strips()
        newest = {(y, x): row for frame in frames for y, x, row in frame}
        assert len(newest) > 5
        for (y, x), row in newest.items():
            assert row.text == painted[y].crop(x, x + row.cell_length).text
