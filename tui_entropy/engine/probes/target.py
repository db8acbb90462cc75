"""The target of an attribution: the logit of a token, or the difference of two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from msgspec import Meta

from tui_entropy.core.errors import UserError
from tui_entropy.engine.probes.probe import ProbeContext
from tui_entropy.records.bounds import Position

_TokenName = Position | Annotated[str, Meta(max_length=200)]
TokenName = Annotated[
    _TokenName,
    Meta(
        description="The token that is explained: a text (a space before it counts) or an id; none for the one "
        "written there."
    ),
]
AgainstName = Annotated[
    _TokenName,
    Meta(
        description="Another token, a text (a space before it counts) or an id: what speaks for the one and against "
        "the other is told."
    ),
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


def target_of(at: ProbeContext, token: int | str | None, against: int | str | None, best: int) -> Target:
    """What is explained. best: id of the most probable token, for a place where none is written yet. Raises
    UserError."""
    written = at.token_id if at.token_id is not None else best
    chosen = written if token is None else token_named(at, token, "token")
    against = None if against is None else token_named(at, against, "against")
    if against is None:
        return Target({chosen: 1.0}, _name(at, chosen), "")
    if against == chosen:
        raise UserError(f"{_name(at, chosen)} differs in nothing from itself: take another token for against")
    return Target({chosen: 1.0, against: -1.0}, f"{_name(at, chosen)} and not {_name(at, against)}", "nats")


def token_named(at: ProbeContext, name: int | str, option: str) -> int:
    """Id of the token with this id, or text, or '#id'. A text that begins a word may lack its space. Raises
    UserError for one that there is not."""
    tokenizer, vocab = at.loaded.tokenizer, at.loaded.card.vocab
    number = name if isinstance(name, int) else int(name[1:]) if re.fullmatch("#[0-9]+", name) else None
    if number is not None and number < vocab:
        return number
    for spelled in () if isinstance(name, int) else (name, f" {name}"):
        if (found := tokenizer.encode_single_token(spelled)) is not None:
            return found
    if number is not None:
        raise UserError(f"there is no token {number} in this model's vocabulary: take one from 0 to {vocab - 1}")
    raise UserError(f"{option} is {name!r}, which is no single token of this model: take a shorter text, or #id")


def _name(at: ProbeContext, token: int) -> str:
    return repr(at.loaded.tokenizer.token_bytes(token).decode("utf-8", "replace"))
