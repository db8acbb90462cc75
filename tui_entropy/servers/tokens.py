"""TokenNames: what the tokens of a server are, by id. Where it tells no ids, they are counted as they are met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tui_entropy.core.errors import UserError
from tui_entropy.records.step import NO_ID, PromptToken
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.streams.told_token import Alternative, ToldToken


class TokenName(NamedTuple):
    token_id: int
    token_bytes: bytes


class TokenNames:
    """Of one server. It asks for names that it does not know, several at once."""

    def __init__(self, server: Kind | None = None) -> None:
        """server: whom names are asked of; None for nobody."""
        self._server = server
        self._bytes: dict[int, bytes] = {}
        self._met: dict[bytes, int] = {}
        """Where there are no ids: token -> the number that it has here."""

    def of(self, told: ToldToken) -> TokenName:
        """Its text is what it adds to this very text, and not its name: half a character adds nothing."""
        return self._named(told.token_id, told.token_bytes, told.text)

    def of_alternative(self, one: Alternative) -> TokenName:
        return self._named(one.token_id, one.token_bytes, one.text)

    def learn(self, *tokens: ToldToken) -> None:
        """Ask for the names of those that came without any, all at once. Raises UserError."""
        if self._server is None or not self._server.names_by_id:
            return
        pairs = [(one.token_id, one.token_bytes) for told in tokens for one in told.alternatives]
        pairs += [(told.token_id, told.token_bytes) for told in tokens]
        self.learn_ids(one for one, held in pairs if held is None and one is not None)

    def learn_ids(self, ids: Iterable[int]) -> None:
        """The same of those that are known by their ids alone."""
        unknown = tuple(dict.fromkeys(one for one in ids if one not in self._bytes))
        if unknown and self._server is not None:
            named = self._server.names(unknown)
            self._bytes |= {one: named[one].token_bytes if one in named else b"" for one in unknown}

    def recall(self, known: Mapping[int, bytes]) -> None:
        """These names are known from another session."""
        self._bytes |= known
        if self._server is not None and not self._server.takes_ids:
            self._met |= {held: number for number, held in known.items()}

    def meet(self, tokens: Iterable[PromptToken]) -> None:
        """These are of a text whose tokens came with their names."""
        if self._server is not None and not self._server.names_by_id:
            known = {one.token_id: one.token_bytes for one in tokens if one.token_id != NO_ID and one.token_bytes}
            self._bytes = known | self._bytes

    def _named(self, token_id: int | None, told: bytes | None, text: str) -> TokenName:
        if token_id is None:
            return self._numbered(told if told is not None else text.encode())
        if told is not None:
            self._bytes[token_id] = told
        return TokenName(token_id, self._bytes.get(token_id, text.encode()))

    def _numbered(self, token_bytes: bytes) -> TokenName:
        if not token_bytes:
            return TokenName(NO_ID, b"")
        number = self._met.setdefault(token_bytes, len(self._met))
        self._bytes[number] = token_bytes
        return TokenName(number, token_bytes)

    # --- What breakpoints ask of a tokenizer -------------------------------------------------------------------

    eos_ids: frozenset[int] = frozenset()

    def encode_continuation(self, text: str) -> list[int]:
        """Raises UserError where no ids are to be had, but for a text that was met as one token."""
        if self._server is None or not self._server.takes_ids:
            if text.encode() in self._met:
                return [self._met[text.encode()]]
            raise UserError(f"this server tells no token ids, and {text!r} was not among its tokens yet")
        ids = self._server.encode_continuation(text)
        for one in ids:
            self.learn(ToldToken(one))
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes.get(token_id, b"")
