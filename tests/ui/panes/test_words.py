"""The words of the first screen: each explains itself, or has a hint where the mouse is on it and in the help."""

import made
import pytest
from inspectors import screen_text, settled, up
from made_frames import frame_of
from shown_logs import shown

from tui_entropy.records.model import Trust
from tui_entropy.ui.dialogs.help import help_text
from tui_entropy.ui.keys.pane_words import PANES

RIDDLES = ("z(H)", "z(A)", "/ ln n", " x ln ", "keeps old keys", "knobs T", " = ·", " order hf  seed")
HINTED = {"candidates": ("final %", "others", "Overconfident", "σ"), "heads": ("~", "induction"), "knobs": ("order",)}


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)])
async def test_the_first_screen_asks_no_riddles(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        log = made.log(40, marks=False)
        log.card = made.card(trust={group: Trust("exact", "") for group in ("logits", "heads", "sampling")})
        await shown(pilot, log)
        await settled(app, pilot)
        text = screen_text(app)
        assert not [word for word in RIDDLES if word in text.replace("stage order hf", "")]


async def test_the_mouse_over_a_pane_says_what_its_words_mean():
    app = up()
    async with app.run_test(size=(120, 36), tooltips=True) as pilot:
        await shown(pilot, made.log(40))
        await pilot.hover("#candidates", offset=(5, 5))
        await pilot.pause(0.6)
        (tip,) = app.screen.query("Tooltip")
        assert tip.display and "final %" in str(tip.visual)


def test_the_help_says_it_too_and_each_hint_has_the_words_that_it_is_for():
    text = help_text(frame_of(made.log(9))).plain
    for pane, about in PANES.items():
        assert about in text and all(word in about for word in HINTED.get(pane, ()))
