"""One run: its text, its settings and what was written of it."""

from __future__ import annotations

from dataclasses import dataclass

from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.events import Started
from tui_entropy.records.settings import Vector

TOKEN_LIMIT = "token limit"
"""The reason of an end that more room undoes."""


@dataclass(eq=False)
class Run:
    """One of them, with all that it takes to write on in it."""

    started: Started
    sequence: TokenSequence
    controls: Controls
    """As they were applied last."""
    vectors: tuple[Vector, ...]
    """The same."""
    score_prompt: bool = False
    ended: str | None = None
    """Why, where it has."""
    name: str = ""
    starred: bool = False
    deleted: bool = False

    @property
    def number(self) -> int:
        return self.started.run

    def make_room(self, n: int) -> None:
        """Room for n tokens more, as far as the model reads. What came to its limit has not ended then."""
        self.sequence.make_room(n)
        if self.ended == TOKEN_LIMIT and self.sequence.n_remaining:
            self.ended = None
