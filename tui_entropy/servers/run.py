"""ServerRun: one text that a server writes, with all that has to be sent for the next token."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field

from tui_entropy.records.commands import Message
from tui_entropy.records.events import Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.records.step import NO_ID, PromptToken, Step
from tui_entropy.servers.kinds.kind import Context
from tui_entropy.servers.steps import StepMaker


@dataclass
class ServerRun:
    """Its steps are kept, since a branch begins with those before it."""

    started: Started
    messages: tuple[Message, ...]
    """Of a conversation that is sent as messages; empty otherwise."""
    knobs: Knobs
    maker: StepMaker
    steps: list[Step] = field(default_factory=list)
    changes: list[tuple[int, tuple[Vector, ...]]] = field(default_factory=lambda: [(0, ())])
    """Steps, and the vectors that act from each on, for a server that is steered; the first is 0."""
    forced: list[int] = field(default_factory=list)
    """Ids of the next tokens, whatever the model says."""
    given: list[PromptToken] = field(default_factory=list)
    """The next tokens, of a text that was there already."""
    is_read: bool = False
    """The newest step was the last one of such a text."""
    banned: frozenset[int] = frozenset()
    """Ids that the next token may not be."""
    ended: str | None = None
    """Why; None while it can be written on."""
    name: str = ""
    starred: bool = False
    deleted: bool = False

    @property
    def number(self) -> int:
        return self.started.run

    @property
    def n_left(self) -> int:
        """Tokens that may be written still."""
        return self.started.n_given + self.started.max_tokens - len(self.steps)

    @property
    def at(self) -> float:
        """Seconds of work so far."""
        return self.steps[-1].at if self.steps else 0.0

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """Those that act now."""
        return self.changes[-1][1]

    def write(self, step: Step) -> None:
        self.steps.append(step)
        self.maker.count(step)
        self.banned = frozenset()
        self.is_read = len(self.given) == 1
        self.given = self.given[1:]

    def text_of(self, token_bytes: bytes) -> str:
        """What these bytes complete of the text; empty while a character is open."""
        open_bytes = b""
        for step in reversed(self.steps[-3:]):  # a character has four bytes at most
            if step.text:
                break
            open_bytes = step.token_bytes + open_bytes
        return codecs.getincrementaldecoder("utf-8")("replace").decode(open_bytes + token_bytes)

    def context(self, n_steps: int | None = None) -> Context:
        """What is sent for the next token, or for the one behind so many steps."""
        prompt, steps = self.started.prompt_tokens, self.steps[:n_steps]
        ids = (*(one.token_id for one in prompt), *(step.token_id for step in steps))
        text = "".join((*(one.text for one in prompt), *(step.text for step in steps)))
        return Context(ids, text, self.messages)

    def unknown_token(self, n_steps: int) -> int | None:
        """The first of so many steps whose token the server did not name; None where all are known."""
        return next((n for n, step in enumerate(self.steps[:n_steps]) if step.token_id == NO_ID), None)


def messages_of(prompt: str, system: str | None) -> tuple[Message, ...]:
    """A conversation of what a person wrote; empty where that is nothing."""
    if (prompt, system) == ("", None):
        return ()
    return (*((Message("system", system),) if system else ()), Message("user", prompt))


def changed(
    changes: list[tuple[int, tuple[Vector, ...]]], step: int, vectors: tuple[Vector, ...]
) -> list[tuple[int, tuple[Vector, ...]]]:
    """As they are where other vectors act from a step on."""
    before = [change for change in changes if change[0] < step]
    return before if before and before[-1][1] == vectors else [*before, (step, vectors)]


def replayed(maker: StepMaker, steps: Sequence[Step]) -> list[Step]:
    """The same steps as the beginning of another run."""
    for step in steps:
        maker.count(step)
    return list(steps)
