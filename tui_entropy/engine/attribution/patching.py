"""Patching: states of one text put into another, which is read on from where they were put."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import Cache

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.architecture.sites import Site, with_first
from tui_entropy.engine.attribution.stand_ins import standing_in
from tui_entropy.engine.cache.kv_cache import PreallocatedCache
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.decoding.reader import PREFILL_CHUNK
from tui_entropy.engine.decomposition.block_parts import (
    ATTENTION,
    FEED_FORWARD,
    STREAMS,
    Undivided,
    branches,
    watching_blocks,
)
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.steering.plan import above, offsets_by_token

MOST_ROWS = 16
MOST_READ, MOST_KEYS = 1 << 10, 1 << 12
"""Of texts that are read beside each other: how many, and how many new tokens, and keys of a layer, they may have
together."""

Place = Literal["block", "attention", "feed-forward"]
KINDS = {"attention": ATTENTION, "feed-forward": FEED_FORWARD}
Offsets = Mapping[int, Tensor]


class Unpatchable(Exception):
    """Why no state can be put into a text: half a sentence."""


def sites(architecture: Architecture, layer: int, place: Place) -> tuple[Site, ...]:
    """Where the states of a layer go through. Layer 0 is the embedding, which has no parts; nor has a block of which
    nothing is of that kind."""
    if place == "block":
        return (Site(architecture.blocks[layer - 1]) if layer else Site(architecture.blocks[0], False),)
    modules = branches(architecture.blocks[layer - 1]) if layer else {}
    return tuple(Site(module) for module, kind in modules.items() if kind == KINDS[place])


@dataclass(frozen=True)
class TextStates:
    """A text that was read once, with what went through the model at its newest positions."""

    ids: Tensor
    """(n,)"""
    offsets: Sequence[Offsets]
    """What each token was read under."""
    logits: Tensor
    """(vocab,) float32 after the last of it."""
    states: Mapping[Site, Tensor]
    """(m, width) at the newest m positions; of every block, and of the places that were asked for."""
    outputs: Mapping[nn.Module, Any]
    """What each block put out, of which the vectors are those of any stretch."""
    cache: Cache | None
    """With all of it, where its first tokens are a part of it."""

    @property
    def n_kept(self) -> int:
        return len(next(iter(self.states.values())))


@torch.inference_mode()
def read_states(
    loaded: Loaded, watching: Instruments, ids: Tensor, offsets: Sequence[Offsets], n: int, place: Place
) -> TextStates:
    """Read a text, and keep what goes through the model at its newest n positions. Raises Unpatchable."""
    architecture = loaded.architecture
    if architecture.n_streams > 1:
        raise Unpatchable(STREAMS)
    cache = new_cache(loaded.model, architecture, len(ids))
    cropped = cache if type(cache) is PreallocatedCache else None
    n = n if cropped else len(ids)
    layers = range(architecture.n_layers + 1)
    of_blocks = [site for layer in layers for site in sites(architecture, layer, "block")]
    watched = dict.fromkeys([*of_blocks, *(site for layer in layers for site in sites(architecture, layer, place))])
    outputs: dict[nn.Module, Any] = {}
    each: list[dict[Site, Tensor]] = []
    stretches = torch.split(ids, PREFILL_CHUNK) if cropped else (ids,)
    with ExitStack() as hooks:
        hooks.enter_context(watching.nobody_looking(loaded))
        divided = None if place == "block" else hooks.enter_context(watching_blocks(architecture, 1))
        for block in architecture.blocks:
            hooks.callback(block.register_forward_hook(lambda at, _, made: outputs.update({at: made})).remove)
        for site in watched:
            hooks.callback(site.hook(partial(_keep, each, site)).remove)
        first = 0
        for stretch in stretches:
            watching.steering.set(offsets_by_token(offsets[first : first + len(stretch)]))
            each.append({})
            logits = forward(loaded, cropped, stretch[None])[0]
            first += len(stretch)
        try:
            if divided is not None:
                divided.parts()
        except Undivided as reason:
            raise Unpatchable(str(reason)) from None
    if any(
        one.get(site, stretch[:0]).shape[:1] != stretch.shape
        for site in watched
        for one, stretch in zip(each, stretches, strict=True)
    ):
        raise Unpatchable(f"what its {place} puts out is no vector for each token")
    newest = {site: torch.cat([one[site] for one in each])[-n:] for site in watched}
    return TextStates(ids, offsets, logits, newest, outputs, cropped)


def _keep(each: Sequence[dict[Site, Tensor]], site: Site, vectors: Tensor) -> Tensor:
    """The (1, m, width) or (m, width) vectors of a stretch are kept, as (m, width)."""
    each[-1][site] = (vectors[0] if vectors.dim() == 3 else vectors).clone()
    return vectors


class Cell(NamedTuple):
    """Where a state is put: in which of the texts that are read beside each other, and at which position of it."""

    row: int
    position: int


class _Way(NamedTuple):
    """How a text is read on."""

    skips: bool
    """The blocks below are not run: what they put out is known."""
    reuses_keys: bool
    """Those of the tokens before the first place are not read again."""


class PatchedText:
    """A text that states are put into. Only what can be other than before is computed: the blocks above the place, at
    the positions from it on. One more row is always read, into which nothing is put: where that does not say what
    the text says, the model is read whole instead."""

    def __init__(self, loaded: Loaded, watching: Instruments, text: TextStates) -> None:
        self._loaded, self._watching, self.text = loaded, watching, text
        first = _Way(skips=True, reuses_keys=text.cache is not None)
        self._ways = [first, _Way(skips=False, reuses_keys=False)]
        self.failed = ""
        """Why a way was given up, in half a sentence."""

    def rows_beside(self, position: int) -> int:
        """How many states are put in at a time, at a position and behind it."""
        n = len(self.text.ids)
        return min(max(min(MOST_READ // (n - position), MOST_KEYS // n, MOST_ROWS) - 1, 1), n - position)

    def logits(self, layer: int, place: Place, states: Sequence[Tensor], cells: Sequence[Cell]) -> Tensor:
        """(rows, vocab) float32 after the text, each row with other states of one layer put in.

        states: (k, width) for each site of the layer. cells: of each of the k, which row, from 0 on, and where in it.
        Raises Unpatchable.
        """
        while self._ways:
            with suppress(_OtherText):
                return self._read(self._ways[0], layer, place, states, cells)
            del self._ways[0]
        raise Unpatchable(self.failed)

    @torch.inference_mode()
    def _read(self, way: _Way, layer: int, place: Place, states: Sequence[Tensor], cells: Sequence[Cell]) -> Tensor:
        text, architecture = self.text, self._loaded.architecture
        start = min(cell.position for cell in cells) if way.reuses_keys else 0
        rows = max(cell.row for cell in cells) + 2
        n_below = 0 if not way.skips else layer if place == "block" else layer - 1
        with ExitStack() as hooks:
            hooks.enter_context(self._watching.nobody_looking(self._loaded))
            hooks.enter_context(self._skipped(n_below, start, rows))
            for site, state in zip(sites(architecture, layer, place), states, strict=True):
                hooks.callback(site.hook(partial(_put, state, cells, rows, start)).remove)
            pushes = offsets_by_token(text.offsets[start:])
            self._watching.steering.set(above(pushes, n_below))
            cache = (
                text.cache.repeat_prefix(start, rows) if start and isinstance(text.cache, PreallocatedCache) else None
            )
            try:
                *patched, same = forward(self._loaded, cache, text.ids[start:].expand(rows, -1))
            except Exception as error:  # of whatever model, whose code is anybody's
                reason = str(error).strip().split("\n", 1)[0][:100]
                self.failed = f"it cannot be read on in the midst ({type(error).__name__}: {reason})"
                raise _OtherText from error
        apart = float((same - text.logits).abs().max() / text.logits.abs().max())
        if not apart <= torch.finfo(self._loaded.model.dtype).eps ** 0.5:
            self.failed = f"read once more, its logits come out {100 * apart:.2g} % apart"
            raise _OtherText
        return torch.stack(patched)

    def _skipped(self, n_below: int, start: int, rows: int) -> AbstractContextManager[None]:
        """The lowest blocks are not run, and put out what the last of them did."""
        text, blocks = self.text, self._loaded.architecture.blocks[:n_below]
        if not blocks:
            return nullcontext()
        known = text.states[Site(blocks[-1])][start - len(text.ids) :].expand(rows, -1, -1)
        return standing_in({block: partial(_told, with_first(text.outputs[block], known)) for block in blocks})


class _OtherText(Exception):
    """Read so, the text says something else, or nothing."""


def _told(said: Any, *args: Any, **kwargs: Any) -> Any:
    return said


def _put(state: Tensor, cells: Sequence[Cell], rows: int, start: int, vectors: Tensor) -> Tensor:
    """(rows, n, width) or (rows * n, width) vectors, with each state in its cell."""
    made = vectors.clone().view(rows, -1, vectors.shape[-1])
    made[[cell.row for cell in cells], [cell.position - start for cell in cells]] = state.to(made)
    return made.view_as(vectors)
