"""Events made by hand: branches, a shadow, a twin and a fan of a small imaginary model."""

from __future__ import annotations

import math

import made
from asking import fan_answer
from msgspec.structs import replace

from tui_entropy.records.events import (
    Continued,
    Ended,
    Event,
    Labelled,
    Paused,
    Prefilled,
    Ready,
    ShadowChanged,
    Started,
    Switched,
    VectorsChanged,
)
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.continuations import Continuation, SampledContinuations
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane, Vector
from tui_entropy.records.step import Shadow, Step
from tui_entropy.state.session_view import SessionView

OFF, ON = made.WARM, Vector("warm", "built in", (10, 11, 12), 1.0, True)
NO_VECTORS = Lane("no vectors", vectors=(OFF,))
HOSTILE = "\x1b[31m\u202eevil\u2066\n\ud83d[bold]x[/]\t\u0301" + "w" * 90


def step(run: int, index: int, other: bool = False, word: bytes = b"", **fields: object) -> Step:
    """The token of that step; `other`: the second candidate in its place."""
    word = word or made.WORDS[index % len(made.WORDS)].encode()
    first, second, *rest = made.step(index, word).candidates
    first, second = (
        replace(first, token_id=1000 + index),
        replace(second, token_id=2000 + index, token_bytes=b" else"),
    )
    token, rank = (second, 2) if other else (first, 1)
    common = dict(
        run=run, token_id=token.token_id, rank=float(rank), surprisal=-token.logprob, final_prob=token.final_prob,
        candidates=(first, second, *rest),
    )  # fmt: skip
    return made.step(index, token.token_bytes, **(common | fields))  # type: ignore[arg-type]


def written(run: int, first: int, last: int, other: frozenset[int] = frozenset()) -> list[Event]:
    return [step(run, index, index in other) for index in range(first, last)]


def branch(run: int, parent: int, at: int, last: int, other: frozenset[int], **fields: object) -> list[Event]:
    """Written from `at` on with the second candidate at these steps."""
    begun = made.started(run=run, parent=parent, shared=at, how="kept", **fields)
    return [begun, *written(run, at, last, other)]


def events() -> list[Event]:
    """Two roots; branches of branches; one hidden, one starred and named; and an edited prompt."""
    begun = made.started()
    return [
        Ready(made.card(), (OFF,)),
        begun,
        Prefilled(1, len(begun.prompt_tokens), len(begun.prompt_tokens), 0.1),
        *written(1, 0, 30),
        Ended(1, "end of text"),
        *branch(2, 1, 12, 34, frozenset({12, 20, 21})),
        Ended(2, "stopped"),
        *branch(3, 2, 20, 40, frozenset({25}), knobs=Knobs(temperature=1.2, top_k=0)),
        *branch(4, 1, 5, 6, frozenset({5}), vectors=(ON,)),
        *branch(5, 2, 14, 14, frozenset()),
        made.started("Another prompt", run=6, parent=1),
        *written(6, 0, 3),
        made.started("A new text", run=7),
        *written(7, 0, 4),
        Labelled(3, "hotter, and why not", True),
        Labelled(4, "", False, True),
        Switched(2),
        Paused(2, "by you"),
    ]


def forest() -> SessionView:
    return view_of(events())


def view_of(happened: list[Event]) -> SessionView:
    log = SessionView()
    for event in happened:
        log.append(event)
    return log


def many(n: int = 300) -> SessionView:
    """A root and so many branches, each of the one before or of the root."""
    log = forest()
    for run in range(10, 10 + n):
        parent = run - 1 if run % 3 and run > 10 else 1
        log.append(made.started(run=run, parent=parent, shared=3))
        log.append(step(run, 3, bool(run % 2)))
    return log


def shadow(index: int, would: bool = False) -> Shadow:
    """Of a step: what it thought, and that it would have written the second candidate."""
    one = step(1, index)
    second = one.candidates[1]
    return Shadow(
        kl=0.05 + 0.3 * would, js=0.02, final_js=0.01, entropy=one.entropy + 0.2, surprisal=one.surprisal + 0.4,
        rank=1 + would, top_id=second.token_id if would else one.candidates[0].token_id,
        top_bytes=second.token_bytes if would else one.token_bytes,
        would_id=second.token_id if would else one.token_id,
        would_bytes=second.token_bytes if would else one.token_bytes,
        logprobs=tuple(c.logprob - 0.3 * math.sin(n) for n, c in enumerate(one.candidates)),
    )  # fmt: skip


def shadowed(n: int = 30, first: int = 10, lane: Lane = NO_VECTORS) -> SessionView:
    """A run with a vector on from the fifth step, and a shadow from `first` on that would have gone elsewhere at
    every seventh step."""
    begun = made.started()
    log = view_of(
        [Ready(made.card(), (OFF,)), begun, Prefilled(1, len(begun.prompt_tokens), len(begun.prompt_tokens), 0.1)]
    )
    for index in range(n):
        if index == 5:
            log.append(VectorsChanged(1, 5, (ON,)))
        if index == first:
            log.append(ShadowChanged(1, first, lane, "in the same forward pass"))
        seen = shadow(index, index % 7 == 0) if index >= first else None
        log.append(step(1, index, shadow=seen, forward_seconds=0.044 if seen else 0.04))
    return log


def twins(parted: int | None = 16, n: int = 30, name: str = "no vectors") -> SessionView:
    """Two lanes from step 11 on, which part at a step."""
    log = view_of([Ready(made.card(), (OFF,)), made.started(vectors=(ON,)), *written(1, 0, 10), Paused(1, "by you")])
    log.append(made.started(run=2, parent=1, shared=10, twin_of=1, vectors=(OFF,)))
    log.append(Labelled(2, name, False))
    log.append(Continued(1))
    for index in range(10, n):
        log.append(step(1, index))
        log.append(step(2, index, index == parted))
    return log


POSITION = len(made.started().prompt_tokens) + 10
"""Of the token of step 10."""


def fan(run: int = 1, index: int = 10, same: str = "normalised", texts: tuple[str, ...] = ()) -> ProbeAnswer:
    said = texts or (" Paris.", " paris", " Paris.", " the city of light", " Lyon, on the Rhône", " Paris!")
    groups = [0, 0, 0, 1, 2, 0]
    rows = tuple(
        Continuation(text, (100 + n, 101, 102), -1.5 - n, n % 2 == 0, groups[n % len(groups)])
        for n, text in enumerate(said)
    )
    sampled = SampledContinuations(rows, 16, same, 0.87)
    return fan_answer(sampled, run, len(made.started().prompt_tokens) + index)


def fanned(**fields: object) -> SessionView:
    log = made.log(20)
    log.append(fan(**fields))  # type: ignore[arg-type]
    return log


def begun(run: int, **fields: object) -> Started:
    return made.started(run=run, **fields)
