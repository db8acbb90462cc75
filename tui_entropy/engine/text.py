"""Between text and tokens. A token is bytes: characters may be spread over several of them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tui_entropy.errors import UserError
from tui_entropy.records import Piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""How SentencePiece spells a byte that no token covers."""


def _byte_level_alphabet() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte: itself where it can be seen, else from 256 on.

    Source: GPT-2, encoder.py, bytes_to_unicode.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = sorted(set(range(256)) - set(visible))
    return {chr(byte): byte for byte in visible} | {chr(256 + nth): byte for nth, byte in enumerate(hidden)}


ALPHABET = _byte_level_alphabet()


class Codec:
    """A model's tokenizer, in terms of ids and bytes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Iterable[int] = ()) -> None:
        """`ends`: ids that the model's generation configuration ends a text with."""
        self.tokenizer = tokenizer
        self._ends = frozenset(ends)
        self._bytes: dict[int, bytes] = {}
        self._holders: dict[tuple[str, ...], frozenset[int]] = {}
        self._added = {id: token.content.encode() for id, token in tokenizer.added_tokens_decoder.items()}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._byte_level = backend is not None and "ByteLevel" in repr(backend.decoder)

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    def encode(self, prompt: str, system: str | None, chat: bool) -> list[int]:
        """Ids of a prompt, up to where the model is to go on.

        In chat, `system` and `prompt` go through the model's template, which then opens the answer. Otherwise the
        prompt stands alone, with whatever the model's tokenizer puts before a text, and `system` is left out.
        Raises UserError without a template, for a template that takes no system prompt, and for no tokens at all.
        """
        if not chat:
            ids = self.tokenizer(prompt)["input_ids"]
            if not ids and self.tokenizer.bos_token_id is not None:
                ids = [self.tokenizer.bos_token_id]
        else:
            ids = self.tokenizer(self._chat(prompt, system), add_special_tokens=False)["input_ids"]
        if not ids:
            raise UserError("the prompt is empty and the model has no token to begin with; write a prompt")
        return list(ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; none for an id that the tokenizer does not use."""
        if token_id not in self._bytes:
            self._bytes[token_id] = self._spelled(token_id)
        return self._bytes[token_id]

    def continuing(self, text: str) -> list[int]:
        """Ids of a text in the midst of another. A tokenizer that puts a space before every text puts none here."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if self._spelled_by(ids) == text.encode():
            return ids
        ids = self.tokenizer("\n" + text, add_special_tokens=False)["input_ids"]
        ends = [n for n in range(min(len(ids), 4)) if self._spelled_by(ids[n:]) == text.encode()]
        return ids[ends[0] :] if ends else self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _spelled_by(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self.token_bytes, ids))

    def single_token(self, text: str) -> int | None:
        """The id that the text is as a whole; None where it takes none or several."""
        ids = self.continuing(text)
        return ids[0] if len(ids) == 1 else None

    def containing(self, strings: tuple[str, ...]) -> frozenset[int]:
        """Ids of all tokens whose text contains one of the strings. Looked up once per set of strings."""
        if strings not in self._holders:
            wanted = [string.encode() for string in strings]
            self._holders[strings] = frozenset(
                id for id in range(len(self.tokenizer)) if any(text in self.token_bytes(id) for text in wanted)
            )
        return self._holders[strings]

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a text: the model's, the tokenizer's, and what the chat template puts after an answer."""
        own = {self.tokenizer.eos_token_id} - {None}
        return self._ends | own | self._end_of_turn()

    def _chat(self, prompt: str, system: str | None) -> str:
        from jinja2 import TemplateError

        if not self.has_chat_template:
            raise UserError(
                "the model has no chat template, so it cannot be asked in chat; use raw completion (--raw)"
            )
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError as refused:
            way_out = "leave out --system" if system is not None else "use raw completion (--raw)"
            raise UserError(f"the model's chat template refuses this prompt ({refused}); {way_out}") from refused

    def _end_of_turn(self) -> frozenset[int]:
        """The special token right after an answer, which for some models differs from their end of text."""
        from jinja2 import TemplateError

        if not self.has_chat_template:
            return frozenset()
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "answer"}]
        try:
            text = str(self.tokenizer.apply_chat_template(turns, tokenize=False))
        except TemplateError:
            return frozenset()
        after = self.tokenizer(text.rpartition("answer")[2], add_special_tokens=False)["input_ids"][:1]
        return frozenset(id for id in after if id in self._added)

    def _spelled(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id]
        token = self.tokenizer.convert_ids_to_tokens(token_id) if token_id < len(self.tokenizer) else None
        if not isinstance(token, str):
            return b""
        if self._byte_level:
            return b"".join(bytes((ALPHABET[c],)) if c in ALPHABET else c.encode() for c in token)
        if byte := BYTE_TOKEN.fullmatch(token):
            return bytes.fromhex(byte[1])
        return token.replace("▁", " ").encode()


class Utf8Stream:
    """Text out of bytes that come in pieces, each character as soon as it is whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, data: bytes) -> str:
        """What `data` completes. Bytes that can be part of no character become U+FFFD."""
        return self._decoder.decode(data)

    def peek(self, data: bytes) -> str:
        """What `data` would complete."""
        state = self._decoder.getstate()
        try:
            return self._decoder.decode(data)
        finally:
            self._decoder.setstate(state)

    def close(self) -> str:
        """U+FFFD if a character was left open."""
        return self._decoder.decode(b"", final=True)


def pieces(codec: Codec, ids: Sequence[int]) -> tuple[Piece, ...]:
    """A prompt's tokens, each with the text that it completes."""
    stream = Utf8Stream()
    spelled = [(id, codec.token_bytes(id)) for id in ids]
    return tuple(Piece(id, data, stream.push(data)) for id, data in spelled)
