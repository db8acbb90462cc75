"""The chat template of a model: a program from elsewhere that puts what was said into the form that it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tui_entropy.core.errors import UserError
from tui_entropy.engine.tokenization.bounded import Unfinished, run_bounded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]
DEFAULT = "default"
"""The template that is taken of several unless another is named."""
MAX_PROMPT_CHARS = 2**24
"""Characters of a question as the model is asked it; no model reads as much."""
MAX_REASON_CHARS = 200
"""Characters of what a template says of itself that go into a sentence."""


@dataclass(frozen=True)
class Rendered:
    text: str
    """Up to where the model is to go on."""
    left_out: tuple[str, ...]
    """What the text does not hang on, 'the system prompt' or 'the prompt'."""


class ChatTemplate:
    """The one that is meant of those that a tokenizer has."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str | None = None) -> None:
        """name: of several. Raises UserError where none is called so."""
        self._tokenizer = tokenizer
        template: Any = getattr(tokenizer, "chat_template", None)
        self.sources = _texts(template if isinstance(template, Mapping) else {DEFAULT: template})
        """Name -> template."""
        if name is not None and name not in self.sources:
            there = f"it has {', '.join(sorted(self.sources))}" if self.sources else "it has none"
            raise UserError(f"the model has no chat template called {name}: {there}; see --chat-template")
        self._name = name or (next(iter(self.sources)) if len(self.sources) == 1 else DEFAULT)
        self._rendered: tuple[tuple[str, str | None], Rendered] | None = None
        """The last answer, and what it is to."""

    def __bool__(self) -> bool:
        return bool(self.sources)

    def rendered(self, prompt: str, system: str | None) -> Rendered:
        """A question as the model is asked it. Raises UserError where the template cannot do that."""
        asked = prompt, system
        if self._rendered is None or self._rendered[0] != asked:
            self._rendered = asked, self._render(prompt, system)
        return self._rendered[1]

    def conversation(self, messages: Sequence[tuple[str, str]], opening: bool = False) -> str:
        """What was said, (role, content) each, as the model reads it, and nothing behind it but, with `opening`, the
        beginning of an answer. Raises UserError where the template cannot do that."""
        self._check_choice()
        turns = [{"role": role, "content": content} for role, content in messages]
        try:
            ((text, refusal),) = self._texts([turns], opening)
        except Unfinished as why:
            raise UserError(f"the model's chat template cannot be used ({why}); read the text raw (--raw)") from None
        if text is None:
            raise UserError(f"the model's chat template refuses this conversation ({refusal}); read it raw (--raw)")
        return text

    @cached_property
    def behind_an_answer(self) -> str:
        """The text that stands behind an answer; none where the template does not say."""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "answer"}]
        try:
            text, _ = self._texts([turns], opening=False)[0] if self._name in self.sources else (None, "")
        except Unfinished:
            return ""
        return text.rpartition("answer")[2] if text else ""

    def _check_choice(self) -> None:
        """Raises UserError where there is no template, or nobody said which."""
        if not self.sources:
            raise UserError(
                "the model has no chat template, so it cannot be asked in chat; use raw completion (--raw)"
            )
        if self._name not in self.sources:
            raise UserError(
                f"the model has several chat templates: name one of {', '.join(sorted(self.sources))} by "
                "--chat-template, or use raw completion (--raw)"
            )

    def _render(self, prompt: str, system: str | None) -> Rendered:
        self._check_choice()
        asked = [
            _messages(prompt, system),
            _messages(prompt, None),
            _messages(f"{prompt} or not", system),
            _messages(prompt, None if system is None else f"{system} or not"),
        ]
        try:
            (text, refusal), (alone, _), (other, _), (otherwise, _) = self._texts(asked, opening=True)
        except Unfinished as why:
            raise UserError(f"the model's chat template cannot be used ({why}); use raw completion (--raw)") from None
        if text is None:
            way_out = "use raw completion (--raw)" if alone is None else "leave out --system"
            raise UserError(f"the model's chat template refuses this prompt ({refusal}); {way_out}")
        without = {"the prompt": other == text, "the system prompt": system is not None and otherwise == text}
        return Rendered(text, tuple(what for what, is_so in without.items() if is_so))

    def _texts(self, conversations: list[Messages], opening: bool) -> list[tuple[str | None, str]]:
        """The text of each conversation, or why there is none. Raises Unfinished."""
        return [
            (text, refusal)
            for text, refusal in run_bounded(lambda: [self._text(messages, opening) for messages in conversations])
        ]

    def _text(self, messages: Messages, opening: bool) -> tuple[str | None, str]:
        refusal = ""
        ways: tuple[list[Any] | None, ...] = (None, [])
        for tools in ways:  # some count them and would rather have none than nothing
            try:
                text = self._tokenizer.apply_chat_template(
                    messages,
                    tools=tools,
                    chat_template=self.sources[self._name],
                    tokenize=False,
                    add_generation_prompt=opening,
                )
                return (
                    (str(text), "")
                    if len(text) <= MAX_PROMPT_CHARS
                    else (None, f"it makes {len(text)} characters of it")
                )
            except MemoryError:
                return None, "it takes too much memory"
            except Exception as error:
                reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
                refusal = refusal or reason[:MAX_REASON_CHARS]
        return None, refusal


def _texts(templates: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name): source for name, source in templates.items() if isinstance(source, str) and source}


def _messages(prompt: str, system: str | None) -> Messages:
    asked = [{"role": "user", "content": prompt}]
    return asked if system is None else [{"role": "system", "content": system}, *asked]
