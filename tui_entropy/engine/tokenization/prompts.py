"""The tokens that a text begins with: a prompt, or a text that is there already and is read."""

from __future__ import annotations

from typing import NamedTuple

from tui_entropy.core.errors import UserError
from tui_entropy.engine.tokenization.tokenizer import Tokenizer, prompt_tokens
from tui_entropy.records.commands import Write
from tui_entropy.records.model import ModelCard


class EncodedPrompt(NamedTuple):
    text: str
    """As it was asked for; of a conversation in the form of the chat template."""
    chat: bool
    """The chat template made the form of it."""
    prompt_ids: list[int]
    """What is read before the first step."""
    given_ids: list[int]
    """The tokens of the first steps, which nobody draws."""
    left_out: tuple[str, ...] = ()
    """What the chat template leaves out, as `Rendered.left_out`."""


def encoded_prompt(tokenizer: Tokenizer, card: ModelCard, write: Write) -> EncodedPrompt:
    """Raises UserError for what cannot be encoded, and for more than the model reads."""
    if write.token_ids:
        unknown = [one for one in write.token_ids if one >= card.vocab]
        if unknown:
            raise UserError(f"there is no token {unknown[0]}: this model has those from 0 to {card.vocab - 1}")
        ids = list(write.token_ids)
        text = write.prompt or "".join(token.text for token in prompt_tokens(tokenizer, ids))
        return _as_asked(card, write, text, ids)
    if write.messages:
        turns = [(one.role, one.content) for one in write.messages]
        text = tokenizer.template.conversation(turns, opening=not write.read)
        return _as_asked(card, write, text, tokenizer.encode_as_it_is(text))
    if write.read:
        return _read(card, write.prompt, tokenizer.encode(write.prompt, None, False))
    chat = write.chat
    if chat is None:  # a chat of nothing asks nothing: an empty prompt is where a text begins
        chat = card.has_chat_template and (write.prompt, write.system) != ("", None)
    ids = tokenizer.encode(write.prompt, write.system, chat)
    _check_length(card, ids, "prompt")
    left_out = tokenizer.template.rendered(write.prompt, write.system).left_out if chat else ()
    return EncodedPrompt(write.prompt, chat, ids, [], left_out)


def _as_asked(card: ModelCard, write: Write, text: str, ids: list[int]) -> EncodedPrompt:
    """A text to be read, or a prompt, of ids that are known."""
    if write.read:
        return _read(card, text, ids)
    _check_length(card, ids, "prompt")
    return EncodedPrompt(text, False, ids, [])


def _read(card: ModelCard, text: str, ids: list[int]) -> EncodedPrompt:
    _check_length(card, ids, "text")
    if len(ids) < 2:
        raise UserError("there is no text to read: it has one token at most, and nothing comes before the first")
    return EncodedPrompt(text, False, ids[:1], ids[1:])


def _check_length(card: ModelCard, ids: list[int], what: str) -> None:
    if len(ids) >= card.context:
        raise UserError(
            f"the {what} has {len(ids)} tokens and {card.name} reads at most {card.context}, the answer included: "
            f"shorten the {what}"
        )
