"""Tokens read into the cache, in chunks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import torch
from torch import Tensor

from tui_entropy.engine.architecture.own_caches import IdsCache
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.instruments.prompt_scores import final_residual, scores
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.measure.finite import first_broken, refuse
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.steering.plan import scales_of
from tui_entropy.metrics.registry import SCORES
from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import PromptScores

PREFILL_CHUNK = 512
"""Prompt tokens read at a time, so that masks and activations stay small and a pause or stop is heard soon."""


def read(
    loaded: Loaded,
    instruments: Instruments,
    sequence: TokenSequence,
    last: int,
    offsets: Mapping[int, Tensor],
    run: int,
    scored: bool,
) -> tuple[Tensor, PromptScores | None]:
    """Read the tokens that are not read yet, up to a position, under these offsets; with them the other lanes'.

    Returns the (vocab,) float32 logits after the last of them and, where wanted, what the model thought of the tokens
    of the prompt that follow each.
    """
    if sequence.shadow is not None and sequence.shadow.has_own_pass:
        other = sequence.shadow.sequence
        read(
            loaded,
            instruments,
            other,
            last - sequence.n_tokens + other.n_tokens,
            other.effective_offsets(offsets),
            run,
            False,
        )
    rows = sequence.batch
    under = [offsets, *(row.effective_offsets(offsets) for row in rows[1:])]
    instruments.look_at(sequence)
    first = sequence.n_read
    ids = torch.stack([row.span(first, last) for row in rows])
    targets = sequence.prompt[first + 1 : last + 1]
    scored = scored and len(targets) > 0 and first + len(targets) >= sequence.n_scored
    with ExitStack() as watching:
        held = watching.enter_context(final_residual(loaded.architecture)) if scored else None
        graph = instruments.graph_decoder and instruments.graph_decoder.step
        if graph and held is None and graph.supports(sequence, last) and not any(map(scales_of, under)):
            logits = graph.read(sequence, ids, under)
        else:
            again = isinstance(sequence.cache, IdsCache)
            instruments.steering.set(
                *(row.offsets_by_token(last, its) for row, its in zip(rows, under, strict=True)) if again else under
            )
            logits = forward(loaded, sequence.cache, ids)
    for row, its, offsets_read in zip(rows, logits, under, strict=True):
        row.mark_read(last, offsets_read)
        row.n_read, row.logits = last, its
    if held is None:
        return logits[0], None
    sequence.n_scored = first + 1 + len(targets)
    fresh = held.residual[first - last :]  # a model without a cache has read all before once more
    table = scores(loaded.model, loaded.architecture, fresh[: len(targets)], targets).cpu().numpy()
    if (at := first_broken(table)) is not None:
        refuse(
            unembed(loaded.model, loaded.architecture, fresh[at : at + 1])[0], f"after prompt token {first + at + 1}"
        )
    return logits[0], PromptScores(run, first + 1, Grid.of(table), SCORES)
