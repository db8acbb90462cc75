"""Controls: what is set for the next step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tui_entropy.engine.lenses.lens import LOGIT_LENS, Lens
from tui_entropy.records.sampling import Knobs


@dataclass(frozen=True, slots=True)
class Controls:
    """The settings of a person, as the loop needs them."""

    knobs: Knobs
    offsets: Mapping[int, Tensor]
    """Block (1-based) -> (d_model,) added to its output."""
    clarifier: int | None = None
    """The token that the adaptive sampler may ask with."""
    breakers: frozenset[int] = frozenset()
    """Tokens that end a repeated sequence for DRY."""
    watched: tuple[int, ...] = ()
    """Tokens that are followed."""
    lens: Lens | None = LOGIT_LENS
    """What layers are read through where the lens is on; None for one that cannot be had."""
