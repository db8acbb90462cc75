"""From the tensors of one step to its record, in one copy off the device."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tui_entropy.engine.metrics import entropy, log_probs, rank, surprisal, surprisal_moments
from tui_entropy.engine.sampling import Chained
from tui_entropy.engine.text import Codec, Utf8Stream
from tui_entropy.records import Candidate, Grid, Step

if TYPE_CHECKING:
    from tui_entropy.engine.decode import Instruments

LARGEST_EXACT = 2**24
"""Whole numbers below this survive the float32 of the one copy; no vocabulary comes near it."""

Numbers = Mapping[str, npt.NDArray[np.float32]]


def measured(logits: Tensor, token: Tensor, chained: Chained, probes: Instruments, k: int) -> dict[str, Tensor]:
    """Everything that a step says in numbers, still on the device and not waited for.

    logits: (vocab,) float32 of the model. token: 0-d id that was drawn. chained: the final scores.
    """
    assert logits.numel() < LARGEST_EXACT
    logp, final_logp = log_probs(logits), log_probs(chained.scores)
    logprobs, ids = logp.topk(min(k, logp.numel()))
    mean, variance = surprisal_moments(logp)
    return {
        "token_id": token,
        "entropy": mean,
        "varentropy": variance,
        "surprisal": surprisal(logp, token),
        "rank": rank(logp, token),
        "final_entropy": entropy(final_logp),
        "final_prob": final_logp[token].exp(),
        "ids": ids,
        "logprobs": logprobs,
        "final_probs": final_logp[ids].exp(),
        "cut": chained.cut(ids),
        "survivors": torch.stack([left for _, left in chained.survivors]) if chained.survivors else ids[:0],
        "head_entropy": probes.attention.entropies(),
        "blocks": probes.residual.stats(),
    }


def brought_over(tensors: Mapping[str, Tensor]) -> Numbers:
    """Every tensor as float32 on the host, flattened, through a single copy (which waits for the device)."""
    flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors.values()]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors.values()])
    return dict(zip(tensors, np.split(flat, ends[:-1]), strict=True))


def step_record(
    numbers: Numbers,
    stages: tuple[str, ...],
    visible_keys: tuple[int | None, ...],
    codec: Codec,
    text: Utf8Stream,
    *,
    run: int,
    index: int,
    position: int,
    clock: Clock,
) -> Step:
    """Name the numbers of one step. `stages`: of the sampling chain, those that were on."""
    token_id = int(numbers["token_id"][0])
    data = codec.token_bytes(token_id)
    block_mean, block_std, block_norm = numbers["blocks"].reshape(-1, 3).T.tolist()
    n_layers = len(visible_keys)
    return Step(
        run=run,
        index=index,
        position=position,
        token_id=token_id,
        data=data,
        text=text.push(data),
        entropy=float(numbers["entropy"][0]),
        varentropy=float(numbers["varentropy"][0]),
        surprisal=float(numbers["surprisal"][0]),
        rank=int(numbers["rank"][0]),
        final_entropy=float(numbers["final_entropy"][0]),
        final_prob=float(numbers["final_prob"][0]),
        candidates=_candidates(numbers, stages, codec),
        survivors=tuple(zip(stages, map(int, numbers["survivors"]), strict=True)),
        head_entropy=Grid.of(numbers["head_entropy"].reshape(n_layers, -1)),
        visible_keys=visible_keys,
        block_mean=tuple(block_mean),
        block_std=tuple(block_std),
        block_norm=tuple(block_norm),
        forward_seconds=clock.forward_seconds,
        sample_seconds=clock.sample_seconds,
        at=clock.at,
    )


def _candidates(numbers: Numbers, stages: tuple[str, ...], codec: Codec) -> tuple[Candidate, ...]:
    rows = zip(
        numbers["ids"].tolist(),
        numbers["logprobs"].tolist(),
        numbers["final_probs"].tolist(),
        numbers["cut"].tolist(),
        strict=True,
    )
    return tuple(
        Candidate(
            token_id=int(token_id),
            data=codec.token_bytes(int(token_id)),
            logprob=logprob,
            final_prob=final_prob,
            cut=stages[int(stage)] if stage >= 0 else None,
        )
        for token_id, logprob, final_prob, stage in rows
    )


class Clock:
    """Seconds of each forward pass and of what follows it, and of all work so far (pauses not counted).

    On CUDA a forward pass is still running when the host is done with it: the device's own events are read for it,
    after the step's one copy has waited for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._worked = 0.0
        self.forward_seconds = 0.0
        self.sample_seconds = 0.0
        self.at = 0.0
        """Seconds of work from the first `start` to the last `stop`."""

    def start(self) -> None:
        self._began = perf_counter()
        self._events = [self._event()]

    def forward_done(self) -> None:
        self.forward_seconds = perf_counter() - self._began
        self._events.append(self._event())

    def stop(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()
            began, done = self._events
            assert began is not None and done is not None
            self.forward_seconds = began.elapsed_time(done) / 1000
        total = perf_counter() - self._began
        self.sample_seconds = max(total - self.forward_seconds, 0.0)
        self.at = self._worked + total

    def rest(self) -> None:
        """The turn is over: what was done since `stop` was work too, what comes now is not."""
        self._worked += perf_counter() - self._began

    def _event(self) -> torch.cuda.Event | None:
        if not self._cuda:
            return None
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
