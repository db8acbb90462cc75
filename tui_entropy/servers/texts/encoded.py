"""The tokens that a run begins with: a prompt, or a text that is there already and is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Message, Write
from tui_entropy.records.model import ModelCard
from tui_entropy.records.step import PromptToken
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.kinds.prompt_tokens import UNREADABLE, tokens_of_bytes, tokens_of_text
from tui_entropy.servers.run import messages_of
from tui_entropy.servers.tokens import TokenNames


class EncodedText(NamedTuple):
    text: str
    """As it was asked for; of a conversation that is read in the form of the chat template."""
    chat: bool
    """The answer to a conversation is written."""
    prompt: tuple[PromptToken, ...]
    """What stands before the first step."""
    given: tuple[PromptToken, ...] = ()
    """The tokens of the first steps, which nobody draws."""
    messages: tuple[Message, ...] = ()
    """Of a conversation that is sent as messages."""


def encoded(server: Kind, names: TokenNames, card: ModelCard, write: Write) -> EncodedText:
    """Raises UserError for what this server cannot be sent, and for more than it reads."""
    if write.read or write.token_ids:
        return _of_ids(server, names, card, write)
    messages = () if write.chat is False else write.messages or messages_of(write.prompt, write.system)
    prompt = server.encode_chat(messages) if messages else server.encode(write.prompt)
    if not prompt:
        raise UserError("there is nothing to write on from: give a prompt")
    _check_length(card, prompt, "prompt")
    names.meet(prompt)
    return EncodedText(write.prompt, bool(messages), prompt, (), messages if server.chat else ())


def _of_ids(server: Kind, names: TokenNames, card: ModelCard, write: Write) -> EncodedText:
    if not server.takes_ids:
        raise UserError(
            f"{server.title} tells no token ids, so that no text can be read through it token by token: vLLM, "
            "llama.cpp's server and SGLang do, and so does a model that is loaded here"
        )
    tokens = _tokens(server, names, write)
    names.meet(tokens)
    text = write.prompt or "".join(token.text for token in tokens)
    _check_length(card, tokens, "text" if write.read else "prompt")
    if not write.read:
        return EncodedText(text, False, tokens)
    if len(tokens) < 2:
        raise UserError("there is no text to read: it has one token at most, and nothing comes before the first")
    return EncodedText(text, False, tokens[:1], tokens[1:])


def _tokens(server: Kind, names: TokenNames, write: Write) -> tuple[PromptToken, ...]:
    if write.token_ids:
        return tokens_of_ids(server, names, write.token_ids, write.prompt)
    if write.messages:
        return server.encode_chat(write.messages, opening=False)
    return server.encode(write.prompt)


def tokens_of_ids(server: Kind, names: TokenNames, ids: Sequence[int], text: str) -> tuple[PromptToken, ...]:
    """text: what they say together, of which the server may make the very same. Raises UserError."""
    tokens = server.encode(text) if text else ()
    if [one.token_id for one in tokens] == list(ids):
        return tokens
    names.learn_ids(ids)
    known = [names.token_bytes(one) for one in ids]
    if all(known):
        return tokens_of_bytes(zip(ids, known, strict=True))
    return tokens_of_text(ids, [one.decode("utf-8", "replace") or UNREADABLE for one in known], text)


def _check_length(card: ModelCard, tokens: Sequence[PromptToken], what: str) -> None:
    if card.context and len(tokens) >= card.context:
        raise UserError(
            f"the {what} has {len(tokens)} tokens and this server reads at most {card.context}, the answer included: "
            f"shorten the {what}"
        )
