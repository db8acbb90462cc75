"""Knobs: how a token is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct, defstruct

from tui_entropy.records.bounds import Whole, Words
from tui_entropy.stages.registry import ORDERS, STAGE_KNOBS

if TYPE_CHECKING:  # those that are looked at beside the chain

    class StageKnobs(Struct, frozen=True):
        temperature: float = 0.7
        top_k: int = 40
        top_p: float = 0.95
        min_p: float = 0.0
        dry_multiplier: float = 0.0
        dry_breakers: tuple[str, ...] = ()
        mirostat_tau: float = 0.0
        mirostat_eta: float = 0.1

else:
    StageKnobs = defstruct(
        "StageKnobs",
        [(knob.name, knob.type or type(knob.default), knob.default) for knob in STAGE_KNOBS],
        frozen=True,
        module=__name__,
    )


class Knobs(StageKnobs, frozen=True):
    """Everything that shapes the draw: the knobs of every stage, and those below; and what each step carries with it.
    Acts from the next token on."""

    adaptive: Words = "off"
    """Which Entropix sampler changes the knobs at each step: 'off', 'S1', 'S3', or 'own', calibrated on this text."""
    clarifier: Words = ""
    """What that sampler writes where the model is sure to be unsure; must be one token. Empty is off."""
    banned: Annotated[tuple[Whole, ...], Meta(max_length=2**20)] = ()
    """Ids of tokens that are never written. They go before the first stage."""
    order: Annotated[tuple[Words, ...], Meta(max_length=64)] = ORDERS["hf"]
    seed: int = 7
    """The draw at a position is a function of this and the position."""
    n_candidates: int = 20
    """How many candidates each step carries."""
    lens: int = 0
    """Steps carry what every so many layers would have said, from the last one back. 0 is off."""
    lens_steps: int = 1
    """Every so many steps carry it."""
    lens_file: Words = ""
    """A tuned lens (a folder) or a Jacobian lens (a file) that it is read through. Empty: the logit lens."""

    @property
    def order_name(self) -> str:
        """The preset that this order is, or 'custom'. Stages that this program or the one that wrote it lacks do not
        count."""
        return next((name for name, order in ORDERS.items() if _alike(order, self.order)), "custom")


def _alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two orders share most of their stages, and have those one after the other alike."""
    shared = [stage for stage in one if stage in other]
    most = 2 * len(shared) > max(len(one), len(other))
    return most and shared == [stage for stage in other if stage in one]


VARIANTS = ("off", "S1", "S3", "own")
"""Of the adaptive sampler. 'own' has the conditions of S1 with thresholds from this text."""
