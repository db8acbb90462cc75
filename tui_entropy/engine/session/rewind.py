"""Going back in a text, and from one to another, with as little as possible read again.

One cache serves all texts of a session: that of the context that is seated. Where every layer keeps its keys by
position, the first n tokens of it are a view, exact to the bit. Layers that carry a state can only be put back to a
copy of an earlier one; the tokens after that are read again, one by one as they were at first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.cache.kv_cache import RoomyCache, RoomyLayer, States, appended_to, as_of, columns, states
from tui_entropy.engine.cache.prefix_cache import Kept
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.decoding.reader import PREFILL_CHUNK, read
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.batching import part
from tui_entropy.engine.sequence.sequence import Context
from tui_entropy.engine.session.continuations import Before
from tui_entropy.engine.session.shadow import read_up_to
from tui_entropy.records.commands import AskAttention
from tui_entropy.records.events import AttentionRows

CHECKPOINT = 32
"""Written tokens from one state that is kept to the next."""


def revisit(
    loaded: Loaded, probes: Instruments, context: Context, position: int, known: tuple[int, States] | None = None
) -> Context:
    """The forward pass of the token at `position` once more, as when it was read by itself: to the bit in float32.

    Costs one such pass where the cache holds the tokens before it; those that it lacks are read once more too.
    Nothing is changed: not the context, not its cache, not what the probes know. known: for a model whose layers
    carry a state, after how many tokens, and that state; without it all tokens before are read once more.

    Returns what is to be seen of it: `logits`, `held` and `vectors` of a context that has no cache.
    """
    with looking_back(loaded, probes, context, position, position + 1, known) as then:
        return then


@contextmanager
def looking_back(
    loaded: Loaded,
    probes: Instruments,
    context: Context,
    first: int,
    last: int,
    known: tuple[int, States] | None = None,
) -> Iterator[Context]:
    """Read the tokens from `first` to before `last` once more, those that were read under the same in one pass.

    Yields the context as it was after them. After the `with` it has no cache, and everything else is as it was.
    """
    start, state = known or (0, states(new_cache(loaded.model, loaded.anatomy)))
    if loaded.anatomy.croppable:
        start = min(first, context.n_read)
    cache = context.cache
    if len(context.rows) > 1:
        assert isinstance(cache, RoomyCache)
        cache = cache.row(context.row)
    there = columns(cache, start, min(last, context.n_read))
    before = {index: (keys.clone(), values.clone()) for index, (keys, values) in there.items()}
    then = copy.copy(context)
    then.let_go()
    then.rows, then.shadow, then.n_tokens = [then], None, first + 1
    try:
        then.cache, then.n_read = as_of(cache, start, state), start
        with probes.aside():
            while then.behind:
                _read_again(loaded, probes, then, *then.stretch(PREFILL_CHUNK))
            then.n_tokens = last
            while then.n_read < last:
                _read_again(loaded, probes, then, *then.alike(last))
            yield then
    finally:
        with torch.inference_mode():
            for index, pair in there.items():
                for now, old in zip(pair, before[index], strict=True):
                    now.copy_(old)
        then.cache, then.held.keys = new_cache(loaded.model, loaded.anatomy), {}


@torch.inference_mode()
def _read_again(
    loaded: Loaded, probes: Instruments, then: Context, last: int, under: Mapping[int, Tensor] | None
) -> None:
    if under is None:
        raise UserError("this text was not read so far: let it be written on first, or g begins it again")
    read(loaded, probes, then, last, under, 0, False)


class Travel:
    """Which context is in the cache, and what is kept of the others."""

    def __init__(self, loaded: Loaded, probes: Instruments, bound: int = 0) -> None:
        """bound: bytes that may be kept beside the context that is seated."""
        self.loaded = loaded
        self.probes = probes
        self.kept = Kept(bound)
        self.seated: Context | None = None

    @torch.inference_mode()
    def seat(self, context: Context) -> str:
        """Have a context in the cache, all but its newest token, as far as that is there or kept: the loop reads the
        rest. What the context before it has of its own is put aside. Returns in a phrase how it came back.

        Whatever fails in the middle, each context can be read from its ids again. One that shares its forward passes
        with another parts from it.
        """
        leaving, self.seated = self.seated or context, None
        part(leaving)
        leaving.shadow = None
        wanted, croppable = context.n_tokens - 1, self.loaded.anatomy.croppable
        cache, n_read = leaving.cache, leaving.n_read
        end = there = min(wanted, leaving.shared(context), n_read)
        if not croppable and not any(isinstance(layer, RoomyLayer) for layer in cache.layers):
            end = wanted  # all of it is in the states
        tails = []
        while end < wanted and (found := self.kept.tail(end, context.stamps, wanted)):
            tails.append((end, found[0]))
            end = found[1]
        if leaving is not context:
            self._keep_state(leaving)
            self.kept.keep_tail(there, leaving.stamps[there:n_read], columns(cache, there, n_read))
            context.held.kept = {at: query for at, query in leaving.held.kept.items() if at < there}
        leaving.let_go()
        for first, tail in tails:
            cache = appended_to(cache, first, tail)
        if not end:
            cache = context.cache  # nothing is in common, and what room there was goes with the text it was for
        if croppable:
            context.n_read, context.cache = end, as_of(cache, end, {})
        elif there == end == n_read:
            context.n_read, context.cache = end, cache
        else:
            n, state = self.state(context, end)
            context.cache = as_of(cache, n, state)
            context.n_read = n
        self.kept.release(context.n_read, context.stamps)
        self.seated = context
        if not context.behind:
            return "kept"
        checkpoint = "from a checkpoint, " if context.n_read and not croppable else ""
        return f"{checkpoint}{context.behind} tokens read again"

    def state(self, context: Context, n: int) -> tuple[int, States]:
        """Of a model whose layers carry a state: the newest one that is known of the first n tokens, and of how many
        of them."""
        found = self.kept.state(n, context.stamps)
        return found or (0, states(new_cache(self.loaded.model, self.loaded.anatomy)))

    def checkpoint(self, at_once: bool = False) -> None:
        """After every stretch and every token: keep the state of layers that carry one, where one is due."""
        context = self.seated
        if context and (at_once or context.n_read % CHECKPOINT == 0 or context.n_read == context.n_prompt - 1):
            self._keep_state(context)

    def catching_up(self, context: Context, last: int) -> Iterator[int]:
        """Read what was read before and is not in the cache, up to a position. Yields how much is there after each
        stretch."""
        while context.n_read < min(last, len(context.stamps)) and context.behind:
            _read_again(self.loaded, self.probes, context, *context.stretch(PREFILL_CHUNK))
            self.checkpoint()
            yield context.n_read

    def _keep_state(self, context: Context) -> None:
        if context.n_read:
            self.kept.keep_state(context.stamps[context.n_read - 1], context.cache)

    def revisit(self, context: Context, position: int) -> Context:
        """See the function of this name. A context that is not seated is so for a while."""
        with self._at(context, position) as host:
            return revisit(self.loaded, self.probes, host, position, self.state(host, position))

    def rows(self, context: Context, ask: AskAttention, run: int) -> AttentionRows:
        """Attention rows, of queries that are kept or else read once more."""
        self.probes.look_at(context)
        attention, kept = self.probes.attention, context.held.kept
        newest = min(ask.last + 1, len(context.stamps))
        wanted = range(max(newest - min(ask.n_queries, attention.keep), 0), newest)
        if not wanted or all(position in kept for position in wanted):
            return attention.rows(context.cache, ask, run)
        with self._at(context, wanted[-1]) as host:
            known = self.state(host, wanted[0])
            with looking_back(self.loaded, self.probes, host, wanted[0], wanted[-1] + 1, known) as then:
                return attention.rows(then.cache, ask, run)

    @contextmanager
    def before(self, context: Context, step: int) -> Iterator[Before]:
        """A text as it was before a step, read once more as far as it must be."""
        position = context.n_prompt + step
        if context.logits is not None and context.n_read == context.n_tokens == position:
            cache = context.cache.row(context.row) if isinstance(context.cache, RoomyCache) else context.cache
            yield Before.of(context, step, cache, context.logits)
            return
        newest = position - 1
        with (
            self._at(context, newest) as host,
            looking_back(self.loaded, self.probes, host, newest, position, self.state(host, newest)) as then,
        ):
            assert then.logits is not None
            yield Before.of(context, step, then.cache, then.logits)

    @contextmanager
    def _at(self, context: Context, position: int) -> Iterator[Context]:
        """A context that is in the cache and shares all tokens up to that position."""
        seated = self.seated
        host = seated if seated is not None and seated.shared(context) > position else context
        chosen_from = seated is not None and seated.n_read == seated.n_tokens
        if host is not seated:
            self.seat(host)
        try:
            for _ in self.catching_up(host, position):
                pass
            yield host
        finally:
            if seated is not None and host is not seated:
                self.seat(seated)
                if chosen_from:  # what is held up there may be chosen again
                    read_up_to(self.loaded, self.probes, seated, seated.n_tokens, seated.pushes[-1])

    @property
    def rewinds(self) -> str:
        """How this model goes back in a text, in a phrase."""
        if self.loaded.anatomy.croppable:
            return "by cropping its cache, exact"
        if self.kept.bound:
            return f"from checkpoints every {CHECKPOINT} tokens, exact"
        return "by reading the text again"

    def forget(self) -> None:
        """After a failure: what is in the cache may be anything."""
        if self.seated is not None:
            self.seated.let_go()
        self.seated = None
