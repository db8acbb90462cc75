"""The bytes that each token adds to a text, as the tokenizer's own decode has it.

A token of a byte-level vocabulary is bytes wherever it stands. Of other kinds a token may bring a space or not, by
what is before it: its text there is what decode gives with it, less what decode gives without it, for which a few
tokens before it are enough.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tui_entropy.core.sequences import n_common

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A byte that no token covers, as SentencePiece writes it."""
CONTEXT_TOKENS = 4
"""Tokens before one on which its text may hang: a character is four bytes at most."""
REPLACED = "\N{REPLACEMENT CHARACTER}"
MAX_CACHED_TOKENS = 1 << 16
"""Tokens after others whose text is remembered."""
CONTEXT_FREE = {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Metaspace", "WordPiece"}
"""Decoders that take each token by itself, but for the first of a text, which may lose the space before it."""


def _byte_level_alphabet() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte: itself where it can be seen, else from 256 on.

    Source: GPT-2, encoder.py, bytes_to_unicode.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = sorted(set(range(256)) - set(visible))
    return {chr(byte): byte for byte in visible} | {chr(256 + nth): byte for nth, byte in enumerate(hidden)}


ALPHABET = _byte_level_alphabet()


class TokenDecoder:
    """Decodes tokens to bytes, alone and in their places."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        decoders = list(_decoders(self._backend))
        kinds = [decoder["type"] for decoder in decoders]
        plain = self._backend is not None and _decodes_plainly(tokenizer)
        self._byte_level = plain and "ByteLevel" in kinds and set(kinds) <= {"ByteLevel", "Fuse"}
        self._byte_fallback = "ByteFallback" in kinds
        self._context_free = plain and all(map(_is_context_free, decoders)) and _nothing_crosses(kinds)
        self._bytes_of: dict[int, bytes] = {}
        self._bytes_after: dict[tuple[int, ...], bytes] = {}

    def has_token(self, token_id: int) -> bool:
        """Whether the tokenizer has a token of that id."""
        if self._backend is not None:
            return token_id >= 0 and self._backend.id_to_token(token_id) is not None
        return token_id in self.token_ids

    @cached_property
    def token_ids(self) -> frozenset[int]:
        """The ids of all its tokens."""
        return frozenset(self._tokenizer.get_vocab().values())

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds in a text, behind the end of a word; none for an id without a token."""
        if token_id not in self._bytes_of:
            self._bytes_of[token_id] = self._added_bytes((self.plain_token_id,), token_id)
        return self._bytes_of[token_id]

    def all_token_bytes(self) -> dict[int, bytes]:
        """The same of every token: id -> bytes."""
        left = [id for id in self.token_ids if id not in self._bytes_of]
        if self._context_free and not self._byte_level:  # one by one it takes seconds for a large vocabulary
            had = self._decode([self.plain_token_id])
            texts = self._backend.decode_batch([[self.plain_token_id, id] for id in left], skip_special_tokens=False)
            for id, text in zip(left, texts, strict=True):
                part = self._raw_bytes(id)
                self._bytes_of[id] = _new_bytes(had, text) if part is None else part
        return {id: self.token_bytes(id) for id in self.token_ids}

    def token_bytes_after(self, before: Sequence[int], token_id: int) -> bytes:
        """The bytes that a token adds after these tokens; none before it mean that the text begins with it."""
        if self._context_free and before:
            return self.token_bytes(token_id)
        key = (*before[-CONTEXT_TOKENS:], token_id)
        if key not in self._bytes_after:
            if len(self._bytes_after) >= MAX_CACHED_TOKENS:
                self._bytes_after.clear()
            self._bytes_after[key] = self._added_bytes(key[:-1], token_id)
        return self._bytes_after[key]

    @cached_property
    def plain_token_id(self) -> int:
        """The id of some token that is text and ends a word, if one is found without a search."""
        ids: list[int] = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        added = self._tokenizer.added_tokens_decoder
        likely = (id for id in [*reversed(ids), *sorted(self.token_ids)] if id not in added and self.has_token(id))
        return next((id for id in likely if self._byte_level or self._raw_bytes(id) is None), -1)

    def _added_bytes(self, before: Sequence[int], token_id: int) -> bytes:
        if not self.has_token(token_id):
            return b""
        part = self._raw_bytes(token_id)
        if part is not None and (before or self._byte_level or REPLACED in self._decode([token_id])):
            return part
        # Bytes of a character that is not whole are told already.
        whole = [id for id in before if self._raw_bytes(id) is None]
        known = whole if whole or not before else [self.plain_token_id]
        return _new_bytes(self._stable_text(known), self._stable_text([*known, token_id]))

    def _raw_bytes(self, token_id: int) -> bytes | None:
        """The bytes of a token that may be a part of a character; None for one that is text."""
        if not self._byte_level and not self._byte_fallback:
            return None
        token: str = self._backend.id_to_token(token_id) or ""
        if self._byte_level:
            known = all(char in ALPHABET for char in token)
            return bytes(ALPHABET[char] for char in token) if known else token.encode()
        byte = BYTE_TOKEN.fullmatch(token)
        return bytes.fromhex(byte[1]) if byte else None

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids))

    def _stable_text(self, ids: list[int]) -> str:
        """The text that decode gives for these, as far as it stays so whatever comes next."""
        if not ids:
            return ""
        text = self._decode(ids)
        if self._context_free:
            return text
        text = text[: n_common(text, self._decode([*ids, self.plain_token_id]))]
        # What ends in a mark may still become a character, unless the mark is a token's own.
        own = any(REPLACED in token for token in self._tokenizer.convert_ids_to_tokens(ids))
        return text if own else text.rstrip(REPLACED)


def _new_bytes(had: str, has: str) -> bytes:
    return has[n_common(had, has) :].encode("utf-8", "surrogatepass")


def _decodes_plainly(tokenizer: Any) -> bool:
    """Nothing acts on a text but the decoders of the tokenizers library."""
    from transformers import PreTrainedTokenizerFast

    cleans_up = tokenizer.clean_up_tokenization_spaces and (
        type(tokenizer.backend_tokenizer.model).__name__ != "BPE"
        or tokenizer.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output
    )
    return type(tokenizer)._decode is PreTrainedTokenizerFast._decode and not cleans_up


def _decoders(backend: Any) -> Iterator[dict[str, Any]]:
    """The decoders as the tokenizers library keeps them, those of a sequence one by one. Without any it puts spaces
    between tokens."""
    if backend is None or backend.decoder is None:
        return
    waiting = [json.loads(backend.decoder.__getstate__())]
    while waiting:
        decoder = waiting.pop(0)
        if decoder["type"] == "Sequence":
            waiting = [*decoder["decoders"], *waiting]
        else:
            yield decoder


def _is_context_free(decoder: dict[str, Any]) -> bool:
    return decoder["type"] in CONTEXT_FREE or (decoder["type"] == "Strip" and not decoder["stop"])


def _nothing_crosses(kinds: Sequence[str]) -> bool:
    """Once tokens are fused, whatever is replaced may reach from one into the next."""
    return "Fuse" not in kinds or set(kinds[kinds.index("Fuse") + 1 :]) <= {"Fuse", "Strip"}
