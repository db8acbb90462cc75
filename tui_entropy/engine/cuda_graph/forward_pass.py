"""A decode step over memory that does not move, so that a CUDA graph can hold it (graphs.py).

The rooms of the cache are such memory: keys and values are written there at a position that is a tensor, and
attention runs over the first columns of them under a mask. How many columns depends on the position alone, so that a
step that is gone back to is computed as it was. What a person turns lies in buffers: control vectors are always
added, zeros where there are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tui_entropy.engine.architecture.architecture import CACHE
from tui_entropy.engine.cache.kv_cache import PreallocatedCache
from tui_entropy.engine.cuda_graph.graphs import Graphs, Waits
from tui_entropy.engine.instruments.attention import AttentionInstrument
from tui_entropy.engine.instruments.head_measures import AttentionState
from tui_entropy.engine.instruments.residual import ResidualInstrument
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.steering.hooks import Steering
from tui_entropy.engine.steering.plan import same_offsets

SMALLEST = 256
"""Columns that a step looks at, at least."""
MOST_ROWS = 2
TRIED = 8
"""Tokens of the text by which it is found whether a model can be read so."""
ROUNDING = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Share of the largest logit by which two ways of computing the same may differ."""

Offsets = Mapping[int, Tensor]


def columns_for(n: int) -> int:
    """The number of columns that are looked at with n tokens: powers of two, so that there are few graphs."""
    return max(SMALLEST, 1 << (n - 1).bit_length())


class GraphOutputs(NamedTuple):
    """The tensors that one pass leaves, for each of its rows."""

    logits: Tensor
    """(rows, vocab) float32."""
    measured: Tensor
    """(rows, n_layers, 2 * n_heads + 3): Measures, side by side."""
    vectors: Tensor
    """(n_layers + 1, rows, 1, d_model), the embedding first."""
    queries: Tensor
    """(n_layers, 1, n_heads, 1, d_head) of the first row; of no layer where they are not kept."""
    attention_rows: Tensor
    """(rows, n_rows, WIDTH) as TopRows has them."""


@dataclass(frozen=True)
class Inputs:
    """Buffers that a pass reads."""

    ids: Tensor
    """(rows, 1)."""
    position: Tensor
    """(1,) of the token."""
    offsets: Tensor
    """(n_layers, rows, 1, d_model) added to what each block puts out."""


class GraphForward:
    """Reads single tokens of texts whose keys and values lie in a RoomyCache."""

    def __init__(
        self,
        loaded: Loaded,
        attention: AttentionInstrument,
        residual: ResidualInstrument,
        steering: Steering,
        graphs: Graphs,
    ) -> None:
        self.loaded, self.graphs = loaded, graphs
        self.attention, self.residual, self.steering = attention, residual, steering
        self._inputs: dict[int, Inputs] = {}
        self._under: dict[int, Sequence[Offsets]] = {}
        """What the buffers of so many rows hold."""

    def supports(self, sequence: TokenSequence, last: int) -> bool:
        """Whether the tokens up to a position, that are not read yet, can be read here."""
        return last - sequence.n_read == 1 and sequence.n_read > 0 and len(sequence.batch) <= MOST_ROWS

    def read(self, sequence: TokenSequence, ids: Tensor, under: Sequence[Offsets]) -> Tensor:
        """Read (rows, 1) tokens under these offsets. What the instruments know of it is known then, as after a plain
        pass. Returns (rows, vocab) float32 logits."""
        first, cache, position = sequence.batch[0], sequence.cache, sequence.n_read
        assert isinstance(cache, PreallocatedCache)
        passed = self.run(cache, ids, position, under)
        keys = {index: layer.keys for index, layer in enumerate(cache.rooms)}
        self.attention.record_external_pass(
            first.attention_state, position, passed.measured.clone(), keys, passed.queries.clone(),
            passed.attention_rows.clone(),
        )  # fmt: skip
        first.vectors[:] = passed.vectors.clone().unbind()
        return passed.logits.clone()

    def run(self, cache: PreallocatedCache, ids: Tensor, position: int, under: Sequence[Offsets]) -> GraphOutputs:
        """Run one pass. Its tensors are written over by the next one."""
        n_rows, n_columns = len(ids), columns_for(position + 1)
        rooms = [layer.room(n_columns, n_rows) for layer in cache.rooms]
        inputs = self._fill(ids, position, under)
        addresses = tuple(room.data_ptr() for pair in rooms for room in pair)
        passed = self.graphs.run(("pass", n_rows, n_columns, addresses), lambda: self._pass(inputs, rooms))
        for layer in cache.rooms:
            layer.hold(position + 1)
        return passed

    def _fill(self, ids: Tensor, position: int, under: Sequence[Offsets]) -> Inputs:
        n_rows, architecture = len(ids), self.loaded.architecture
        if n_rows not in self._inputs:
            like = architecture.unembedding.get_parameter("weight")
            offsets = like.new_zeros(architecture.n_layers, n_rows, 1, architecture.d_model)
            self._inputs[n_rows] = Inputs(torch.empty_like(ids), ids.new_empty(1), offsets)
            self._under[n_rows] = [{}] * n_rows
        inputs = self._inputs[n_rows]
        inputs.ids.copy_(ids)
        inputs.position.fill_(position)
        if not all(map(same_offsets, under, self._under[n_rows])):
            inputs.offsets.zero_()
            for row, mapping in enumerate(under):
                for block, push in mapping.items():
                    inputs.offsets[block - 1, row, 0].copy_(push)
            self._under[n_rows] = list(under)
        return inputs

    def _pass(self, inputs: Inputs, rooms: Sequence[tuple[Tensor, Tensor]]) -> GraphOutputs:
        """The step itself, of nothing but tensors that stay where they are."""
        n_rows, n_columns = len(inputs.ids), rooms[0][0].shape[-2]
        cache = DynamicCache()
        cache.layers = [_Columns(keys, values, inputs.position) for keys, values in rooms]
        with self._aside(inputs, n_columns) as held:
            where = inputs.position.expand(n_rows, 1)
            logits = forward(self.loaded, cache, inputs.ids, position_ids=where)
            measured = torch.stack([torch.cat(self.attention.head_statistics(row), -1) for row in range(n_rows)])
            recorded = torch.stack([self.attention.recorded_rows(row).rows for row in range(n_rows)])
            vectors = torch.stack([vector for vector in self.residual.vectors if vector is not None])
            queries = [query[:1] for query in held.queries.values()]
        kept = torch.stack(queries) if queries else logits.new_empty(0)
        return GraphOutputs(logits, measured, vectors, kept, recorded)

    @contextmanager
    def _aside(self, inputs: Inputs, n_columns: int) -> Iterator[AttentionState]:
        """Leave what the instruments hold of the texts as it is; they see what the position lets them see."""
        attention, residual, steering = self.attention, self.residual, self.steering
        before = attention.attention_state, residual.vectors, steering.rows
        attention.attention_state = held = AttentionState(
            keeps=attention.attention_state.keeps and attention.keep > 0
        )
        residual.vectors = [None] * len(residual.vectors)
        attention.masks = attention.visible_columns(inputs.position, n_columns)
        steering.set({block: push for block, push in enumerate(inputs.offsets, 1)})
        try:
            yield held
        finally:
            attention.attention_state, residual.vectors = before[:2]
            attention.masks = {}
            steering.set(*before[2])


class _Columns(DynamicLayer):
    """The first columns of a room. What is new is written at a position that is a tensor."""

    def __init__(self, keys: Tensor, values: Tensor, position: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.position = keys, values, position

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None
        self.keys.index_copy_(2, self.position, key_states)
        self.values.index_copy_(2, self.position, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Not what it is: a graph would hold on to that number, so a model whose logits hang on it must be seen."""
        return 1


@torch.inference_mode()
def unsupported_reason(captured: GraphForward) -> str:
    """Why a model cannot be read so, found by looking at it and by trying: half a sentence, empty if it can."""
    loaded, architecture = captured.loaded, captured.loaded.architecture
    devices = {parameter.device for parameter in loaded.model.parameters()}
    if not architecture.cache_argument:
        return "it keeps nothing of what it has read"
    if not architecture.croppable or architecture.cache_argument != CACHE:
        return "some of its layers keep more than keys and values"
    if len(captured.attention.layers) < architecture.n_layers:
        return "some of its layers have no attention rows"
    if len(devices) > 1:
        return f"it is spread over {len(devices)} devices"
    ids = torch.arange(1, TRIED + 1, device=devices.pop()).clamp(max=architecture.vocab - 1)[None]
    cache = PreallocatedCache()
    try:
        forward(loaded, cache, ids[:, :-1])
        if len(cache.rooms) < architecture.n_layers:
            return "some of its layers share their keys and values"
        with captured.graphs.dry_run():
            captured.run(cache.first(TRIED - 1), ids[:, -1:], TRIED - 1, [{}])
        passed = captured.run(cache.first(TRIED - 1), ids[:, -1:], TRIED - 1, [{}])
        plain = forward(loaded, cache.first(TRIED - 1), ids[:, -1:])  # not before: it fills the same column
    except Exception as error:  # of whatever model, whose code is anybody's
        reason = str(error).strip().split("\n", 1)[0]
        return reason if isinstance(error, Waits) else f"it does not run so ({type(error).__name__}: {reason[:100]})"
    finally:
        captured.attention.forget()
    if captured.graphs.failed:
        return captured.graphs.failed
    apart = float((plain - passed.logits).abs().max() / plain.abs().max())
    if math.isnan(apart) or apart > ROUNDING.get(loaded.model.dtype, 1e-3):
        return f"its logits come out {100 * apart:.2g} % apart"
    return ""
