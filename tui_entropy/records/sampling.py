"""Knobs: how a token is chosen, and the orders that the stages may have."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tui_entropy.records.bounds import Whole, Words

# --- Knobs ---------------------------------------------------------------------------------------------------

PENALTIES = ("repetition_penalty", "frequency_penalty", "presence_penalty")

LAST = ("xtc_probability", "mirostat_tau")
"""Stages that look at what is left in the end."""

ORDERS: dict[str, tuple[str, ...]] = {
    "hf": (*PENALTIES, "dry_multiplier", "temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma", *LAST),
    "llama.cpp": (
        *PENALTIES, "dry_multiplier", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc_probability",
        "temperature", "mirostat_tau",
    ),
    "vllm": (
        *PENALTIES, "dry_multiplier", "temperature", "min_p", "top_k", "top_p", "typical_p", "top_n_sigma", *LAST,
    ),
}  # fmt: skip
"""The stages of the sampling chain in the order of each engine. One that an engine lacks stands beside its like or
comes last, so that no knob is silently without effect. A stage is named after the knob that sets it."""


class Knobs(Struct, frozen=True):
    """Everything that shapes the draw. Acts from the next token on."""

    temperature: float = 0.7
    """0 is greedy."""
    top_k: int = 40
    """0 is off."""
    top_p: float = 0.95
    """1 is off."""
    min_p: float = 0.0
    """Relative to the most probable token. 0 is off."""
    typical_p: float = 1.0
    """1 is off."""
    top_n_sigma: float = 0.0
    """0 is off."""
    repetition_penalty: float = 1.0
    """Over prompt and written tokens. 1 is off."""
    frequency_penalty: float = 0.0
    """Over written tokens only, per occurrence. 0 is off."""
    presence_penalty: float = 0.0
    """Over written tokens only. 0 is off."""
    penalty_last_n: int = 0
    """Newest tokens, prompt included, that penalties and DRY look back over, as in llama.cpp. 0 is no such window:
    then repetition and DRY see everything, frequency and presence what was written."""
    dynatemp_range: float = 0.0
    """The temperature moves this far to either side with the entropy of what is left. 0 is off."""
    dynatemp_exponent: float = 1.0
    dry_multiplier: float = 0.0
    """0 is off."""
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_breakers: Annotated[tuple[Words, ...], Meta(max_length=4096)] = ("\n", ":", '"', "*")
    """A token that contains one of these ends a repeated sequence."""
    xtc_probability: float = 0.0
    """Of the stage acting on a step. 0 is off."""
    xtc_threshold: float = 0.1
    """Probability; above 0.5 the stage is off."""
    mirostat_tau: float = 0.0
    """Surprisal in bits that mirostat v2 aims at. 0 is off."""
    mirostat_eta: float = 0.1
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

    @property
    def order_name(self) -> str:
        """The preset that this order is, or 'custom'."""
        return next((name for name, order in ORDERS.items() if order == self.order), "custom")


VARIANTS = ("off", "S1", "S3", "own")
"""Of the adaptive sampler. 'own' has the conditions of S1 with thresholds from this text."""
