"""A draw by our own sampling chain from a distribution that somebody else computed, such as a server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from tui_entropy.engine.kernels.threads import one_thread
from tui_entropy.engine.sampling.chain import apply, draw, force_token
from tui_entropy.engine.sampling.distribution import SamplingContext
from tui_entropy.records.arrays import Grid
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.source import OwnDraw
from tui_entropy.records.step import Stage


@one_thread
def own_draw(
    logprobs: npt.NDArray[np.float32],
    knobs: Knobs,
    prompt: Sequence[int],
    written: Sequence[int],
    candidates: Sequence[int],
    banned: Iterable[int] = (),
    forced: int | None = None,
) -> OwnDraw:
    """logprobs: (vocab,) nats, in place of logits: they differ by a constant, which only the repetition penalty
    notices, as it scales scores. prompt, written: ids so far. candidates: ids whose way through the stages is told.

    The draw at a position is the one that an engine here makes from the same distribution and seed. DRY knows no
    texts that end a sequence, and the adaptive samplers, which look at attention, are off.
    """
    scores = torch.from_numpy(logprobs)
    position = len(prompt) + len(written)
    context = SamplingContext(
        torch.tensor(list(prompt), dtype=torch.int64), torch.tensor(list(written), dtype=torch.int64), position,
        banned=frozenset(banned).union(knobs.banned),
    )  # fmt: skip
    chained = apply(knobs, scores, context)
    if forced is not None:
        chained = force_token(chained, "forced", forced)
    token = draw(chained.scores, knobs.seed, position)
    ids = torch.tensor(list(candidates), dtype=torch.int64)
    probs = chained.probs(torch.cat([token.reshape(1), ids])).reshape(len(chained.stages), 1 + len(ids))
    summary = chained.summary().reshape(len(chained.stages), 3).tolist()
    own = scores[torch.cat([token.reshape(1), ids])].exp()
    final = (probs[-1] if chained.stages else own).tolist()
    cut = [chained.stages[int(stage)] if stage >= 0 else None for stage in chained.removed_by(ids).tolist()]
    entropy = summary[-1][2] if chained.stages else float(-(scores.exp() * scores).nan_to_num().sum())
    stages = tuple(Stage(name, int(row[0]), *row[1:]) for name, row in zip(chained.stages, summary, strict=True))
    return OwnDraw(int(token), stages, Grid.of(probs.numpy()), entropy, final[0], tuple(final[1:]), tuple(cut))
