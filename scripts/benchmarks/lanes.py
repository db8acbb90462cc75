"""What a second lane costs: a shadow in each of its three ways, a twin, and a fan, against the lane alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from engine import loaded_model, prompt_ids
from figures import Figure, Settings, in_turns, ratio, spread

from tui_entropy.engine.cache.kv_cache import PreallocatedCache
from tui_entropy.engine.decoding.instruments import Instruments, open_instruments
from tui_entropy.engine.decoding.loop import COMMIT, decode
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.library.text.continuations import sample_continuations
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.batching import can_batch, join_batch, leave_batch
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.shadow import ShadowRun, create_shadow
from tui_entropy.engine.session.snapshot import Snapshot
from tui_entropy.records.probes.continuations import ContinuationOptions
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

KNOBS = Knobs(temperature=0.7)
GOAL = "<= 1.35"
BLOCK = 4
"""Tokens in a row that are timed, after one that is not."""
FAN = ContinuationOptions(n=8, tokens=16)


def lanes(settings: Settings) -> Iterator[Figure]:
    """A token with a shadow, with a twin, and a fan of short texts, against the same without."""
    loaded, rounds = loaded_model(settings), 2 if settings.quick else 8
    d_model, middle = loaded.architecture.d_model, loaded.architecture.n_layers // 2
    push = {middle: torch.randn(d_model, generator=torch.Generator().manual_seed(0))}
    with open_instruments(loaded) as instruments:
        for length in (32, 1024):
            n = 4 * (BLOCK + 1) * rounds + 8
            lane = Lane(loaded, instruments, prompt_ids(loaded, length), n, Controls(KNOBS, push))
            yield from _shadows(lane, length, rounds)
            yield from _twin(lane, length, rounds)
            yield from _fan(lane, length, settings.rounds)


class Lane:
    """A text that is written a token at a time, now with a shadow and now without."""

    def __init__(self, loaded: Loaded, instruments: Instruments, ids: list[int], n: int, now: Controls) -> None:
        self.loaded, self.instruments, self.now, self.ids = loaded, instruments, now, ids
        self.sequence = TokenSequence(loaded, ids, n)
        self._writing = decode(loaded, instruments, self.sequence, lambda: now, 1, False)

    def step(self) -> Step:
        step = next(event for event in self._writing if isinstance(event, Step))
        self._writing.send(COMMIT)
        return step

    def seconds(self) -> float:
        """Of one token, everything counted."""
        began = time.perf_counter()
        self.step()
        return time.perf_counter() - began

    def create_shadow(
        self, prompt: list[int] | None, push: dict[int, torch.Tensor] | None, knobs: Knobs | None
    ) -> ShadowRun:
        own = None if knobs is None else Controls(knobs, self.now.offsets)
        return create_shadow(self.loaded, self.instruments, self.sequence, self.now, prompt, push, own)


def _shadows(lane: Lane, length: int, rounds: int) -> Iterator[Figure]:
    """Blocks of tokens with each shadow and with none take turns in one text."""
    lane.step()
    ways: dict[str, Callable[[], ShadowRun | None]] = {
        "alone": lambda: None,
        "from the same logits": lambda: lane.create_shadow(None, None, Knobs(temperature=1.5)),
        "in the same forward pass": lambda: lane.create_shadow(None, {}, None),
        "in a second forward pass": lambda: lane.create_shadow([*lane.ids[:5], *lane.ids], {}, None),
    }

    def block(way: Callable[[], ShadowRun | None]) -> float:
        lane.sequence.shadow = way()
        lane.step()
        taken = [lane.seconds() for _ in range(BLOCK)]
        leave_batch(lane.sequence)
        lane.sequence.shadow = None
        return 1000 * statistics.median(taken)

    times = in_turns({name: lambda way=way: block(way) for name, way in ways.items()}, rounds)  # type: ignore[misc]
    alone = times.pop("alone")
    for name, taken in times.items():
        goal = GOAL if name == "in the same forward pass" else "<="
        detail = f"{spread(taken, 'ms')}, alone {spread(alone, 'ms')}"
        yield Figure(f"shadow {name} / alone, prompt {length}", ratio(taken, alone), "x", goal, detail)


def _twin(lane: Lane, length: int, rounds: int) -> Iterator[Figure]:
    """Two texts in one pass, both measured, against one of them."""
    n = 2 * (rounds + 2)
    first, second = (Lane(lane.loaded, lane.instruments, lane.ids, n, Controls(KNOBS, {})) for _ in range(2))
    second.sequence.own_offsets = {}
    for one in (first, second):
        one.step()
        one.step()
    alone = [1000 * first.seconds() for _ in range(rounds)]
    for _ in range(rounds):
        second.step()
    assert can_batch(first.sequence, second.sequence)
    join_batch(first.sequence, second.sequence)
    first.step()
    second.step()
    both = [1000 * (first.seconds() + second.seconds()) for _ in range(rounds)]
    leave_batch(first.sequence)
    detail = f"{spread(both, 'ms')}, one {spread(alone, 'ms')}"
    yield Figure(f"twin, both tokens / one token of one, prompt {length}", ratio(both, alone), "x", "<=", detail)


def _fan(lane: Lane, length: int, rounds: int) -> Iterator[Figure]:
    """Eight continuations of 16 tokens, together and one after the other."""
    sequence, ask = lane.sequence, FAN
    assert isinstance(sequence.cache, PreallocatedCache) and sequence.logits is not None
    while sequence.n_read < sequence.n_tokens:
        next(lane._writing)

    def of(n: int) -> float:
        before = Snapshot.of(sequence, sequence.n_written, sequence.cache, sequence.logits)
        began = time.perf_counter()
        with torch.inference_mode(), lane.instruments.aside():
            sample_continuations(lane.loaded, before, lane.now, ContinuationOptions(n, ask.tokens))
        return time.perf_counter() - began

    def together() -> float:
        return of(ask.n)

    def one_by_one() -> float:
        return sum(of(1) for _ in range(ask.n))

    times = in_turns({"together": together, "one by one": one_by_one}, max(rounds // 2, 1))
    detail = f"{spread(times['together'], 's')}, one by one {spread(times['one by one'], 's')}"
    value = ratio(times["together"], times["one by one"])
    name = f"fan of {ask.n} x {ask.tokens} / one after the other, prompt {length}"
    yield Figure(name, value, "x", "<=", detail)
    per_token = statistics.median(times["together"]) / (ask.n * ask.tokens)
    yield Figure(f"  tokens of the fan, prompt {length}", 1 / per_token, "tok/s", "")
