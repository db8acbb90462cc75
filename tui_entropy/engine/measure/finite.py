"""Logits that are no numbers: found by what is measured in any case, told with how many they are and where."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tui_entropy.core.errors import UserError


class NotFinite(UserError):
    """No token can be chosen, and no number of this step is one."""


def broken(logp: Tensor) -> bool:
    """Whether (vocab,) ln p are no numbers: none is where one logit is NaN or infinite, or all are impossible. No
    where looking would wait for the device."""
    return logp.device.type == "cpu" and math.isnan(float(logp[0]))


def refuse(logits: Tensor, where: str) -> None:
    """Raise NotFinite for (vocab,) logits from which nothing follows. where: as 'at step 3'."""
    kinds = (
        ("NaN", logits.isnan()),
        ("+inf", logits == torch.inf),
        ("-inf", (logits == -torch.inf) & (logits == -torch.inf).all()),
    )
    found = [(name, which) for name, which in kinds if bool(which.any())]
    if not found:
        return
    counts = " and ".join(f"{name} in {int(which.sum())}" for name, which in found)
    first = int(torch.stack([which for _, which in found]).any(0).nonzero()[0])
    raise NotFinite(
        f"{counts} of {len(logits)} logits {where}, first token id {first}: the weights are damaged or a number "
        "overflowed, so try --dtype float32, weaker vectors, or fetch the model again"
    )


def first_broken(scores: npt.NDArray[np.float32]) -> int | None:
    """The first row of (n, metrics) scores of a text that are no numbers, by the first metric: entropy of SCORES."""
    rows = np.flatnonzero(np.isnan(scores[:, 0]))
    return int(rows[0]) if len(rows) else None
