"""Panes have the rows that they need when what they show has come after the screen was laid out."""

import fake_engine
import pytest
from inspectors import screen_text, settled, up, writing
from recordings import recorded

from tui_entropy.records.events import Ready
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.replay_app import ReplayApp


async def test_heads_have_a_row_for_every_layer_though_the_model_came_later():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        heads = app.query_one("#heads")
        before = heads.size.height
        app.take([Ready(fake_engine.card(30, 9), fake_engine.vectors(30))])
        await settled(app, pilot)
        assert before < heads.size.height == 30 / 2 + 2


@pytest.mark.parametrize("key", ["h", "a"])
async def test_where_there_is_one_column_the_ways_to_heads_and_attention_are_on_screen(key):
    name = {"h": "heads", "a": "attention"}[key]
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        await writing(app, pilot)
        first = screen_text(app).splitlines()[0]
        assert first.rstrip().endswith(("h heads  a attention", "h  a")) and "context" in first
        await pilot.press(key)
        await settled(app, pilot)
        assert app.frame.pane == name and app.query_one(f"#{name}").display
        await pilot.press("escape")
        await settled(app, pilot)
        assert app.frame.pane == "" and not app.query_one(f"#{name}").display


async def test_where_there_is_room_for_all_panes_no_keys_stand_in_the_status():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        assert "a attention" not in screen_text(app).splitlines()[0]


async def test_in_a_recording_too_they_stand_there_in_short_where_their_names_have_no_room(tmp_path):
    playback = Playback(Trace.open(recorded(tmp_path / "a-recording-with-a-long-name.tui")), first=None)
    app = ReplayApp(playback)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        assert screen_text(app).splitlines()[0].rstrip().endswith("h  a")
