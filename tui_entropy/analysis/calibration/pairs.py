"""Pairs: how sure a model was, whether it was right, and where; of tokens of texts or of questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tui_entropy.analysis.calibration.measures import Flags, Floats


class Place(NamedTuple):
    """Where a pair is."""

    text: int
    """Of what was read together."""
    position: int
    """Of the token in it."""
    said: int
    """What the model held for most probable: a token's id, or the place of an answer."""


@dataclass(frozen=True)
class Pairs:
    """Arrays of n pairs."""

    confidence: Floats
    correct: Flags
    surprisal: Floats
    """Nats, of what was right."""
    brier: Floats
    """Sum over all classes of (p - whether it was right)², 0 ... 2."""
    groups: npt.NDArray[np.int64]
    """What is drawn together where an interval is worked out: a text, or a question."""
    places: Sequence[Place]

    def __len__(self) -> int:
        return len(self.confidence)

    @classmethod
    def together(cls, parts: Iterable[Pairs]) -> Pairs:
        """Those of several, one behind the other. There is one at least."""
        some = list(parts)
        return cls(
            np.concatenate([part.confidence for part in some]),
            np.concatenate([part.correct for part in some]),
            np.concatenate([part.surprisal for part in some]),
            np.concatenate([part.brier for part in some]),
            np.concatenate([part.groups for part in some]),
            [place for part in some for place in part.places],
        )

    @property
    def of_true_label(self) -> Pairs:
        """With the probability of what was right for a confidence, and right where that is above one half."""
        p = np.exp(-self.surprisal)
        return Pairs(p, p > 0.5, self.surprisal, self.brier, self.groups, self.places)


def of_logits(logits: Floats, right: Sequence[int], places: Sequence[Place], temperature: float = 1.0) -> Pairs:
    """Pairs of (n, classes) logits, where -inf is no class."""
    at = np.asarray(right)
    scaled = logits / temperature
    logp = scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)
    p, rows = np.exp(logp), np.arange(len(at))
    said = p.argmax(1)
    brier = np.square(p).sum(1) - 2 * p[rows, at] + 1
    with_said = [place._replace(said=int(one)) for place, one in zip(places, said, strict=True)]
    return Pairs(p.max(1), said == at, -logp[rows, at], brier, np.array([one.text for one in places]), with_said)
