"""Runs of small models that lanes are compared with."""

from shadow_models import PRESETS, PROMPT, pushed, steps

from tui_entropy.engine.decoding.instruments import instruments
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Event
from tui_entropy.records.step import Step

HOT = PRESETS["hot"]


def alone(loaded, n=12, knobs=HOT, vectors=None, prompt=PROMPT) -> list[Step]:
    events: list[Event] = []
    with instruments(loaded) as probes:
        session = Session(loaded, probes, events.append)
        pushed(session)
        session.state.vectors = session.state.vectors if vectors is None else vectors
        session.begin(Write(prompt, None, False, n, knobs))
        while session.active:
            session.advance()
    return steps(events)
