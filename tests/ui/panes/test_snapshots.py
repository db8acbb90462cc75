"""The whole screen from a fixed log of events, at each size and kind of terminal.

A picture that differs is meant to be looked at: `scripts/test --snapshot-update` takes the new ones.
"""

import fake_engine
import fake_probes
import made
import pytest
from asking import is_rows
from inspectors import settled
from msgspec.structs import replace
from recordings import recorded

from tui_entropy.records.commands import Write
from tui_entropy.records.events import (
    Ended,
    HeadSelected,
    KnobsChanged,
    Memory,
    Paused,
    Prefilled,
    Ready,
    VectorsChanged,
)
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.app.replay_app import ReplayApp
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
            app.take([fake_probes.rows(command)])

    app.tell = tell

    async def before(pilot) -> None:
        app.take(a_run())
        await settled(app, pilot)
        await settled(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)


RECORDED = {name: LOOKS[name] for name in ("80x24", "120x36", "200x60", "120x36-mono-ascii")}


@pytest.mark.parametrize("look", RECORDED)
def test_attention_in_a_replay_looks_as_it_did(look, snap_compare, tmp_path):
    """The rows of the head that was recorded, and the text tinted by the newest."""
    size, paint = RECORDED[look]

    def attended(step: Step) -> Step:
        at, word = step.position - 1, 3 + step.index % 17
        weights = {0: 0.4, word: 0.3, at: 0.15, at - 3: 0.08}
        return replace(step, attention_rows=made.top_rows(weights, (11, 2), {0: 0.1, word: 0.5, at: 0.3}))

    events = [attended(event) if isinstance(event, Step) else event for event in a_run()]
    events.insert(30, HeadSelected(11, 2, by_score=True))
    file = recorded(tmp_path / "attended.tui", *events[1:], Ended(1, "stopped"), layers=LAYERS, heads=HEADS)
    app = ReplayApp(Playback(Trace.open(file), first=None, clock=lambda: 0.0), paint=paint)

    async def before(pilot) -> None:
        app.come_to(following=False, cursor=41, attention_tint=True)
        await pilot.press("a")
        await settled(app, pilot)
        await settled(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)


DEMOS = {"100x28": ((100, 28), Paint()), "100x28-light": ((100, 28), Paint(load("light")))}


@pytest.mark.parametrize("look", DEMOS)
def test_a_demo_looks_as_it_did(look, snap_compare, monkeypatch):
    size, paint = DEMOS[look]
    app = InspectorApp(ModelSpec("toy"), engine_command=None, paint=paint)
    monkeypatch.setattr(app, "_welcome", lambda: None)
    app.tell = lambda _: None

    async def before(pilot) -> None:
        app.take(a_run())
        await settled(app, pilot)
        app.show(demo=True, following=False, cursor=30)
        await pilot.press("semicolon")
        await settled(app, pilot)
        app.show(notice="")
        await settled(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)
