"""A terminal that has letters, digits and signs of ASCII only: nothing else is on the screen, wherever one goes."""

import key_presses as keys
import pytest
from inspectors import screen_text, settled, up

from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.keymap import PAGES

PLACES = ("", "knobs", "prompt", "edit", "ask", "help", "palette", *PAGES)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)], ids=str)
async def test_everything_on_the_screen_is_ascii(size):
    app = up(paint=Paint(color="mono", ascii=True))
    async with app.run_test(size=size) as pilot:
        found = {"welcome": screen_text(app)}
        app.take(keys.events())
        await settled(app, pilot)
        for place in PLACES:
            await keys.bring_to(app, pilot, place if place in keys.PLACES else "")
            if place in ("edit", "help", "palette"):
                await pilot.press({"edit": "e", "help": "question_mark", "palette": "ctrl+p"}[place])
            await settled(app, pilot)
            found[place] = screen_text(app)
    odd = {place: {letter for letter in text if not letter.isascii()} for place, text in found.items()}
    assert {place: letters for place, letters in odd.items() if letters} == {}
