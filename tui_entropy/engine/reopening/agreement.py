"""How a text that was read again agrees with what was recorded of it."""

from __future__ import annotations

import torch

from tui_entropy.engine.instruments.tensor_metrics import log_probs
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.step import Step

ROUNDING = {"float32": 1e-2, "bfloat16": 0.5, "float16": 0.1}
"""dtype -> nats that rounding alone comes to at most, when a text is read in other stretches than at first."""


def rounding(dtype: str) -> float:
    return ROUNDING.get(dtype, ROUNDING["bfloat16"])


@torch.inference_mode()
def difference(sequence: TokenSequence, newest: Step) -> float | None:
    """The largest difference of ln p, in nats, over the candidates that were recorded of the newest step. 0 is the
    same to the bit; None where there is nothing to compare.

    The sequence is read but for its newest token, so that its logits are those which that token was chosen by.
    """
    if sequence.logits is None or not newest.candidates or newest.index != sequence.n_written - 1:
        return None
    ids = torch.tensor([one.token_id for one in newest.candidates], device=sequence.logits.device)
    then = torch.tensor([one.logprob for one in newest.candidates])
    return float((log_probs(sequence.logits)[ids].cpu() - then).abs().max())
