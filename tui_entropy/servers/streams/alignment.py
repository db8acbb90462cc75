"""TokenAligner: every token of a stream in its place, also those that the server told nothing of.

A server may send several tokens in one event, leave out the entries of some (llama.cpp those that end inside a
character), or send text without any. What is missing becomes a token of which nothing is known, so that no entry is
ever taken for that of its neighbour:

    ids 7, 8, 9 and entries of 7 and 9   ->   7 told, 8 unknown, 9 told
    3 tokens counted and 1 entry         ->   unknown, unknown, told
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from tui_entropy.servers.streams.told_token import Chunk, ToldToken


@dataclass
class Counts:
    """What was not as it should be in a stream so far."""

    tokens: int = 0
    unknown: int = 0
    """Tokens without an entry."""
    left_over: int = 0
    """Entries that belong to no token."""
    at_end: int = 0
    """Tokens that the server counted at the end and never sent: the one that ended the text may be among them."""


@dataclass
class TokenAligner:
    """The tokens of one stream, event by event."""

    counts: Counts = field(default_factory=Counts)

    def take(self, chunk: Chunk) -> list[ToldToken]:
        """The tokens that an event adds, in their order; the texts of several add up to the event's."""
        if chunk.token_ids is not None:
            tokens = self._by_ids(chunk.tokens, chunk.token_ids)
        else:
            tokens = list(chunk.tokens) or [ToldToken()] * bool(chunk.text)
        behind = 0 if chunk.n_tokens is None else chunk.n_tokens - self.counts.tokens - len(tokens)
        self.counts.at_end = max(behind, 0) if not tokens else 0
        if tokens and behind > 0:
            tokens[:0] = [ToldToken()] * behind
        self.counts.tokens += len(tokens)
        self.counts.unknown += sum(not token.is_told for token in tokens)
        return _with_text(tokens, chunk.text)

    def _by_ids(self, entries: Sequence[ToldToken], ids: Sequence[int]) -> list[ToldToken]:
        if len(entries) == len(ids) and all(entry.token_id is None for entry in entries):
            return [replace(entry, token_id=token_id) for entry, token_id in zip(entries, ids, strict=True)]
        fitting = [entry for entry in entries if entry.token_id in ids]
        first = _places(fitting, ids)
        last = [len(ids) - 1 - place for place in reversed(_places(fitting[::-1], ids[::-1]))]
        tokens = [ToldToken(token_id) for token_id in ids]
        # Where an id comes twice and one of the two has no entry, nothing tells whose the other is.
        sure = [(place, entry) for place, other, entry in zip(first, last, fitting, strict=False) if place == other]
        for place, entry in sure:
            tokens[place] = entry
        self.counts.left_over += len(entries) - len(sure)
        return tokens


def _with_text(tokens: list[ToldToken], text: str) -> list[ToldToken]:
    """Where what the tokens say is not what the event adds, the last one has all of it: it may complete a character
    that those before it began."""
    if not tokens or "".join(token.text for token in tokens) == text:
        return tokens
    named = all(token.text for token in tokens)
    if named and not text:  # an entry may say what a text that is held back says
        return tokens
    return [*(replace(token, text="") for token in tokens[:-1]), replace(tokens[-1], text=text)]


def _places(entries: Sequence[ToldToken], ids: Sequence[int]) -> list[int]:
    """Where each entry is among the ids, as early as their order allows; empty where that cannot be."""
    places, place = [], 0
    for entry in entries:
        while place < len(ids) and ids[place] != entry.token_id:
            place += 1
        if place == len(ids):
            return []
        places.append(place)
        place += 1
    return places
