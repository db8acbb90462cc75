"""Tokenizer: text to tokens and back. A token is bytes: characters may be spread over several of them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tui_entropy.core.errors import UserError
from tui_entropy.engine.sources.reading import reading, said_by
from tui_entropy.engine.tokenization.chat_templates import ChatTemplate
from tui_entropy.engine.tokenization.token_decoder import CONTEXT_TOKENS, TokenDecoder
from tui_entropy.records.step import PromptToken

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokenizer:
    """A model's tokenizer, in terms of ids and bytes."""

    def __init__(
        self,
        hf_tokenizer: PreTrainedTokenizerBase,
        eos_ids: Iterable[int] = (),
        n_embeddings: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        """`eos_ids`: those that the model's generation configuration ends a text with. `n_embeddings`: how many ids
        the model has an embedding for, where the tokenizer may have more. `chat_template`: the name of the one that
        is meant, where there are several. Raises UserError where there is none of that name."""
        self.hf_tokenizer = hf_tokenizer
        self.decoder = TokenDecoder(hf_tokenizer)
        self.template = ChatTemplate(hf_tokenizer, chat_template)
        self._model_eos_ids = frozenset(eos_ids)
        self._n_embeddings = n_embeddings
        self._containing: dict[tuple[str, ...], frozenset[int]] = {}

    @property
    def has_chat_template(self) -> bool:
        return bool(self.template)

    def encode(self, prompt: str, system: str | None, chat: bool) -> list[int]:
        """Ids of a prompt, up to where the model is to go on.

        In chat, `system` and `prompt` go through the model's template, which then opens the answer. Otherwise the
        prompt stands alone, with whatever the model's tokenizer puts before a text, and `system` is left out.
        Raises UserError without a template, for a template that takes no system prompt, and for no tokens at all.
        """
        ids = (
            self._encode_text(self.template.rendered(prompt, system).text)
            if chat
            else self._encode_completion(prompt)
        )
        if not ids:
            raise UserError("the prompt is empty and the model has no token to begin with; write a prompt")
        return self._checked(ids, "the prompt")

    def encode_as_it_is(self, text: str) -> list[int]:
        """Ids of a text with nothing before it, such as one that a chat template made. Raises UserError."""
        return self._checked(self._encode_text(text), "the text")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for in the midst of a text; none for an id without a token."""
        return self.decoder.token_bytes(token_id)

    def encode_continuation(self, text: str) -> list[int]:
        """Ids of a text in the midst of another. A tokenizer that puts a space before every text puts none here.

        Raises UserError for a token that the model has no embedding for.
        """
        ids = self._encode_text(text)
        if self._decode_bytes(ids) != text.encode():
            behind = self._encode_text("\n" + text)
            ends = [n for n in range(min(len(behind), 4)) if self._decode_bytes(behind[n:]) == text.encode()]
            ids = behind[ends[0] :] if ends else ids
        return self._checked(ids, repr(text))

    def _decode_bytes(self, ids: Sequence[int]) -> bytes:
        return DecodeStream(self, [self.decoder.plain_token_id]).decode_bytes(ids)

    def _encode_text(self, text: str) -> list[int]:
        """Ids of a text as it is, without anything before or behind it."""
        return self._encode(text, add_special_tokens=False)

    def _encode(self, text: str, **how: bool) -> list[int]:
        """Ids of a text. Raises UserError for one that the tokenizer cannot read, or not make ids of."""

        def refusal(error: BaseException) -> UserError:
            start = repr(text[:40]) + "..." * (len(text) > 40)
            return UserError(
                f"the model's tokenizer cannot read {start} ({said_by(error)}): write something else, or fetch the "
                "model again if its tokenizer is damaged"
            )

        with reading(refusal):
            return [int(id) for id in self.hf_tokenizer(text, **how)["input_ids"]]

    def _encode_completion(self, prompt: str) -> list[int]:
        """Ids of a prompt with what the tokenizer puts before a text, and without what it puts behind one: a text
        that goes on has not ended."""
        if not prompt:
            begin = self.hf_tokenizer.bos_token_id
            return self._first_ids or ([] if begin is None else [begin])
        ids, own = self._encode(prompt), self._encode_text(prompt)
        wanted = self._first_ids + own
        if ids[: len(wanted)] == wanted:
            return wanted
        return ids[:-1] if ids[-1:] != own[-1:] and ids[-1:] == [self.hf_tokenizer.eos_token_id] else ids

    @cached_property
    def _first_ids(self) -> list[int]:
        """Ids that the tokenizer puts before every text."""
        ids, own = self._encode("a"), self._encode_text("a")
        places = (n for n in range(len(ids)) if ids[n : n + len(own)] == own)
        return ids[: next(places, 0)]

    def _checked(self, ids: list[int], where: str) -> list[int]:
        unknown = next((id for id in ids if self._n_embeddings is not None and id >= self._n_embeddings), None)
        if unknown is not None:
            token = self.hf_tokenizer.convert_ids_to_tokens(unknown)
            raise UserError(
                f"{where} holds {token!r}, which is token {unknown} of the tokenizer, and the model knows tokens up "
                f"to {(self._n_embeddings or 0) - 1} only: leave it out"
            )
        return ids

    def encode_single_token(self, text: str) -> int | None:
        """The id that the text is as a whole; None where it takes none or several, or one unknown to the model."""
        try:
            ids = self.encode_continuation(text)
        except UserError:
            return None
        return ids[0] if len(ids) == 1 else None

    def tokens_containing(self, strings: tuple[str, ...]) -> frozenset[int]:
        """Ids of all tokens whose text contains one of the strings. Looked up once per set of strings."""
        if strings not in self._containing:
            texts = [string.encode() for string in strings]
            every = self.decoder.all_token_bytes().items()
            self._containing[strings] = frozenset(id for id, data in every if any(text in data for text in texts))
        return self._containing[strings]

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a text: the model's, the tokenizer's, and what the chat template puts after an answer."""
        own = {self.hf_tokenizer.eos_token_id} - {None}
        return self._model_eos_ids | own | self._end_of_turn()

    def _end_of_turn(self) -> frozenset[int]:
        """The special token right after an answer, which for some models differs from their end of text."""
        try:
            after = self._encode_text(self.template.behind_an_answer)[:1]
        except UserError:
            return frozenset()
        return frozenset(id for id in after if id in self.hf_tokenizer.added_tokens_decoder)


class Utf8Stream:
    """Decodes bytes that come in parts, each character as soon as it is whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, data: bytes) -> str:
        """The text that `data` completes. Bytes that can be part of no character become U+FFFD."""
        return self._decoder.decode(data)

    def peek(self, data: bytes) -> str:
        """The text that `data` would complete."""
        state = self._decoder.getstate()
        try:
            return self._decoder.decode(data)
        finally:
            self._decoder.setstate(state)

    def close(self) -> str:
        """U+FFFD if a character was left open."""
        return self._decoder.decode(b"", final=True)


class DecodeStream:
    """Decodes tokens that come one by one, each to what it adds in its place."""

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = ()) -> None:
        """before: what stands before the first of them, which is no part of the text."""
        self._decoder = tokenizer.decoder
        self._context = tuple(filter(self._decoder.has_token, before[-CONTEXT_TOKENS:]))
        self._utf8 = Utf8Stream()

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that this token would add."""
        return self._decoder.token_bytes_after(self._context, token_id)

    def peek(self, token_id: int) -> str:
        """The characters that it would complete."""
        return self._utf8.peek(self.token_bytes(token_id))

    def push(self, token_id: int) -> str:
        """Decode the token that comes next: the characters that it completes."""
        text = self._utf8.push(self.token_bytes(token_id))
        if self._decoder.has_token(token_id):
            self._context = (*self._context, token_id)[-CONTEXT_TOKENS:]
        return text

    def decode_bytes(self, token_ids: Iterable[int]) -> bytes:
        """Decode the tokens that come next: the bytes that they add."""
        parts = []
        for token_id in token_ids:
            parts.append(self.token_bytes(token_id))
            self.push(token_id)
        return b"".join(parts)


def prompt_tokens(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[PromptToken, ...]:
    """A prompt's tokens, each with the text that it completes."""
    stream = DecodeStream(tokenizer)
    return tuple(PromptToken(id, stream.token_bytes(id), stream.push(id)) for id in ids)
