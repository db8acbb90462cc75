"""What it costs to look back, to branch off, to return, and to read a text again, in steps of plain decoding."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from engine import finished, loaded_model, prompt_ids
from figures import Figure, Settings, in_turns, ratio, spread
from msgspec.structs import replace as replace_card

from tui_entropy.engine.cache.kv_cache import kv_slices, truncated, with_segment
from tui_entropy.engine.decoding.instruments import Instruments, open_instruments
from tui_entropy.engine.decoding.loop import COMMIT, decode
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.rewind import recompute_step
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Branch, Write
from tui_entropy.records.events import Event, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

KNOBS = Knobs(temperature=0.7)
KEPT = 1 << 30
LONG = 32_768
READ = 512
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def travel(settings: Settings) -> Iterator[Figure]:
    """Looking at a step again, branching off, going back, and reading a text again, in steps of plain decoding."""
    loaded, rounds = loaded_model(settings), 3 if settings.quick else 12
    with open_instruments(loaded) as instruments:
        for length in (32, 2000, LONG):
            yield _revisits(loaded, instruments, length, rounds)
        yield from _branches(loaded, instruments, 2000, rounds)


def _revisits(loaded: Loaded, instruments: Instruments, length: int, rounds: int) -> Figure:
    """A token and a visit to the one before it take turns in one text."""
    sequence = _long(loaded, instruments, length, rounds + 4)
    writing = decode(loaded, instruments, sequence, _as_set, 1, False)

    def step() -> None:
        next(event for event in writing if isinstance(event, Step))
        writing.send(COMMIT)

    def visit() -> None:
        recompute_step(loaded, instruments, sequence, sequence.n_read - 2)

    for warming in (step, visit, step, visit):
        warming()
    times = in_turns({"revisit": lambda: _milliseconds(visit), "step": lambda: _milliseconds(step)}, rounds)
    detail = f"revisit {spread(times['revisit'], 'ms')}, step {spread(times['step'], 'ms')}"
    name = f"revisit / decode step, context {length}"
    return Figure(name, ratio(times["revisit"], times["step"]), "x", "<= 1.5", detail)


def _long(loaded: Loaded, instruments: Instruments, length: int, room: int) -> TokenSequence:
    """A context of that many tokens. What is beyond READ is not read: their keys and values are those before, again
    and again, which takes the loop as long as if they had been."""
    loaded = replace(loaded, card=replace_card(loaded.card, sequence=length + room))
    sequence = TokenSequence(loaded, prompt_ids(loaded, length), room)
    next(
        decode(
            loaded,
            instruments,
            begun := TokenSequence(loaded, prompt_ids(loaded, min(length, READ)), 1),
            _as_set,
            1,
            False,
        )
    )
    n = begun.n_read
    times = -(-length // n)
    more = {
        i: tuple(part.repeat(1, 1, times, 1) for part in pair) for i, pair in kv_slices(begun.cache, 0, n).items()
    }
    sequence.mark_read(length - 1, {})
    sequence.cache, sequence.n_read = truncated(with_segment(sequence.cache, 0, more), length - 1, {}), length - 1
    return sequence


def _as_set() -> Controls:
    return Controls(KNOBS, {})


def _branches(loaded: Loaded, instruments: Instruments, length: int, rounds: int) -> Iterator[Figure]:
    """A long text, of which branches begin near its end and at its first step, each left again for the text."""
    events: list[Event] = []
    session = Session(loaded, instruments, events.append, KEPT)
    text = loaded.tokenizer.hf_tokenizer.decode(prompt_ids(loaded, length))
    session.begin(Write(text, None, False, rounds * 4 + 80, KNOBS, False))
    _write(session, 64)

    def branch(step: int) -> Callable[[], float]:
        def first_token() -> float:
            session.go(1)
            return _milliseconds(lambda: (session.branch(Branch(1, step)), _write(session, 1)))

        return first_token

    def back() -> float:
        session.branch(Branch(1, 60))
        _write(session, 1)
        return _milliseconds(lambda: session.go(1))

    def step() -> float:
        session.go(1)
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
    session.go(1)
    again = [_milliseconds(session.rebuild) for _ in range(2)]
    yield Figure(f"reading {length} tokens again", statistics.median(again) / 1000, "s", "", spread(again, "ms"))


def _write(session: Session, n: int) -> None:
    written = session.state.n_written
    while session.active and session.state.n_written < written + n:
        session.advance()


def _milliseconds(act: Callable[[], object]) -> float:
    began = finished(DEVICE)
    act()
    return 1000 * (finished(DEVICE) - began)
