"""The target of an attribution: the logit of a token, or the difference of two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from msgspec import Meta

from tui_entropy.core.errors import UserError
from tui_entropy.engine.probes.probe import ProbeContext
from tui_entropy.records.bounds import Position

TokenId = Annotated[Position, Meta(description="Id of the token that is explained; none for the one written there.")]
AgainstId = Annotated[
    Position, Meta(description="Id of another token: what speaks for the one and against the other is told.")
]


class Target(NamedTuple):
    signs: Mapping[int, float]
    """Token id -> what its logit is multiplied with before they are summed."""
    name: str
    unit: str
    """'nats' for a difference of logits, which is one of ln p; empty for one logit, which is no such thing."""

    @property
    def is_difference(self) -> bool:
        return len(self.signs) > 1


def target_of(at: ProbeContext, token: int | None, against: int | None, best: int) -> Target:
    """What is explained. best: id of the most probable token, for a place where none is written yet. Raises
    UserError."""
    chosen = token if token is not None else at.token_id if at.token_id is not None else best
    vocab = at.loaded.card.vocab
    for one in (chosen, against):
        if one is not None and one >= vocab:
            raise UserError(f"there is no token {one} in this model's vocabulary: take one from 0 to {vocab - 1}")
    if against is None:
        return Target({chosen: 1.0}, _name(at, chosen), "")
    if against == chosen:
        raise UserError(f"{_name(at, chosen)} differs in nothing from itself: take another token for against")
    return Target({chosen: 1.0, against: -1.0}, f"{_name(at, chosen)} and not {_name(at, against)}", "nats")


def _name(at: ProbeContext, token: int) -> str:
    return repr(at.loaded.tokenizer.token_bytes(token).decode("utf-8", "replace"))
