"""Who looks at what: measures of every head's newest attention row, and single rows on request.

While a probe is open the model runs through an attention function of ours. It computes what the model's own would,
and on the way keeps the scores of the newest query only, so no matrix of queries x keys is ever built. Recent queries
are kept too: with the keys that the cache holds anyway, the row of any of them can be computed again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from tui_entropy.engine.architecture.architecture import Architecture, dispatches_attention
from tui_entropy.engine.instruments.attention_functions import AttentionFunction, calling, own_function
from tui_entropy.engine.instruments.head_measures import HIDDEN, AttentionState, HeadStatistics, measured
from tui_entropy.engine.instruments.row_recording import RowRecording, TopRows, beside_sinks
from tui_entropy.engine.instruments.tensor_metrics import attention_scores
from tui_entropy.engine.kernels import causal_sdpa
from tui_entropy.engine.kernels.threads import one_thread
from tui_entropy.records.arrays import Grid
from tui_entropy.records.probes.attention_rows import AttentionRows, RowWindow
from tui_entropy.records.step import ATTENTION

LARGE = 1 << 20
"""Bytes of a block of memory whose hole others fit into, and whose pages the heap gives back."""
CACHED_SCORES = 1 << 16
"""Scores that are measured at a time: layers together, as long as they and what is made of them stay in the cache."""

Position = TypeVar("Position", int, Tensor)


@contextmanager
def attention_instrument(
    model: PreTrainedModel, architecture: Architecture, keep: int, record: str = "off"
) -> Iterator[AttentionInstrument]:
    """Watch the forward passes of `model`, given a cache as `past_key_values`, for as long as the `with` lasts.

    keep: how many recent queries rows can be asked for; of a batch, those of its first row. record: which rows go
    into the record, as RowRecording wants it. The model's attention implementation is put back, however the block is
    left.
    """
    probe = AttentionInstrument(architecture, keep, record)
    if not probe.layers:
        yield probe
        return
    decoder = architecture.decoder
    own = own_function(decoder)
    functions = {module: own for module in decoder.modules() if dispatches_attention(module)}
    for layer in probe.layers:
        module = architecture.attention_modules[layer.index]
        assert module is not None
        functions[module] = layer.attend
        layer.own = own
    hook = model.register_forward_pre_hook(probe.begin, with_kwargs=True)
    try:
        with calling(decoder, functions):
            yield probe
    finally:
        hook.remove()


class AttentionInstrument:
    """The probe of attention: what the newest query saw, and the queries before it."""

    def __init__(self, architecture: Architecture, keep: int, record: str = "off") -> None:
        self.architecture = architecture
        self.keep = keep
        self.n_heads = architecture.n_heads
        self.recording = RowRecording(record, architecture.n_layers, architecture.n_heads)
        self.layers = [
            AttentionLayer(self, index) for index, has_rows in enumerate(architecture.attention) if has_rows
        ]
        self._by_block = {layer.index: layer for layer in self.layers}
        self.attention_state = AttentionState()
        """Of the text that is read now. Put another one here to read another text in between."""
        self.masks: Mapping[int, Tensor] = {}
        """Layer -> (keys,) bool, which keys the newest query may attend to, where only the device knows."""

    def forget(self) -> None:
        """Let go of all queries, keys and scores, as before a new run."""
        self.attention_state = AttentionState()

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pass begins: make room for its queries, and drop those of tokens taken back since."""
        tokens: Tensor = args[0] if args else kwargs["input_ids"]
        cache: Cache | None = kwargs.get("past_key_values")
        self._begin(self.attention_state, int(cache.get_seq_length()) if cache is not None else 0, tokens.shape[1])

    def _begin(self, held: AttentionState, first: int, n_tokens: int) -> None:
        """Make room for the queries of a pass over `n_tokens` tokens from position `first` on.

        `kept` maps a position to the queries of the pass that read it and its row in them. With keep = 4, after a
        prompt of 3 tokens (pass A) and two single ones (B, C), position 0 has gone for C:

            1: (A, 1)   2: (A, 2)   3: (B, 0)   4: (C, 0)

        A pass that begins at 3 again, since the text was taken back to there, first drops 3 and 4. The queries
        themselves come later, one layer after the other, into the dict that is made here.
        """
        held.newest = first + n_tokens - 1
        while held.kept and next(reversed(held.kept)) >= first:
            held.kept.popitem()
        n = min(n_tokens, self.keep) if held.keeps else 0
        while len(held.kept) > self.keep - n:
            del held.kept[next(iter(held.kept))]
        if held.kept:
            self._pack(held)
            self._shrink(held)
        held.queries, held.measured, held.bias, held.rows = {}, None, (None, None), {}
        held.kept.update((held.newest + 1 - n + row, (held.queries, row)) for row in range(n))

    def record_external_pass(
        self,
        held: AttentionState,
        position: int,
        measured: Tensor,
        keys: Mapping[int, Tensor | None],
        queries: Tensor,
        top: Tensor,
    ) -> None:
        """Take over what was seen in a pass of one token that ran without this probe's looking on.

        measured, keys: as AttentionState has them. queries: (n_layers, 1, n_heads, 1, d_head), or none. top: (batch,
        n_rows, WIDTH) as TopRows has them.
        """
        self._begin(held, position, 1)
        held.measured, held.scores = measured, {}
        held.rows = {row: TopRows(rows, self.recording.shown) for row, rows in enumerate(top)}
        if len(queries) == len(self.layers) and held.keeps:
            held.queries.update(zip((layer.index for layer in self.layers), queries.unbind(), strict=True))
            held.keys = {index: key for index, key in keys.items() if key is not None}

    def visible_columns(self, position: Tensor, n_columns: int) -> Mapping[int, Tensor]:
        """`masks` of a query at a (1,) position over that many keys from the first on."""
        columns = torch.arange(n_columns, device=position.device)
        known: dict[tuple[str, int | None], Tensor] = {}
        for layer in self.layers:
            if (layer.kind, layer.window) not in known:
                known[layer.kind, layer.window] = (columns <= position) & (columns >= layer.first_visible(position))
        return {layer.index: known[layer.kind, layer.window] for layer in self.layers}

    def _pack(self, held: AttentionState) -> None:
        """One block of memory for a pass: many small ones, kept for long, would pin the heap around them. Of a batch
        only the first row is kept. Large ones pin nothing, and would be there twice meanwhile."""
        queries = held.queries
        large = all(len(query) == 1 and query.nbytes >= LARGE for query in queries.values())
        if large or len({query.untyped_storage().data_ptr() for query in queries.values()}) == 1:
            return
        if len({(query.shape, query.device) for query in queries.values()}) == 1:
            together = torch.stack([query[:1] for query in queries.values()])
            queries.update(zip(queries, together.unbind(), strict=True))

    def _shrink(self, held: AttentionState) -> None:
        """A pass of which less than half is kept is held no longer for that. A prompt of 512 tokens is one tensor a
        layer: when its rows 0 to 256 have been dropped one by one, the other 255 are copied out, so that at most
        twice the memory of what is kept is ever held."""
        oldest, (queries, row) = next(iter(held.kept.items()))
        n = next((query.shape[2] for query in queries.values()), 0)
        if 2 * row <= n:
            return
        rest = {index: query[:, :, row:].clone() for index, query in queries.items()}
        for position in range(oldest, oldest + n - row):
            if held.kept.get(position, ({}, 0))[0] is queries:
                held.kept[position] = (rest, position - oldest)

    def head_statistics(self, row: int = 0) -> HeadStatistics:
        """The statistics of every layer and head, of one row of the batch. Nothing is waited for."""
        held = self.attention_state
        if held.measured is not None:
            return self._parts(held.measured[row])
        groups: dict[tuple[torch.Size, torch.device], list[tuple[int, Tensor]]] = {}
        for layer in self.layers:
            if (scores := layer.visible_scores(row)) is not None:
                groups.setdefault((scores.shape, scores.device), []).append((layer.index, scores))
        known: dict[int, Tensor] = {}
        top: list[tuple[list[int], tuple[Tensor, Tensor | None]]] = []
        for group in groups.values():
            together = max(CACHED_SCORES // group[0][1].numel(), 1)
            for part in (group[start : start + together] for start in range(0, len(group), together)):
                blocks = [index for index, _ in part]
                visible = torch.stack([self.masks[index] for index in blocks]) if self.masks else None
                scores = torch.stack([scores for _, scores in part]).flatten(1, 2)
                weights = scores.softmax(-1)  # again: to read those of the pass back into the cache takes as long
                known.update(zip(blocks, measured(scores, weights, visible, self.n_heads).unbind(), strict=True))
                if self.recording:
                    first = 0 if self.masks else held.newest + 1 - scores.shape[-1]
                    of_keys = beside_sinks(
                        weights, scores, [self._by_block[index].newest_sinks(row) for index in blocks]
                    )
                    top.append((blocks, self.recording.top(blocks, of_keys, first, bool(self.masks))))
        device = next(iter(known.values())).device if known else None
        held.rows[row] = TopRows(self.recording.together(top, device), self.recording.shown)
        n_heads, n_layers = self.n_heads, self.architecture.n_layers
        unknown = torch.full((2 * n_heads + len(ATTENTION),), math.nan, device=device)
        return self._parts(torch.stack([known.get(index, unknown).to(device) for index in range(n_layers)]))

    def recorded_rows(self, row: int = 0) -> TopRows:
        """The rows of the newest query that are recorded, of one row of the batch."""
        if row not in self.attention_state.rows:
            self.head_statistics(row)
        return self.attention_state.rows[row]

    def _parts(self, measured: Tensor) -> HeadStatistics:
        return HeadStatistics(*torch.split(measured, [self.n_heads, self.n_heads, len(ATTENTION)], -1))

    def visible_keys(self) -> tuple[int | None, ...]:
        """(n_layers,) keys that the newest query may attend to, from the windows of the layers: without a wait."""
        newest = self.attention_state.newest
        counts = {layer.index: newest + 1 - layer.first_visible(newest) for layer in self.layers}
        return tuple(counts.get(index) for index in range(self.architecture.n_layers))

    @property
    def kept_bytes(self) -> int:
        """The bytes of the queries."""
        return len(self.attention_state.kept) * sum(
            query[:1].nbytes // query.shape[2] for query in self.attention_state.queries.values()
        )

    @torch.inference_mode()
    def rows(self, cache: Cache, ask: RowWindow) -> AttentionRows:
        """The rows asked for, as far as their queries are kept and their keys are in the cache."""
        layer = next((layer for layer in self.layers if layer.index == ask.layer - 1), None)
        if layer is None or not 1 <= (ask.head or 1) <= self.architecture.n_heads:
            head = f"head {ask.head} of " if ask.head else ""
            return _no_rows(ask, f"{head}block {ask.layer} has no attention rows")
        queries = self.attention_state.kept
        if layer.biased:
            return _no_rows(ask, "what this model adds to its scores is not kept")
        if layer.key is None:
            return _no_rows(ask, "this model keeps its keys compressed" if queries else "nothing is read yet")
        first_column = layer.first_column
        positions = [
            position
            for position in range(max(ask.last - ask.n_queries + 1, 0), min(ask.last + 1, cache.get_seq_length()))
            if layer.index in queries.get(position, ({}, 0))[0] and layer.first_visible(position) >= first_column
        ]
        if not positions:
            return _no_rows(ask, f"of this token no query is kept: only of the newest {len(queries)}")
        weights, visible = layer.weights(positions)
        if (ask.head or 1) > len(weights):
            return _no_rows(ask, f"block {ask.layer} has {len(weights)} heads")
        weights = weights.mean(0) if ask.head is None else weights[ask.head - 1]
        shown = weights.masked_fill(~visible, math.nan).cpu().numpy()
        low = max(ask.first_key - first_column, 0)
        high = max(ask.first_key + ask.n_keys - first_column, low)
        grid = np.full((len(positions), ask.n_keys), math.nan, dtype=np.float32)
        inside = shown[:, low:high]
        left = first_column + low - ask.first_key
        grid[:, left : left + inside.shape[1]] = inside
        elsewhere = weights[:, :low].sum(-1) + weights[:, high:].sum(-1)
        return AttentionRows(
            ask.layer, ask.head, tuple(positions), ask.first_key, Grid.of(grid), tuple(elsewhere.tolist())
        )

    def bias(self, mask: Tensor | None, key: Tensor) -> Tensor:
        """The bias of a mask on the newest query's scores: (1 or batch * n_kv_heads, 1 or n_heads / n_kv_heads,
        keys), (1, 1, 1) for none."""
        seen, bias = self.attention_state.bias
        if bias is None or seen is not mask or bias.device != key.device:
            if mask is None:
                bias = torch.zeros(1, 1, 1, device=key.device)
            else:
                each = mask.shape[1] > 1  # a mask of its own for each head
                row = (
                    mask[:, :, -1].reshape(len(mask) * key.shape[1], -1, mask.shape[-1]) if each else mask[:, 0, -1:]
                )
                bias = torch.where(row, 0.0, HIDDEN) if row.dtype is torch.bool else row.float().clamp(min=HIDDEN)
                bias = bias.repeat_interleave(key.shape[1], 0) if len(bias) > 1 and not each else bias
            self.attention_state.bias = (mask, bias)
        return bias


class AttentionLayer:
    """The attention of one block while a probe is open."""

    own: AttentionFunction
    """What the model would call."""

    def __init__(self, probe: AttentionInstrument, index: int) -> None:
        self.probe = probe
        self.index = index
        self.kind = probe.architecture.layer_kinds[index]
        self.window = probe.architecture.windows[index]
        # Latent attention caches less than the keys it expands for one pass: holding on to those would cost more.
        self.holds_keys = not hasattr(probe.architecture.attention_modules[index], "kv_lora_rank")
        self.biased = False
        """What is added to its scores is told with each pass only, so no row can be computed again."""
        self.scaling = 1.0
        self.softcap: float | None = None
        self.sinks: Tensor | None = None
        """(n_heads,) learned scores; (batch, n_heads, queries, 1) where each query has its own."""

    @property
    def key(self) -> Tensor | None:
        return self.probe.attention_state.keys.get(self.index)

    @property
    def first_column(self) -> int:
        """The position of the first of its keys: a cache that slides has dropped those before."""
        assert self.key is not None
        return self.probe.attention_state.newest + 1 - self.key.shape[2]

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The attention function of the library: returns (batch, queries, n_heads, d_value) and no weights."""
        batch, n_heads, n, width = query.shape
        if self.probe.masks:
            attention_mask = self.probe.masks[self.index].view(1, 1, 1, -1)
        self.scaling = kwargs.get("scaling") or width**-0.5
        self.softcap, self.sinks = kwargs.get("softcap"), kwargs.get("s_aux", kwargs.get("sinks"))
        held = self.probe.attention_state
        if self.holds_keys and held.keeps:
            held.keys[self.index] = key
            kept = query[:, :, -self.probe.keep :]
            whole = kept.untyped_storage().nbytes() == kept.nbytes  # else a reference would pin more than itself
            held.queries[self.index] = kept if whole else kept.clone()
        newest = query if n == 1 else query[:, :, -1:]
        by_us = n == 1 and query.dtype is torch.float32 and self.own is causal_sdpa.attend
        with one_thread:
            bias, added = self.probe.bias(attention_mask, key), kwargs.get("position_bias")
            dynamic = added is not None or (self.sinks is not None and self.sinks.dim() == 4)
            self.biased = dynamic or (attention_mask is not None and attention_mask.shape[1] > 1)
            if added is not None:
                bias = bias + added[:, :, -1].reshape(batch * key.shape[1], -1, key.shape[2]).float()
            scores = self._scores(newest, key, bias)
            held.scores[self.index] = scores.view(batch, key.shape[1], -1, key.shape[2])
            if by_us and not kwargs.get("dropout"):
                # The scores are half of the work of attention already; sdpa would do that half again.
                output = torch.bmm(scores.softmax(-1), value.flatten(0, 1))
                return output.view(batch, 1, n_heads, -1), None
        return self.own(module, query, key, value, attention_mask, **kwargs)

    def newest_sinks(self, row: int) -> Tensor | None:
        """(n_heads,) of the newest query of a row of the batch; None without."""
        return self.sinks if self.sinks is None or self.sinks.dim() < 4 else self.sinks[row, :, -1, 0]

    def visible_scores(self, row: int) -> Tensor | None:
        """(n_kv_heads, n_heads / n_kv_heads, visible keys) of the newest query of a row; None before the first."""
        held = self.probe.attention_state
        if self.index not in held.scores:
            return None
        scores = held.scores[self.index][row]
        first_column = held.newest + 1 - scores.shape[-1]
        hidden = 0 if self.probe.masks else self.first_visible(held.newest) - first_column
        return scores[..., max(hidden, 0) :]

    def _scores(self, query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
        """(batch, n_heads, n, d_head) queries -> (batch * n_kv_heads, n_heads / n_kv_heads * n, keys) float32."""
        return attention_scores(query, key, bias, self.scaling, self.softcap)

    def first_visible(self, position: Position) -> Position:
        """The first key that the query at a position may attend to."""
        if self.window is None:
            return position * 0
        if self.kind == "chunked":
            return position // self.window * self.window
        first = position + 1 - self.window
        return first.clamp(min=0) if isinstance(first, Tensor) else max(first, 0)

    def weights(self, positions: Sequence[int], query: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Attention rows of kept queries, or of these (n_heads, n, d_head), over the keys held.

        Returns (n_heads, n, keys) float32, where a sink takes its part of each row, and (n, keys) what is visible.
        """
        assert self.key is not None
        if query is None:
            passes = (self.probe.attention_state.kept[position] for position in positions)
            query = torch.stack([queries[self.index][0, :, row] for queries, row in passes], 1)
        columns = self.first_column + torch.arange(self.key.shape[2], device=query.device)
        newest = torch.tensor([[position] for position in positions], device=query.device)
        oldest = torch.tensor([[self.first_visible(position)] for position in positions], device=query.device)
        visible = (columns >= oldest) & (columns <= newest)
        scores = self._scores(query[None], self.key[:1], self.probe.bias(None, self.key)).view(*query.shape[:2], -1)
        scores = scores.masked_fill(~visible, -math.inf)
        if self.sinks is not None:
            scores = torch.cat([scores, self.sinks.float().view(-1, 1, 1).expand(-1, len(positions), 1)], -1)
        return scores.softmax(-1)[..., : len(columns)], visible


def _no_rows(ask: RowWindow, reason: str) -> AttentionRows:
    return AttentionRows(
        ask.layer, ask.head, (), ask.first_key, Grid.of(np.empty((0, ask.n_keys))), (), unavailable=reason
    )
