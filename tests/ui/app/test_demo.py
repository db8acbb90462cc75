"""The demo: what those who look on need, and a caption for every key."""

import pytest
from inspectors import screen_text, settled, until, up, writing
from recordings import recorded

from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.keys.keymap import KEYS, key_names

SIZES = [(100, 28), (80, 24), (120, 36), (200, 60)]

PRESSED = {"u": "unit", "left": "back", "N": "numbers", "escape": "page.close", "c": "tint"}


def seen(app):
    return {pane.id for pane in app.panes if pane.display and pane.size}


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_it_shows_the_text_what_comes_next_and_the_chart_and_goes_back(size):
    app = up()
    app._welcome = lambda: None
    async with app.run_test(size=size) as pilot:
        await writing(app, pilot)
        before = seen(app)
        await pilot.press("f2")
        await settled(app, pilot)
        assert seen(app) == {"status", "stream", "candidates", "chart", "hints"}
        assert "context" not in screen_text(app).splitlines()[0]
        await pilot.press("f2")
        await settled(app, pilot)
        assert seen(app) == before and "quit" in screen_text(app).splitlines()[-1]


async def test_the_caption_says_the_last_key_and_what_it_did():
    app = up()
    app._welcome = lambda: None
    async with app.run_test(size=(100, 28)) as pilot:
        await writing(app, pilot)
        await pilot.press("f2")
        for pressed, key_id in (
            ("u", "unit"),
            ("left", "back"),
            ("N", "numbers"),
            ("escape", "page.close"),
            ("t", "temperature.down"),
        ):
            await pilot.press(pressed)
            key = next(key for key in KEYS if key.id == key_id)
            await until(pilot, lambda key=key: key.label in screen_text(app).splitlines()[-1])
            assert key_names(key.keys.split(",")[0]) in screen_text(app).splitlines()[-1], pressed


async def test_what_came_of_a_key_stands_behind_it():
    app = up()
    app._welcome = lambda: None
    async with app.run_test(size=(100, 28)) as pilot:
        await writing(app, pilot)
        await pilot.press("f2", "apostrophe")
        await settled(app, pilot)
        last = screen_text(app).splitlines()[-1]
        assert app.frame.notice and app.frame.notice in last


async def test_of_a_recording_it_tells_what_was_changed(tmp_path):
    playback = Playback(Trace.open(recorded(tmp_path / "secret-name.tui")), first=None)
    app = ReplayApp(playback)
    async with app.run_test(size=(100, 28)) as pilot:
        app.show(demo=True)
        app.go_to(12)
        await settled(app, pilot)
        assert "0.7→1.2" in screen_text(app).splitlines()[-1]
        assert "secret-name" not in screen_text(app)
