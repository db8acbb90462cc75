"""An inspector whose text stands at a step, and what it told its engine."""

import fake_engine
from asking import is_rows
from inspectors import LAYERS, begun, ready, settled
from msgspec.structs import replace as changed

from tui_entropy.records.events import (
    Paused,
    Proposed,
)

STEPS = 12


def proposal(index=STEPS, run=1, **fields):
    return Proposed(changed(fake_engine.step(index, layers=LAYERS, heads=4, run=run), **fields))


async def stopped(app, pilot, *more):
    """A text of some steps that rests, with one more held up."""
    app.take([ready(), *begun(steps=STEPS), Paused(1, "by you"), proposal(), *more])
    await settled(app, pilot)
    app.sent.clear()


def sent(app):
    """What the engine was told, apart from what panes ask it by themselves."""
    return [command for command in app.sent if not is_rows(command)]
