"""The whole screen from a fixed log of events, at each size and kind of terminal.

A picture that differs is meant to be looked at: `scripts/test --snapshot-update` takes the new ones.
"""

import fake_engine
import pytest
from asking import is_rows
from inspectors import settled
from msgspec.structs import replace

from tui_entropy.records.commands import Write
from tui_entropy.records.events import KnobsChanged, Memory, Paused, Prefilled, Ready, VectorsChanged
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.theme import load

LAYERS, HEADS, STEPS = 30, 9, 60
LOOKS = {
    "80x24": ((80, 24), Paint()),
    "120x36": ((120, 36), Paint()),
    "200x60": ((200, 60), Paint()),
    "120x36-light": ((120, 36), Paint(load("light"))),
    "120x36-16-colours": ((120, 36), Paint(color="16")),
    "120x36-mono-ascii": ((120, 36), Paint(color="mono", ascii=True)),
    "40x12": ((40, 12), Paint()),
}


def a_run() -> list:
    write = Write("Where is Paris?", None, True, 500, Knobs())
    vectors = fake_engine.vectors(LAYERS)
    start = fake_engine.started(write, 1, vectors)
    steps = [fake_engine.step(i, len(start.prompt_tokens), LAYERS, HEADS) for i in range(STEPS)]
    on = (replace(vectors[0], on=True), *vectors[1:])
    return [
        Ready(fake_engine.card(LAYERS, HEADS), vectors),
        start,
        Prefilled(1, len(start.prompt_tokens), len(start.prompt_tokens), 0.2),
        *steps[:20],
        KnobsChanged(1, 20, Knobs(temperature=1.2)),
        *steps[20:40],
        VectorsChanged(1, 40, on),
        *steps[40:],
        Memory(952_000_000, None, 6_000_000),
        Paused(1, "by you"),
    ]


@pytest.mark.parametrize("look", LOOKS)
def test_the_screen_looks_as_it_did(look, snap_compare, monkeypatch):
    size, paint = LOOKS[look]
    app = InspectorApp(ModelSpec("toy"), engine_command=None, paint=paint)
    monkeypatch.setattr(app, "_welcome", lambda: None)

    def tell(command) -> None:
        """Attention is asked for as the view is drawn, and answered at once."""
        if is_rows(command):
            app.take([fake_engine.rows(command)])

    app.tell = tell

    async def before(pilot) -> None:
        app.take(a_run())
        await settled(app, pilot)
        await settled(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)
