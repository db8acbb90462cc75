"""Stretch: the part of a text that one run wrote."""

from __future__ import annotations

from typing import NamedTuple

from tui_entropy.records.model import ModelCard

GAP = 256
"""Steps in a row that may be missing from a damaged file; they are unknown, as seq 0 does not occur."""
LONGEST_TOKEN = 2**14
"""Bytes; no tokenizer has one of as many."""
MOST_NUMBERS = 2**22
"""Of a grid; a model card that asks for more is not ours."""


class Stretch(NamedTuple):
    """Steps that one run wrote, of those that a text is made of."""

    run: int
    first: int
    last: int
    """The first that is no longer one of them."""


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _sane(card: ModelCard) -> bool:
    per_block = {len(card.layer_kinds), len(card.windows), len(card.attention)}
    return per_block == {card.n_layers} and card.n_heads > 0 and card.n_layers * card.n_heads <= MOST_NUMBERS
