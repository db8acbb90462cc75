"""Attention rows of stretches of a text, a block at a time: the matrices of all blocks are never there at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tui_entropy.engine.instruments.attention import AttentionInstrument, AttentionLayer
from tui_entropy.engine.instruments.attention_functions import Attended, overheard

TOGETHER = 1 << 20
"""Weights of all heads that are worked out at a time."""


class NoRows(Exception):
    """Why a model has no attention rows to follow: half a sentence."""


class AttentionMaps:
    """The attention of some blocks over the newest positions of the passes since `attention_maps` began, to be asked
    for while the cache that these were read into is there."""

    def __init__(self, layers: Iterable[AttentionLayer], n: int) -> None:
        self._n = n
        self._layers = {layer.index + 1: layer for layer in layers}
        self._queries: dict[int, list[Tensor]] = {block: [] for block in self._layers}

    def take(self, block: int, attended: Attended) -> None:
        """block: 1-based."""
        query = attended.query[0, :, -self._n :]
        whole = query.untyped_storage().nbytes() == query.nbytes  # else a reference would pin more than itself
        self._queries[block].append(query if whole else query.clone())

    def weights(self, block: int, first: int, last: int) -> Tensor:
        """(n_heads, last - first, keys up to last) float32 rows of the queries at positions from `first` to before
        `last`. One of which a learned sink takes its part sums to less than 1. Raises NoRows."""
        layer = self._layers[block]
        if layer.biased:
            raise NoRows("what this model adds to its attention scores is not kept")
        if layer.key is None:
            raise NoRows("this model keeps its keys compressed")
        if layer.first_visible(first) < layer.first_column:
            raise NoRows("some of the keys that this text looked at are no longer in the cache")
        heard = self._queries[block]
        query = heard[0] if len(heard) == 1 else torch.cat(heard, 1)
        start = layer.probe.attention_state.newest + 1 - query.shape[1]
        positions = range(first, last)
        weights, _ = layer.weights(positions, query[:, first - start : last - start])
        return pad(weights[..., : last - layer.first_column], (layer.first_column, 0))

    def means(self, block: int, queries: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Mean of heads, of queries at these (m,) ascending positions: stretches of them, and their (n, keys up to
        the last of them) rows, of what keys get: each sums to 1. Raises NoRows."""
        layer = self._layers[block]
        n_heads, n_keys = layer.probe.n_heads, int(queries[-1]) + 1
        for stretch in torch.split(queries, max(TOGETHER // (n_heads * n_keys), 1)):
            first, last = int(stretch[0]), int(stretch[-1]) + 1
            weights = self.weights(block, first, last)[:, stretch - first]
            yield stretch, (weights / weights.sum(-1, keepdim=True)).mean(0)


@contextmanager
def attention_maps(watching: AttentionInstrument, blocks: Iterable[int], n: int) -> Iterator[AttentionMaps]:
    """Hear the newest n queries of some blocks (1-based), for as long as the `with` lasts. Raises NoRows for a block
    that has no attention rows."""
    known = {layer.index + 1: layer for layer in watching.layers}
    wanted = list(blocks)
    for block in wanted:
        if block not in known:
            raise NoRows(f"block {block} of this model has no attention rows, and what it mixes cannot be followed")
    maps = AttentionMaps([known[block] for block in wanted], n)
    modules = {watching.architecture.attention_modules[block - 1]: block for block in wanted}
    of_module = {module: block for module, block in modules.items() if module is not None}
    with overheard(of_module, partial(_hear, maps, of_module)):
        yield maps


def _hear(maps: AttentionMaps, blocks: dict[nn.Module, int], module: nn.Module, attended: Attended) -> None:
    maps.take(blocks[module], attended)


def groups(watching: AttentionInstrument, blocks: Sequence[int], n: int, n_bytes: int) -> Iterator[Sequence[int]]:
    """Blocks in groups, as they come, whose n queries each take no more than so many bytes."""
    architecture = watching.architecture
    head = max((getattr(module, "head_dim", 0) for module in architecture.attention_modules if module), default=0)
    width = max(architecture.n_heads * head, architecture.d_model)
    together = max(n_bytes // (4 * n * width), 1)
    yield from (blocks[at : at + together] for at in range(0, len(blocks), together))


def first_aside(rows: Tensor, queries: Tensor) -> Tensor:
    """(n, keys) rows without what the first token of the text gets, renormalised; attention rests there where it
    finds nothing (Xiao et al. 2024). Those that see nothing else stay. queries: (n,) positions."""
    rest = rows.clone()
    rest[:, 0] = 0.0
    left = rest.sum(-1, keepdim=True)
    alone = (left <= math.ulp(1.0)) | (queries == 0)[:, None]
    return torch.where(alone, rows, rest / left.clamp(min=math.ulp(1.0)))
