"""ServerProbe: one question about a token of a text that a server wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from tui_entropy.records.probes.answering import Progress, Unavailable
from tui_entropy.records.probes.panels import Panel
from tui_entropy.servers.run import ServerRun
from tui_entropy.servers.session import ServerSession


@dataclass(frozen=True, slots=True)
class ProbePlace:
    """Where a probe looks: before a token of a run."""

    session: ServerSession
    run: ServerRun
    position: int
    """Of the token in the whole context. It may be the one that comes next."""
    progress: Progress = field(default=lambda done, total: None)

    @property
    def step(self) -> int:
        """Which step wrote it, from 0 on. Raises Unavailable for a token of the prompt, and where the server cannot
        be sent what stands before it."""
        step = self.position - len(self.run.started.prompt_tokens)
        if step < 0:
            raise Unavailable("no step wrote this token: it is one of the prompt's")
        if step and (why := self.session.server.can_go_back):
            raise Unavailable(f"nothing can be asked from within its text, since {why}")
        if (unknown := self.run.unknown_token(step)) is not None and self.session.server.takes_ids:
            raise Unavailable(f"the server did not name token {unknown + 1}, so nothing behind it can be sent")
        return step


@dataclass(frozen=True, slots=True)
class ServerProbe:
    """As a Probe of a model here, but that no second way to its answer can be had."""

    name: str
    about: str
    """What it answers, in a sentence."""
    needs: str
    """What is asked of the server, in a phrase."""
    options: type[Struct]
    """A frozen record whose fields all have defaults."""
    compute: Callable[[ProbePlace, Any], Iterable[Panel]]
    """The answer. Raises Unavailable, and UserError for what the server refuses."""
    trust: str = "logits"
    """The group of numbers that its answers belong to, one of TRUSTED."""
    page: str = ""
    """The page of the screen that shows it, where the one of probes does not do."""
