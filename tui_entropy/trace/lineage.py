"""Stretch: the part of a text that one run wrote."""

from __future__ import annotations

from typing import NamedTuple

MAX_MISSING_STEPS = 256
"""Steps in a row that may be missing from a damaged file; they are unknown, as seq 0 does not occur."""


class Stretch(NamedTuple):
    """Steps that one run wrote, of those that a text is made of."""

    run: int
    first: int
    last: int
    """The first that is no longer one of them."""
