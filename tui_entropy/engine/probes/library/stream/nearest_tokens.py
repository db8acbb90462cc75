"""The tokens whose input and output embeddings are nearest to the residual stream of a token, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from torch import Tensor

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.decomposition.residual_stream import watching_stream
from tui_entropy.engine.embeddings.nearest import Nearest, Similarity, nearest
from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Cell, Column, Panel, Table, Tokens


class NearestOptions(Struct, frozen=True, forbid_unknown_fields=True):
    k: Annotated[int, Meta(ge=1, le=20, description="How many tokens of each embedding are told.")] = 4
    similarity: Annotated[Similarity, Meta(description="What near means.")] = "cosine"
    every: Annotated[int, Meta(ge=1, le=64, description="Every so many layers, from the last one back.")] = 1


def compute(at: ProbeContext, options: NearestOptions) -> Iterator[Panel]:
    """A table for each embedding that the model has; of one that is both, one."""
    architecture = at.loaded.architecture
    matrices = _matrices(architecture)
    with watching_stream(architecture, 1) as watch, at.replay(1):
        stream = watch.stream()[:, 0]
    layers = range(len(stream) - 1, -1, -options.every)
    vectors = stream[list(layers)]
    for name, matrix in matrices.items():
        if matrix.shape[1] != vectors.shape[1]:
            raise Unavailable(
                f"its {name} embedding is {matrix.shape[1]} wide and what its blocks put out {vectors.shape[1]}"
            )
        found = nearest(vectors.to(matrix.device), matrix, options.k, options.similarity)
        yield _table(at, name, list(layers), vectors, found, options)


def _matrices(architecture: Architecture) -> dict[str, Tensor]:
    into, out = (part.get_parameter("weight") for part in (architecture.embedding, architecture.unembedding))
    tied = into is out or into.data_ptr() == out.data_ptr()
    return {"input and output": into} if tied else {"input": into, "output": out}


def _table(
    at: ProbeContext, name: str, layers: list[int], vectors: Tensor, found: Nearest, options: NearestOptions
) -> Table:
    lengths = vectors.float().norm(dim=-1).tolist()

    def row(place: int) -> tuple[Cell, ...]:
        cells: list[Cell] = [str(layers[place]), lengths[place], float(found.values[place, 0])]
        ids = found.ids[place].tolist()
        return (*cells, *(at.token(one) for one in ids))

    near = "distance" if options.similarity == "euclidean" else options.similarity
    columns = (
        Column("layer"), Column("length"), Column(near),
        *(Column(f"no. {nth}") for nth in range(1, found.ids.shape[1] + 1)),
    )  # fmt: skip
    title = f"nearest in the {name} embedding, by {options.similarity}"
    return Table(title, columns, tuple(map(row, range(len(layers)))))


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """The first, a middle and the last layer: lengths, and cosines in float64 to every embedding there is."""
    stream = evidence.stream()
    if stream is None:
        return
    for table in answer.panels:
        assert isinstance(table, Table)
        matrix = evidence.embedding(is_output=table.title.startswith("nearest in the output"))
        lengths = np.linalg.norm(matrix, axis=1)
        for layer in (0, len(stream) // 2, len(stream) - 1):
            _, length, value, *tokens = table.rows[len(stream) - 1 - layer]
            size = float(np.linalg.norm(stream[layer]))
            cosine = matrix @ stream[layer] / np.maximum(lengths * size, 1e-300)
            told = [cosine[token.ids[0]] for token in tokens if isinstance(token, Tokens)]
            yield Difference(length, size, size)  # type: ignore[arg-type]
            yield Difference(value, cosine.max(), 1.0)  # type: ignore[arg-type]
            yield Difference(told, np.sort(cosine)[::-1][: len(told)], 1.0)


def memory(card: ModelCard, position: int, options: NearestOptions) -> int:
    """The similarities of every layer to every token."""
    return 3 * 4 * (card.n_layers + 1) * card.vocab


PROBE = Probe(
    "nearest-tokens",
    "The tokens whose embeddings are nearest to the residual stream here, layer by layer.",
    ONE_PASS,
    NearestOptions,
    compute,
    check,
    memory=memory,
)
