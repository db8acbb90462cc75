"""One who is connected to an engine: what it hears, and of what was written it knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from tui_entropy.records.events import Event, Started, Switched
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.writer import Recorder
from tui_entropy.transport.connection import EngineEnd


@dataclass(eq=False, slots=True)
class Client:
    """One end of a link. Whoever does not follow only asks how the engine stands, or gives an order and leaves."""

    link: EngineEnd
    live: bool = False
    """Hears what happens as it happens."""
    missing_events: Iterator[Event] | None = None
    """What it hears before that."""
    lacks: frozenset[int] = frozenset()
    """Runs whose steps it was not told."""
    guest: bool = False
    waiting: int = 0
    """Commands of it that were heard and not obeyed yet."""

    @property
    def follows(self) -> bool:
        return self.live or self.missing_events is not None

    @property
    def is_screen(self) -> bool:
        return self.follows and not self.guest


def depends_on(event: Event) -> int | None:
    """The run whose steps must be known to make sense of it."""
    match event:
        case Started():
            return event.parent
        case Switched():
            return event.run
    return None


def missing_events(client: Client, recorder: Recorder, after: int) -> Iterator[Event]:
    """The backlog of a client: events recorded after a seq, until nothing has come since the record was last read.

    It goes on from what the watcher lacks: where an event needs a run that it was not told, all is told from the
    beginning once more.
    """
    client.lacks = frozenset()
    if recorder.path is None:
        return
    recorder.flush()  # so that it says by which model
    with closing(Trace.open(recorder.path)) as trace:
        level = False
        while not level:
            level = True
            recorder.flush()
            first = not after
            if first:
                client.lacks = trace.apart()
            for seq, event in trace.since(after, client.lacks):
                level = False
                if not first and depends_on(event) in client.lacks:
                    after = 0
                    break
                after = seq
                yield event
