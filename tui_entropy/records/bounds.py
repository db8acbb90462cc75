"""The bounds of values from elsewhere: types of numbers and texts that messages are checked against."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

# What a command may hold, and what is part of one. Looked at where it is decoded, before it costs anything; what only
# a model can say, such as whether there is such a layer, is asked where it is obeyed.

MOST_TOKENS = 10**7
"""Tokens that can be asked for at a time."""
MOST_QUERIES, MOST_KEYS = 128, 2048
"""Rows and columns of attention that can be asked for at a time."""
LONGEST_STAY = 10 * 365 * 24 * 3600.0
"""Seconds that an engine may stay alone."""

LARGEST_WHOLE = 2**62
"""Of numbers that only a model can judge, such as the id of a token."""

Whole = Annotated[int, Meta(ge=0, le=LARGEST_WHOLE)]
Position = Annotated[int, Meta(ge=0, le=10**9)]
"""In a text or a list, from 0 on; also a run or a token's id."""
Number = Annotated[int, Meta(ge=1, le=10**9)]
"""Counted from 1."""
Strength = Annotated[float, Meta(ge=-1e9, le=1e9)]
Words = Annotated[str, Meta(max_length=4096)]
"""A name, a path, an expression."""
MAX_CHARS = 2**24
"""Of a text; no model reads as much."""
Text = Annotated[str, Meta(max_length=MAX_CHARS)]
MAX_RELAYED_BYTES = 2**22
"""Of a request or an answer that passed through a proxy, in one message."""
RelayedBytes = Annotated[bytes, Meta(max_length=MAX_RELAYED_BYTES)]
Ids = Annotated[tuple[Position, ...], Meta(max_length=2**20)]
