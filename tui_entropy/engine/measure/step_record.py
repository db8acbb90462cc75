"""From the tensors of one step to its record, in one copy off the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tui_entropy.engine.instruments.head_measures import HeadStatistics
from tui_entropy.engine.instruments.residual import block_stats
from tui_entropy.engine.instruments.step_tensors import StepTensors, computed
from tui_entropy.engine.instruments.tensor_metrics import log_probs, normalised_entropy, rank
from tui_entropy.engine.measure.running_stats import RunningStats
from tui_entropy.engine.sampling.distribution import ChainResult
from tui_entropy.engine.tokenization.tokenizer import DecodeStream
from tui_entropy.metrics.registry import COMPUTED
from tui_entropy.records.arrays import Grid
from tui_entropy.records.step import BLOCKS, Candidate, Stage, Step, Watched

LARGEST_EXACT = 2**24
"""Whole numbers below this survive the float32 of the one copy; no vocabulary comes near it."""

Numbers = Mapping[str, npt.NDArray[np.float32]]


def model_metrics(
    logits: Tensor, attention: HeadStatistics, stream: Tensor, k: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The numbers of what the model says before anything is chosen, still on the device and not waited for.

    logits: (vocab,) float32 of the model. stream: (n_layers, d_model) what its blocks put out. k: candidates. Returns
    (vocab,) ln p, and the numbers by name.
    """
    assert logits.numel() < LARGEST_EXACT
    logp = log_probs(logits)
    best, ids = logp.topk(min(max(k, 2), logp.numel()))
    tensors = StepTensors(logits, logp, best)
    return logp, {
        **{metric.field: computed(metric, tensors) for metric in COMPUTED if not metric.of_token},
        "ids": ids[:k],
        "logprobs": best[:k],
        "head_entropy": attention.entropy,
        "head_varentropy": attention.varentropy,
        "attention": attention.layers,
        "blocks": block_stats(stream),
    }


def choice_metrics(
    logits: Tensor, logp: Tensor, ids: Tensor, chained: ChainResult, token: Tensor
) -> dict[str, Tensor]:
    """The numbers of the choice. logits: (vocab,) float32 of the model, logp: ln p of them. ids: (n,) candidates.
    token: 0-d id that was drawn."""
    watched = torch.cat([token.reshape(1), ids])
    tensors = StepTensors(logits, logp, token=token)
    return {
        **{metric.field: computed(metric, tensors) for metric in COMPUTED if metric.of_token},
        "token_id": token,
        "cut": chained.removed_by(ids),
        "stages": chained.summary(),
        "stage_probs": chained.probs(watched),
    }


def tracked_token_metrics(logits: Tensor, logp: Tensor, watched: Sequence[int] | Tensor) -> dict[str, Tensor]:
    """The numbers of these tokens, (n,) ids. logits, logp: (vocab,) of the model."""
    if not len(watched):
        return {}
    ids = torch.as_tensor(watched, device=logp.device)
    ranks = torch.stack([rank(logp, token) for token in ids])
    return {"watched": torch.stack([ids.float(), logp[ids], ranks.float(), logits[ids]], dim=1)}


def to_host(tensors: Mapping[str, Tensor]) -> Numbers:
    """Every tensor as float32 on the host, flattened, through a single copy (which waits for the device)."""
    return unpack(pack(tensors), {name: tensor.numel() for name, tensor in tensors.items()})


def pack(tensors: Mapping[str, Tensor]) -> Tensor:
    """(n,) float32."""
    return torch.cat([tensor.reshape(-1).float() for tensor in tensors.values()])


def unpack(flat: Tensor, sizes: Mapping[str, int]) -> Numbers:
    """Take apart, on the host, what was put together. sizes: how many numbers each name has."""
    return dict(zip(sizes, np.split(flat.cpu().numpy(), np.cumsum(list(sizes.values()))[:-1]), strict=True))


def step_record(
    numbers: Numbers,
    stages: tuple[str, ...],
    visible_keys: tuple[int | None, ...],
    recent: RunningStats,
    text: DecodeStream,
    **known: Any,
) -> Step:
    """Name the numbers of one step, and judge it by the steps before. It is counted among them by nobody yet.

    stages: of the sampling chain, those that were on. known: further fields.
    """
    token_id = int(numbers["token_id"][0])
    surprisal, entropy = float(numbers["surprisal"][0]), float(numbers["entropy"][0])
    n_layers, n_candidates = len(visible_keys), len(numbers["ids"])
    head_entropy, blocks = numbers["head_entropy"].reshape(n_layers, -1), numbers["blocks"].reshape(n_layers, -1)
    stats = recent.evaluate(
        entropy,
        float(numbers["varentropy"][0]),
        surprisal,
        mean_share(head_entropy, visible_keys),
        blocks[:, BLOCKS.index("norm")],
    )
    stage_probs = numbers["stage_probs"].reshape(len(stages), 1 + n_candidates)
    summary = numbers["stages"].reshape(len(stages), 3).tolist()
    # With no stage on, the final distribution is the model's.
    final = stage_probs[-1] if stages else np.exp([-surprisal, *numbers["logprobs"]])
    return Step(
        token_id=token_id,
        token_bytes=text.token_bytes(token_id),
        text=text.peek(token_id),
        numbers=tuple(_known(numbers[metric.field][0]) for metric in COMPUTED),
        final_entropy=summary[-1][2] if stages else entropy,
        final_prob=float(final[0]),
        candidates=_candidates(numbers, final[1:].tolist(), stages, text),
        stages=tuple(Stage(name, int(row[0]), *row[1:]) for name, row in zip(stages, summary, strict=True)),
        stage_probs=Grid.of(stage_probs),
        head_entropy=Grid.of(head_entropy),
        head_varentropy=Grid.of(numbers["head_varentropy"].reshape(n_layers, -1)),
        attention=Grid.of(numbers["attention"].reshape(n_layers, -1)),
        visible_keys=visible_keys,
        blocks=Grid.of(blocks),
        watched=_watched(numbers),
        **stats._asdict(),
        **known,
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _candidates(
    numbers: Numbers, final: list[float], stages: tuple[str, ...], text: DecodeStream
) -> tuple[Candidate, ...]:
    rows = zip(numbers["ids"].tolist(), numbers["logprobs"].tolist(), final, numbers["cut"].tolist(), strict=True)
    return tuple(
        Candidate(
            token_id=int(token_id),
            token_bytes=text.token_bytes(int(token_id)),
            logprob=logprob,
            final_prob=final_prob,
            cut=stages[int(stage)] if stage >= 0 else None,
        )
        for token_id, logprob, final_prob, stage in rows
    )


def _watched(numbers: Numbers) -> tuple[Watched, ...]:
    if "watched" not in numbers:
        return ()
    rows = numbers["watched"].reshape(-1, 4).tolist()
    return tuple(Watched(int(token_id), logprob, int(place), logit) for token_id, logprob, place, logit in rows)


def mean_share(head_entropy: npt.NDArray[np.float32], visible_keys: Sequence[int | None]) -> float | None:
    """Mean over layers and heads of attention entropy / ln n. head_entropy: (n_layers, n_heads) nats."""
    n_keys = torch.tensor([[keys or math.nan] for keys in visible_keys])
    return _known(float(normalised_entropy(torch.from_numpy(head_entropy), n_keys).nanmean()))
