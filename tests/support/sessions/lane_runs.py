"""Sessions of small models that have begun a text under a vector, and runs that lanes are compared with."""

from collections.abc import Iterator
from contextlib import contextmanager

from shadow_models import PRESETS, PROMPT, pushed, steps

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Event
from tui_entropy.records.step import Step

HOT = PRESETS["hot"]


@contextmanager
def begun(loaded, n=12, knobs=HOT, vectors=None, prompt=PROMPT, at=0) -> Iterator[tuple[Session, list[Event]]]:
    """A session that has written `at` tokens of a text of n, and all that it tells."""
    events: list[Event] = []
    with open_instruments(loaded) as instruments:
        session = Session(loaded, instruments, events.append)
        pushed(session)
        session.state.vectors = session.state.vectors if vectors is None else vectors
        session.begin(Write(prompt, None, False, n, knobs))
        write(session, at)
        yield session, events


def write(session: Session, to: int | None = None) -> None:
    """Up to a number of tokens, or to the end of the text."""
    while session.active if to is None else session.state.n_written < to:
        session.advance()


def alone(loaded, n=12, knobs=HOT, vectors=None, prompt=PROMPT) -> list[Step]:
    with begun(loaded, n, knobs, vectors, prompt) as (session, events):
        write(session)
    return steps(events)
