"""What it costs to look back, to branch off, to return, and to read a text again, in steps of plain decoding."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from engine import loaded_model, prompt_ids
from figures import Figure, Settings, in_turns, ratio, spread

from tui_entropy.engine.decode import TAKE, Context, Controls, Instruments, decode, instruments
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.session import Session
from tui_entropy.engine.travel import revisit
from tui_entropy.records import Branch, Event, Knobs, Started, Step, Write

KNOBS = Knobs(temperature=0.7)
KEPT = 1 << 30
LONG = 32_768


def travel(settings: Settings) -> Iterator[Figure]:
    loaded, rounds = loaded_model(settings), 3 if settings.quick else 12
    with instruments(loaded) as probes:
        for length in (32, 2000):
            yield _revisits(loaded, probes, length, rounds)
        yield from _branches(loaded, probes, 2000, rounds)
        yield _revisits(loaded, probes, LONG, 3 if settings.quick else 8)


def _revisits(loaded: Loaded, probes: Instruments, length: int, rounds: int) -> Figure:
    """A token and a visit to the one before it take turns in one text."""
    context = Context(loaded, prompt_ids(loaded, length), rounds + 4)
    writing = decode(loaded, probes, context, lambda: Controls(KNOBS, {}), 1, False)

    def step() -> None:
        next(event for event in writing if isinstance(event, Step))
        writing.send(TAKE)

    def visit() -> None:
        revisit(loaded, probes, context, context.n_read - 2)

    for warming in (step, visit, step, visit):
        warming()
    times = in_turns({"revisit": lambda: _milliseconds(visit), "step": lambda: _milliseconds(step)}, rounds)
    detail = f"revisit {spread(times['revisit'], 'ms')}, step {spread(times['step'], 'ms')}"
    name = f"revisit / decode step, context {length}"
    return Figure(name, ratio(times["revisit"], times["step"]), "x", "<= 1.5", detail)


def _branches(loaded: Loaded, probes: Instruments, length: int, rounds: int) -> Iterator[Figure]:
    """A long text, of which branches begin near its end and at its first step, each left again for the text."""
    events: list[Event] = []
    session = Session(loaded, probes, events.append, KEPT)
    text = loaded.codec.tokenizer.decode(prompt_ids(loaded, length))
    session.begin(Write(text, None, False, rounds * 4 + 80, KNOBS, False))
    _write(session, 64)

    def branch(step: int) -> Callable[[], float]:
        def first_token() -> float:
            session.branches.go(1)
            return _milliseconds(lambda: (session.branches.branch(Branch(1, step)), _write(session, 1)))

        return first_token

    def back() -> float:
        session.branches.branch(Branch(1, 60))
        _write(session, 1)
        return _milliseconds(lambda: session.branches.go(1))

    def step() -> float:
        session.branches.go(1)
        _write(session, 1)
        return _milliseconds(lambda: _write(session, 1))

    calls = {"step": step, "near the end": branch(60), "at the first step": branch(0), "back": back}
    for call in calls.values():
        call()
    times = in_turns(calls, rounds)
    plain = times.pop("step")
    yield Figure(f"decode step, context {length}", statistics.median(plain), "ms", "", spread(plain, "ms"))
    for name in ("near the end", "at the first step"):
        value = ratio(times[name], plain)
        yield Figure(f"first token of a branch {name}", value, "steps", "<= 2", spread(times[name], "ms"))
    yield Figure("back to the text it left, to its next token", ratio(times["back"], plain), "steps", "")
    assert all(event.how == "kept" for event in events if isinstance(event, Started) and event.parent)
    session.branches.go(1)
    again = [_milliseconds(session.branches.rebuild) for _ in range(2)]
    yield Figure(f"reading {length} tokens again", statistics.median(again) / 1000, "s", "", spread(again, "ms"))


def _write(session: Session, n: int) -> None:
    written = session.n_written
    while session.active and session.n_written < written + n:
        session.advance()


def _milliseconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began)
