"""What a person changes of the looks is there again the next time, and nothing else is written."""

import tomllib

from inspectors import settled, up, writing

from tui_entropy.config.settings import read_config
from tui_entropy.core import paths
from tui_entropy.records.model import ModelSpec
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.app.look_keeper import LookKeeper, look_of, with_look
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.theme import load
from tui_entropy.ui.views.pane_layout import PaneLayout


def app_as_set():
    config = read_config()
    app = up()
    app.frame = with_look(app.frame, config)
    app.keeper = LookKeeper(app, config)
    return app


def said():
    return tomllib.loads(paths.config().read_text())


async def test_what_is_changed_is_written_once_it_rests_and_is_there_again():
    app = app_as_set()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await settled(app, pilot)
        assert not paths.config().exists()
        await pilot.press("c", "u", "percent_sign")
        app.choose_theme("light")
        app.arrange(PaneLayout(frozenset({"heads"}), {("w2 h2", "chart"): 2}, {"w2": 5}))
        await pilot.press("t", "right", "N")
        await pilot.pause()
    assert said() == {
        "theme": "light", "tint": "varentropy", "unit": "nats", "tint_scale": "value",
        "panes": {"hidden": ["heads"], "rows": {"w2 h2 chart": 2}, "share": {"w2": 5}},
    }  # fmt: skip
    again = app_as_set()
    assert look_of(again.frame) | {"theme": "light"} == look_of(app.frame)
    async with again.run_test(size=(120, 36)) as pilot:
        await writing(again, pilot)
        await settled(again, pilot)
        assert not again.base.query_one("#heads").display
    assert said()["theme"] == "light"


async def test_what_came_by_an_option_is_not_written_when_something_else_is():
    app = InspectorApp(ModelSpec("toy"), engine_command=None, paint=Paint(load("high-contrast")))
    app.keeper = LookKeeper(app, read_config())
    async with app.run_test() as pilot:
        await pilot.press("u")
    assert said() == {"unit": "nats"}


async def test_a_file_that_cannot_be_written_is_told_once_and_the_screen_goes_on():
    paths.config().parent.mkdir(parents=True)
    paths.config().write_text("theme = \n")
    app = app_as_set()
    async with app.run_test() as pilot:
        await pilot.press("u")
        app.keeper.write()
        assert "not kept" in app.frame.notice and not app.frame.bits
        await pilot.press("u")
        app.keeper.write()
    assert paths.config().read_text() == "theme = \n"
