"""Two models over one text, read in step: how far apart they are at each token, and what each says there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from tui_entropy.engine.instruments.prompt_scores import CACHED_BYTES, SLICE_BYTES
from tui_entropy.engine.instruments.tensor_metrics import entropy, kl, log_probs, surprisal
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.measure.finite import first_broken, refuse
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.batches import Together, batches
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.scoring.scorer import POOL, OffsetsOf, Wanted, score_batch
from tui_entropy.engine.steering.hooks import steering

TOP = 5
"""Most probable tokens of each model that are told of each token."""
NUMBERS = ("kl", "surprisal_a", "surprisal_b", "entropy_a", "entropy_b", "p_a", "p_b")
"""Of each token: KL(A || B), what is said of the one that came, how spread each is, and its probability."""


WANTED = Wanted((), residual=True)


def _unsteered(passage: Passage) -> Mapping[int, Tensor]:
    """Said, and not left out: both sides may be one model, which would go on as it was steered last."""
    return {}


class Side(NamedTuple):
    """One of the two: a model with what steers it, and the passages as it reads them."""

    loaded: Loaded
    passages: Sequence[Passage]
    offsets: OffsetsOf | None = None


class Apart(NamedTuple):
    """A passage, token by token, on the host."""

    numbers: Tensor
    """(n, len(NUMBERS)) float32, nats."""
    ids: Tensor
    """(n, 2, TOP) int64: the most probable tokens of A, and those of B."""
    p: Tensor
    """(n, 2, TOP, 2) float32: what A and B give each of them."""


def compare(a: Side, b: Side, together: Together) -> Iterator[Apart]:
    """Passages in their order; those of both sides have the same targets. Both models are in memory, and no matrix of
    tokens x vocab is. Raises NotFinite for logits that are no numbers."""
    pairs = iter(zip(a.passages, b.passages, strict=True))
    with ExitStack() as hooks:
        steer_a = hooks.enter_context(steering(a.loaded.architecture))
        same = a.loaded is b.loaded
        steer_b = steer_a if same else hooks.enter_context(steering(b.loaded.architecture))
        while some := list(islice(pairs, POOL)):
            found: dict[int, Apart] = {}
            longer = [max(pair, key=len) for pair in some]
            for batch in batches(longer, together):
                sides = []
                for side, steer, which in ((a, steer_a, 0), (b, steer_b, 1)):
                    its = [some[at][which] for at in batch]
                    sides.append(score_batch(side.loaded, its, WANTED, side.offsets or _unsteered, steer))
                for at, one, other in zip(batch, *sides, strict=True):
                    assert one.residual is not None and other.residual is not None
                    found[at] = _apart(a.loaded, b.loaded, one.residual, other.residual, some[at][0].targets)
            yield from (found[at] for at in range(len(some)))


@torch.inference_mode()
def _apart(a: Loaded, b: Loaded, one: Tensor, other: Tensor, targets: Sequence[int]) -> Apart:
    vocab = min(a.architecture.vocab, b.architecture.vocab)
    row_bytes = 4 * max(a.architecture.vocab, b.architecture.vocab)
    wanted = torch.tensor(list(targets))
    parts: list[Apart] = []
    n_slices = max(-(-len(wanted) * row_bytes // SLICE_BYTES), 1)
    n_measured = max(CACHED_BYTES // (2 * row_bytes), 1)
    for first, second, its in zip(*(each.tensor_split(n_slices) for each in (one, other, wanted)), strict=True):
        logits = unembed(a.model, a.architecture, first), unembed(b.model, b.architecture, second)
        for la, lb, at in zip(*(torch.split(each, n_measured) for each in (*logits, its)), strict=True):
            parts.append(_measured(la[:, :vocab], lb[:, :vocab].to(la.device), at.to(la.device)))
    found = Apart(*(torch.cat(each).cpu() for each in zip(*parts, strict=True)))
    for model, residual, columns in ((a, one, (1, 3)), (b, other, (2, 4))):
        if (at := first_broken(found.numbers[:, columns].numpy())) is not None:
            refuse(unembed(model.model, model.architecture, residual[at : at + 1])[0], "at a token of a text")
    return found


def _measured(logits_a: Tensor, logits_b: Tensor, targets: Tensor) -> Apart:
    """(n, vocab), (n, vocab) and (n,)."""
    logp = log_probs(logits_a), log_probs(logits_b)
    told = [kl(*logp), *(surprisal(each, targets) for each in logp), *map(entropy, logp)]
    told += [(-each).exp() for each in told[1:3]]
    ids = torch.stack([each.topk(min(TOP, each.shape[1]), -1).indices for each in logp], 1)
    flat = ids.flatten(1)
    p = torch.stack([each.gather(-1, flat).exp() for each in logp], -1)
    return Apart(torch.stack(told, -1), ids, p.view(*ids.shape, 2))
