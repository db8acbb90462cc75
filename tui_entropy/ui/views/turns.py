"""The turns of a chat: whose words the tokens of a prompt are."""

from __future__ import annotations

import re

from tui_entropy.records.events import Started

PROMPT, MARK, NOBODY, ROLE, FIRST_PROMPT_TOKEN = -1, -2, -3, -4, -5
"""Owners of what no step wrote: a text of the prompt, a mark, who speaks, and from FIRST_PROMPT_TOKEN downwards
each token of the prompt."""

TURN = re.compile(
    r"(?:<\|im_start\|>|<start_of_turn>|<\|start_header_id\|>)(\w+)(?:<\|end_header_id\|>)?\s*?\n"
    r"(.*?)(?:<\|im_end\|>|<end_of_turn>|<\|eot_id\|>|\Z)",
    re.DOTALL,
)
"""A turn of ChatML, Gemma or Llama 3: role and text."""

NAMES = {"user": "you", "assistant": "model"}


def turns_of(started: Started, text: str) -> list[tuple[str, str, int | None]]:
    """(role, text, where in the prompt it stands) as the chat template spelled them out, or as they were given where
    it is not known."""
    turns = []
    for match in TURN.finditer(text):
        words = match[2].strip("\n")
        turns.append((NAMES.get(match[1], match[1]), words, text.find(words, match.start(2))))
    if not turns:
        given = [("system", started.system or ""), ("you", started.prompt)]
        turns = [(role, words, text.find(words)) for role, words in given]
    return [(role, words, None if first < 0 else first) for role, words, first in turns if words]
