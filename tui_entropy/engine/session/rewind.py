"""Going back in a text, and from one to another, with as little as possible read again.

One cache serves all texts of a session: that of the active sequence. Where every layer keeps its keys by position,
the first n tokens of it are a view, exact to the bit. Layers that carry a state can only be put back to a
copy of an earlier one; the tokens after that are read again, one by one as they were at first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from transformers import Cache

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.cache.kv_cache import (
    PreallocatedCache,
    PreallocatedLayer,
    RecurrentStates,
    kv_slices,
    recurrent_states,
    truncated,
    with_segment,
)
from tui_entropy.engine.cache.prefix_cache import PrefixCache
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.decoding.reader import PREFILL_CHUNK, read
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.batching import leave_batch
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.shadow import read_up_to
from tui_entropy.engine.session.snapshot import Snapshot
from tui_entropy.records.probes.attention_rows import AttentionRows, RowWindow

CHECKPOINT = 32
"""Written tokens from one state that is kept to the next."""


def recompute_step(
    loaded: Loaded,
    instruments: Instruments,
    sequence: TokenSequence,
    position: int,
    known: tuple[int, RecurrentStates] | None = None,
) -> TokenSequence:
    """The forward pass of the token at `position` once more, as when it was read by itself: to the bit in float32.

    Costs one such pass where the cache holds the tokens before it; those that it lacks are read once more too.
    Nothing is changed: not the sequence, not its cache, not what the instruments know. known: for a model whose
    layers carry a state, after how many tokens, and that state; without it all tokens before are read once more.

    Returns what is to be seen of it: `logits`, `attention_state` and `vectors` of a sequence that has no cache.
    """
    with replayed_span(loaded, instruments, sequence, position, position + 1, known) as then:
        return then


@contextmanager
def replayed_span(
    loaded: Loaded,
    instruments: Instruments,
    sequence: TokenSequence,
    first: int,
    last: int,
    known: tuple[int, RecurrentStates] | None = None,
) -> Iterator[TokenSequence]:
    """Read the tokens from `first` to before `last` once more, those that were read under the same in one pass.

    Yields the sequence as it was after them. After the `with` it has no cache, and everything else is as it was.
    """
    start, state = known or (0, recurrent_states(new_cache(loaded.model, loaded.architecture)))
    if loaded.architecture.croppable:
        start = min(first, sequence.n_read)
    cache = sequence.cache
    if len(sequence.batch) > 1:
        assert isinstance(cache, PreallocatedCache)
        cache = cache.batch_row(sequence.batch_index)
    there = kv_slices(cache, start, min(last, sequence.n_read))
    before = {index: (keys.clone(), values.clone()) for index, (keys, values) in there.items()}
    then = copy.copy(sequence)
    then.reset_cache()
    then.batch, then.shadow, then.n_tokens = [then], None, first + 1
    try:
        then.cache, then.n_read = truncated(cache, start, state), start
        with instruments.aside():
            while then.n_pending:
                _reread(loaded, instruments, then, *then.next_chunk(PREFILL_CHUNK))
            then.n_tokens = last
            while then.n_read < last:
                to = last if loaded.architecture.in_stretches or not then.n_read else then.n_read + 1
                _reread(loaded, instruments, then, *then.span_under_same_steering(to))
            yield then
    finally:
        with torch.inference_mode():
            for index, pair in there.items():
                for now, old in zip(pair, before[index], strict=True):
                    now.copy_(old)
        then.cache, then.attention_state.keys = new_cache(loaded.model, loaded.architecture), {}


@torch.inference_mode()
def _reread(
    loaded: Loaded, instruments: Instruments, then: TokenSequence, last: int, under: Mapping[int, Tensor] | None
) -> None:
    if under is None:
        raise UserError("this text was not read so far: let it be written on first, or g begins it again")
    read(loaded, instruments, then, last, under, 0, False)


class Rewinder:
    """Which sequence is in the cache, and what is kept of the others."""

    def __init__(self, loaded: Loaded, instruments: Instruments, bound: int = 0) -> None:
        """bound: bytes that may be kept beside the sequence that is in the cache."""
        self.loaded = loaded
        self.instruments = instruments
        self.prefix_cache = PrefixCache(bound)
        self.active: TokenSequence | None = None

    @torch.inference_mode()
    def activate(self, sequence: TokenSequence) -> str:
        """Have a sequence in the cache, all but its newest token, as far as that is there or kept: the loop reads the
        rest. What the sequence before it has of its own is put aside. Returns in a phrase how it came back.

        Whatever fails in the middle, each sequence can be read from its ids again. One that shares its forward passes
        with another parts from it.

        Say run 1 has 100 tokens in the cache and run 2, which branched off at token 60, has 80:

            the first 60 have the same prefix ids: they stay where they are      end = there = 60
            60 to 100 of run 1 are its own: they go into the prefix cache
            60 to 79 of run 2, if they were put there before, are written over them      end = 79
            token 79, the newest, is read by the loop, as are those that were not kept

        Layers with a state cannot be shortened: they go back to the newest state that is kept of run 2, say after 64
        tokens, and 64 to 79 are read again.
        """
        leaving, self.active = self.active or sequence, None
        leave_batch(leaving)
        leaving.shadow = None
        wanted, croppable = sequence.n_tokens - 1, self.loaded.architecture.croppable
        cache, n_read = leaving.cache, leaving.n_read
        end = there = min(wanted, leaving.common_prefix(sequence), n_read)
        if not croppable and not any(isinstance(layer, PreallocatedLayer) for layer in cache.layers):
            end = wanted  # all of it is in the states
        segments = []
        while end < wanted and (found := self.prefix_cache.segment(end, sequence.prefix_ids, wanted)):
            segments.append((end, found[0]))
            end = found[1]
        if leaving is not sequence:
            self._put_state(leaving)
            self.prefix_cache.put_segment(there, leaving.prefix_ids[there:n_read], kv_slices(cache, there, n_read))
            sequence.attention_state.kept = {
                at: query for at, query in leaving.attention_state.kept.items() if at < there
            }
        leaving.reset_cache()
        for first, segment in segments:
            cache = with_segment(cache, first, segment)
        if not end:
            cache = sequence.cache  # nothing is in common, and what room there was goes with the text it was for
        if croppable:
            sequence.n_read, sequence.cache = end, truncated(cache, end, {})
        elif there == end == n_read:
            sequence.n_read, sequence.cache = end, cache
        else:
            n, state = self.state(sequence, end)
            sequence.cache = truncated(cache, n, state)
            sequence.n_read = n
        self.prefix_cache.release(sequence.n_read, sequence.prefix_ids)
        self.active = sequence
        if not sequence.n_pending:
            return "kept"
        checkpoint = "from a checkpoint, " if sequence.n_read and not croppable else ""
        return f"{checkpoint}{sequence.n_pending} tokens read again"

    def state(self, sequence: TokenSequence, n: int) -> tuple[int, RecurrentStates]:
        """The newest state that is known of the first n tokens, and of how many of them, where layers carry one."""
        states = self.prefix_cache.state(n, sequence.prefix_ids)
        return states or (0, recurrent_states(new_cache(self.loaded.model, self.loaded.architecture)))

    def checkpoint(self, at_once: bool = False) -> None:
        """After every stretch and every token: keep the state of layers that carry one, where one is due."""
        sequence = self.active
        if sequence and (at_once or sequence.n_read % CHECKPOINT == 0 or sequence.n_read == sequence.n_prompt - 1):
            self._put_state(sequence)

    def read_missing(self, sequence: TokenSequence, last: int) -> Iterator[int]:
        """Read what was read before and is not in the cache, up to a position. Yields how much is there after each
        stretch."""
        while sequence.n_read < min(last, len(sequence.prefix_ids)) and sequence.n_pending:
            _reread(self.loaded, self.instruments, sequence, *sequence.next_chunk(PREFILL_CHUNK))
            self.checkpoint()
            yield sequence.n_read

    def _put_state(self, sequence: TokenSequence) -> None:
        if sequence.n_read:
            self.prefix_cache.put_state(sequence.prefix_ids[sequence.n_read - 1], sequence.cache)

    def recompute_step(self, sequence: TokenSequence, position: int) -> TokenSequence:
        """See the function of this name. A sequence that is not in the cache is put there for a while."""
        with self._at(sequence, position) as host:
            return recompute_step(self.loaded, self.instruments, host, position, self.state(host, position))

    @contextmanager
    def replay(self, sequence: TokenSequence, first: int, last: int) -> Iterator[TokenSequence]:
        """The tokens from `first` to before `last` read once more, kernel by kernel: so hooks on modules see them."""
        with (
            self._at(sequence, last - 1) as host,
            replayed_span(
                self.loaded, replace(self.instruments, graph_decoder=None), host, first, last, self.state(host, first)
            ) as then,
        ):
            yield then

    def rows(self, sequence: TokenSequence, ask: RowWindow) -> AttentionRows:
        """Attention rows, of queries that are kept or else read once more."""
        with self.kept_rows(sequence, ask.last, ask.n_queries) as cache:
            return self.instruments.attention.rows(cache, ask)

    @contextmanager
    def kept_rows(self, sequence: TokenSequence, last: int, n_queries: int) -> Iterator[Cache]:
        """The instruments look at a text whose queries at the last so many positions up to `last` are kept, as many
        as they keep at all; yields its cache."""
        self.instruments.look_at(sequence)
        queries = sequence.attention_state.kept
        newest = min(last + 1, len(sequence.prefix_ids))
        positions = range(max(newest - min(n_queries, self.instruments.attention.keep), 0), newest)
        if not positions or all(position in queries for position in positions):
            yield sequence.cache
            return
        with self._at(sequence, positions[-1]) as host:
            known = self.state(host, positions[0])
            with replayed_span(self.loaded, self.instruments, host, positions[0], positions[-1] + 1, known) as then:
                yield then.cache

    @contextmanager
    def snapshot(self, sequence: TokenSequence, step: int) -> Iterator[Snapshot]:
        """A text as it was before a step, read once more as far as it must be."""
        position = sequence.n_prompt + step
        if sequence.logits is not None and sequence.n_read == sequence.n_tokens == position:
            cache = (
                sequence.cache.batch_row(sequence.batch_index)
                if isinstance(sequence.cache, PreallocatedCache)
                else sequence.cache
            )
            yield Snapshot.of(sequence, step, cache, sequence.logits)
            return
        newest = position - 1
        with (
            self._at(sequence, newest) as host,
            replayed_span(self.loaded, self.instruments, host, newest, position, self.state(host, newest)) as then,
        ):
            assert then.logits is not None
            yield Snapshot.of(sequence, step, then.cache, then.logits)

    @contextmanager
    def _at(self, sequence: TokenSequence, position: int) -> Iterator[TokenSequence]:
        """A sequence that is in the cache and shares all tokens up to that position."""
        active = self.active
        host = active if active is not None and active.common_prefix(sequence) > position else sequence
        chosen_from = active is not None and active.n_read == active.n_tokens
        if host is not active:
            self.activate(host)
        try:
            for _ in self.read_missing(host, position):
                pass
            yield host
        finally:
            if active is not None and host is not active:
                self.activate(active)
                if chosen_from:  # what is held up there may be chosen again
                    read_up_to(self.loaded, self.instruments, active, active.n_tokens, active.offsets[-1])

    @property
    def rewinds(self) -> str:
        """The way in which this model goes back in a text, in a phrase."""
        if self.loaded.architecture.croppable:
            return "by cropping its cache, exact"
        if self.prefix_cache.bound:
            return f"from checkpoints every {CHECKPOINT} tokens, exact"
        return "by reading the text again"

    def forget(self) -> None:
        """After a failure: what is in the cache may be anything."""
        if self.active is not None:
            self.active.reset_cache()
        self.active = None
