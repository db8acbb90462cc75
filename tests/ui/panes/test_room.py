"""Panes have the rows that they need when what they show has come after the screen was laid out."""

import fake_engine
from inspectors import settled, up

from tui_entropy.records.events import Ready


async def test_heads_have_a_row_for_every_layer_though_the_model_came_later():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        heads = app.query_one("#heads")
        before = heads.size.height
        app.take([Ready(fake_engine.card(30, 9), fake_engine.vectors(30))])
        await settled(app, pilot)
        assert before < heads.size.height == 30 / 2 + 2
