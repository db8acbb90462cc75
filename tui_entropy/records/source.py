"""Source: what writes text and tells of it, such as a loaded model. Capabilities: what one can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from tui_entropy.records.arrays import Grid
from tui_entropy.records.step import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from tui_entropy.records.commands import Command, Load
    from tui_entropy.records.events import Event, Memory, Ready
    from tui_entropy.records.model import ModelCard

ABILITIES = {
    "write": "begin another text",
    "set-knobs": "have the knobs of its sampling turned",
    "set-vector": "be steered by vectors",
    "pause": "be paused",
    "continue": "go on after a pause",
    "advance": "write token by token",
    "advance-on": "write on to a place and pause there",
    "stop": "be stopped",
    "ask-probe": "be asked by probes",
    "cancel-probe": "give up a probe",
    "set-breakpoints": "stop at breakpoints",
    "set-watches": "follow strings",
    "branch": "write on from an earlier token or with another one",
    "go": "go from one run to another",
    "label": "keep names of runs",
    "select-head": "record the head that is looked at",
    "set-shadow": "run a shadow",
    "twin": "write a twin beside",
    "reopen": "go on with a recording",
    "relayed": "be told what passes through a proxy",
}
"""Ability -> what a source with it does, as the end of 'this source cannot ...'. Each has the name of the command
that asks for it, its tag; 'advance-on' is an Advance by more than one token."""


class Capabilities(Struct, frozen=True):
    """What a source can do. Without one, as of a source from before there were any, it can do everything."""

    commands: tuple[str, ...] | None = None
    """What it can be told, by the names of ABILITIES; None for all of them."""
    metrics: tuple[str, ...] | None = None
    """Names of the metrics that it can know of a step; None for all of them."""
    reasons: tuple[tuple[str, str], ...] = ()
    """(ability, why it lacks that in half a sentence), where something else is known than that it does."""
    open_probes: tuple[str, ...] = ()
    """Probes that whoever only watches may ask, since they cost little."""

    def can(self, ability: str) -> bool:
        return self.commands is None or ability in self.commands

    def knows(self, metric: str) -> bool:
        """Whether it can know a metric, by its name."""
        return self.metrics is None or metric in self.metrics


def ability(command: Command) -> str:
    """The name of what a source must be able to do to be told a command."""
    tag = str(type(command).__struct_config__.tag)
    is_far = tag == "advance" and (command.until or command.tokens > 1)  # type: ignore[union-attr]
    return "advance-on" if is_far else tag


def inability(name: str, capabilities: Capabilities | None = None) -> str:
    """The sentence with which a command is refused that a source cannot be told."""
    reason = dict(capabilities.reasons).get(name) if capabilities else None
    return f"this source cannot {ABILITIES[name]}" + (f", since {reason}" if reason else "")


class OwnDraw(Struct, frozen=True):
    """A token that our own sampling chain drew from a distribution that a source was told."""

    token_id: int
    stages: tuple[Stage, ...]
    stage_probs: Grid
    """As in Step."""
    final_entropy: float
    """Nats."""
    final_prob: float
    candidate_probs: tuple[float, ...]
    """(n_candidates,) after the last stage."""
    cut: tuple[str | None, ...]
    """(n_candidates,) the stage that removed each."""


class ReadVector(Protocol):
    """A vector of a file, as of engine/steering/control_vector.py."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    @property
    def directions(self) -> Mapping[int, npt.NDArray[np.float32]]:
        """Block (1-based) -> (d_model,)."""
        ...


class VectorFiles(Protocol):
    """How vectors are read: see engine/steering/control_vector.py."""

    def load(self, path: Path) -> ReadVector:
        """Raises UserError."""
        ...

    def built_in(self, card: ModelCard) -> Sequence[ReadVector]:
        """The shipped ones that were made for a model of this shape."""
        ...


class Audience(Protocol):
    """Whom a source tells what happens."""

    def emit(self, event: Event) -> None:
        """To the record, and to everyone."""

    def answer(self, event: Event) -> None:
        """To the one whose command is being handled."""

    def hears_cancel(self) -> bool:
        """Whether what is computed now is not wanted any more. To be asked now and then by what takes long."""
        ...


class Source(Protocol):
    """What writes text and tells an Audience of it, one stretch of work at a time and all on one thread. It is made
    with its audience, brought up once by `begin`, and closed at last, also where `begin` failed. Whatever has
    these members is one.

    `handle` and `advance` raise UserError for what a person did wrong. After any other failure they are followed by
    `abandon`, and what is told next must be possible.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; the same from the end of `begin` on."""
        ...

    @property
    def state(self) -> str:
        """One of 'ready' before the first text, 'writing' while there is something to advance, 'paused', 'ended'."""
        ...

    @property
    def n_written(self) -> int:
        """Tokens written in the run that it is at."""
        ...

    def begin(self, load: Load) -> None:
        """Come up, telling of the way there as Progress. What `load` has beside the model and `kept_cache` follows as
        commands. Raises UserError, or anything; then nothing else is asked of it."""

    def ready(self) -> Ready:
        """What it is, once it is up. The file of the record is filled in by whoever asks."""
        ...

    def handle(self, command: Command) -> None:
        """Do what a command says, one that its capabilities have. Raises UserError."""

    def advance(self) -> Event | None:
        """Do the next stretch of work while its state is 'writing', such as one token, and tell of it. Returns the
        event that it came to; None where the text ended, or nothing has come yet that it waits for."""
        ...

    def abandon(self) -> None:
        """Write no more after a failure, when nothing of what was going on can be trusted."""

    def memory(self) -> Memory | None:
        """What it takes now; None where that cannot be said. Asked about once a second."""
        ...

    def close(self) -> None:
        """End the text, where one is written, and let go of everything."""
