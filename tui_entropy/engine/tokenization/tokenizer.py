"""Between text and tokens. A token is bytes: characters may be spread over several of them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tui_entropy.core.errors import UserError
from tui_entropy.engine.sources.reading import reading, said_by
from tui_entropy.engine.tokenization.chat_templates import ChatTemplate
from tui_entropy.engine.tokenization.spelling import CONTEXT_TOKENS, Spelling
from tui_entropy.records.step import Piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Codec:
    """A model's tokenizer, in terms of ids and bytes."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ends: Iterable[int] = (),
        rows: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        """`ends`: ids that the model's generation configuration ends a text with. `rows`: how many ids the model has
        an embedding for, where the tokenizer may have more. `chat_template`: the name of the one that is meant, where
        there are several. Raises UserError where there is none of that name."""
        self.tokenizer = tokenizer
        self.spelling = Spelling(tokenizer)
        self.template = ChatTemplate(tokenizer, chat_template)
        self._ends = frozenset(ends)
        self._rows = rows
        self._holders: dict[tuple[str, ...], frozenset[int]] = {}

    @property
    def has_chat_template(self) -> bool:
        return bool(self.template)

    def encode(self, prompt: str, system: str | None, chat: bool) -> list[int]:
        """Ids of a prompt, up to where the model is to go on.

        In chat, `system` and `prompt` go through the model's template, which then opens the answer. Otherwise the
        prompt stands alone, with whatever the model's tokenizer puts before a text, and `system` is left out.
        Raises UserError without a template, for a template that takes no system prompt, and for no tokens at all.
        """
        ids = self._ids(self.template.rendered(prompt, system).text) if chat else self._completed(prompt)
        if not ids:
            raise UserError("the prompt is empty and the model has no token to begin with; write a prompt")
        return self._known_to_model(ids, "the prompt")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for in the midst of a text; none for an id without a token."""
        return self.spelling.anywhere(token_id)

    def encode_continuation(self, text: str) -> list[int]:
        """Ids of a text in the midst of another. A tokenizer that puts a space before every text puts none here.

        Raises UserError for a token that the model has no embedding for.
        """
        ids = self._ids(text)
        if self._spelled_by(ids) != text.encode():
            behind = self._ids("\n" + text)
            ends = [n for n in range(min(len(behind), 4)) if self._spelled_by(behind[n:]) == text.encode()]
            ids = behind[ends[0] :] if ends else ids
        return self._known_to_model(ids, repr(text))

    def _spelled_by(self, ids: Sequence[int]) -> bytes:
        return TextStream(self, [self.spelling.ordinary]).spell(ids)

    def _ids(self, text: str) -> list[int]:
        """Of a text as it is, without anything before or behind it."""
        return self._tokenized(text, add_special_tokens=False)

    def _tokenized(self, text: str, **how: bool) -> list[int]:
        """Raises UserError for a text that the tokenizer cannot read, or not make ids of."""

        def refusal(error: BaseException) -> UserError:
            start = repr(text[:40]) + "..." * (len(text) > 40)
            return UserError(
                f"the model's tokenizer cannot read {start} ({said_by(error)}): write something else, or fetch the "
                "model again if its tokenizer is damaged"
            )

        with reading(refusal):
            return [int(id) for id in self.tokenizer(text, **how)["input_ids"]]

    def _completed(self, prompt: str) -> list[int]:
        """Ids of a prompt with what the tokenizer puts before a text, and without what it puts behind one: a text
        that goes on has not ended."""
        if not prompt:
            begin = self.tokenizer.bos_token_id
            return self._opening or ([] if begin is None else [begin])
        ids, own = self._tokenized(prompt), self._ids(prompt)
        wanted = self._opening + own
        if ids[: len(wanted)] == wanted:
            return wanted
        return ids[:-1] if ids[-1:] != own[-1:] and ids[-1:] == [self.tokenizer.eos_token_id] else ids

    @cached_property
    def _opening(self) -> list[int]:
        """What the tokenizer puts before every text."""
        ids, own = self._tokenized("a"), self._ids("a")
        places = (n for n in range(len(ids)) if ids[n : n + len(own)] == own)
        return ids[: next(places, 0)]

    def _known_to_model(self, ids: list[int], where: str) -> list[int]:
        unknown = next((id for id in ids if self._rows is not None and id >= self._rows), None)
        if unknown is not None:
            token = self.tokenizer.convert_ids_to_tokens(unknown)
            raise UserError(
                f"{where} holds {token!r}, which is token {unknown} of the tokenizer, and the model knows tokens up "
                f"to {(self._rows or 0) - 1} only: leave it out"
            )
        return ids

    def single_token(self, text: str) -> int | None:
        """The id that the text is as a whole; None where it takes none or several, or one unknown to the model."""
        try:
            ids = self.encode_continuation(text)
        except UserError:
            return None
        return ids[0] if len(ids) == 1 else None

    def containing(self, strings: tuple[str, ...]) -> frozenset[int]:
        """Ids of all tokens whose text contains one of the strings. Looked up once per set of strings."""
        if strings not in self._holders:
            texts = [string.encode() for string in strings]
            every = self.spelling.everywhere().items()
            self._holders[strings] = frozenset(id for id, data in every if any(text in data for text in texts))
        return self._holders[strings]

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a text: the model's, the tokenizer's, and what the chat template puts after an answer."""
        own = {self.tokenizer.eos_token_id} - {None}
        return self._ends | own | self._end_of_turn()

    def _end_of_turn(self) -> frozenset[int]:
        """The special token right after an answer, which for some models differs from their end of text."""
        try:
            after = self._ids(self.template.behind_an_answer)[:1]
        except UserError:
            return frozenset()
        return frozenset(id for id in after if id in self.tokenizer.added_tokens_decoder)


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


class TextStream:
    """The text of tokens that come one by one, each with what it adds in its place."""

    def __init__(self, codec: Codec, before: Sequence[int] = ()) -> None:
        """before: what stands before the first of them, which is no part of the text."""
        self._spelling = codec.spelling
        self._before = tuple(filter(self._spelling.knows, before[-CONTEXT_TOKENS:]))
        self._characters = Utf8Stream()

    def adds(self, token_id: int) -> bytes:
        """The bytes that this token would add."""
        return self._spelling.after(self._before, token_id)

    def peek(self, token_id: int) -> str:
        """The characters that it would complete."""
        return self._characters.peek(self.adds(token_id))

    def push(self, token_id: int) -> str:
        """It comes next: the characters that it completes."""
        text = self._characters.push(self.adds(token_id))
        if self._spelling.knows(token_id):
            self._before = (*self._before, token_id)[-CONTEXT_TOKENS:]
        return text

    def spell(self, token_ids: Iterable[int]) -> bytes:
        """These come next: the bytes that they add."""
        parts = []
        for token_id in token_ids:
            parts.append(self.adds(token_id))
            self.push(token_id)
        return b"".join(parts)


def prompt_tokens(codec: Codec, ids: Sequence[int]) -> tuple[Piece, ...]:
    """A prompt's tokens, each with the text that it completes."""
    stream = TextStream(codec)
    return tuple(Piece(id, stream.adds(id), stream.push(id)) for id in ids)
