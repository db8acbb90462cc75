"""What the scripted engine makes of names of branches, of a shadow, a twin and a fan: made-up numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from tui_entropy.records.commands import Label, SetShadow, Twin
from tui_entropy.records.events import Event, Labelled, ShadowChanged, Started
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer
from tui_entropy.records.probes.continuations import Continuation, ContinuationOptions, SampledContinuations
from tui_entropy.records.settings import Lane
from tui_entropy.records.step import Shadow, Step

ASKED = Label | SetShadow | Twin
EVERY = 5
"""Steps from one where the lanes go apart to the next."""


class Lanes:
    """Beside a session. A shadow or a twin would take another candidate at every EVERY-th step."""

    def __init__(self, session: Any, emit: Callable[[Event], None]) -> None:
        self.session, self.emit = session, emit
        self.shadow: Lane | None = None
        self.twin: Started | None = None
        self.labels: dict[int, Labelled] = {}

    def obey(self, asked: ASKED) -> None:
        session = self.session
        match asked:
            case Label():
                known = self.labels.get(asked.run, Labelled(asked.run, "", False))
                fields = {name: getattr(asked, name) for name in ("name", "starred", "deleted")}
                known = replace(known, **{name: value for name, value in fields.items() if value is not None})
                self.labels[asked.run] = known
                self.emit(known)
            case SetShadow():
                self.shadow = asked.lane
                how = "in the same forward pass" if asked.lane else ""
                self.emit(ShadowChanged(session.state.run_number, session.state.n_written, asked.lane, how))
                session.resample()
            case Twin():
                run = len(session.began) + 1
                vectors = asked.lane.vectors or session.state.vectors
                self.twin = replace(
                    session.began[asked.run], run=run, parent=asked.run,
                    shared=session.state.n_written, twin_of=asked.run,
                    vectors=vectors,
                )  # fmt: skip
                session.began[run], session.written[run] = self.twin, []
                self.emit(self.twin)

    def fan(self, asked: AskProbe) -> ProbeAnswer:
        options = msgspec.convert(asked.options, ContinuationOptions)
        rows = tuple(
            Continuation(f" so {n % 3}", (1001 + n % 3,) * options.tokens, -1.0 - n, False, n % 3)
            for n in range(options.n)
        )
        panels = SampledContinuations(rows, options.tokens, options.same, 1.0).panels
        return ProbeAnswer(asked.name, asked.run, asked.position, asked.options, panels, seconds=0.1)

    def seen(self, step: Step) -> Step:
        """The step with what the shadow thinks of it."""
        if self.shadow is None:
            return step
        other = self._other(step)
        logprobs = tuple(candidate.logprob - 0.1 for candidate in step.candidates)
        mind = Shadow(
            0.25, 0.1, 0.05, step.entropy, step.surprisal + 0.1, step.rank, other.token_id, other.token_bytes,
            other.token_id, other.token_bytes, logprobs,
        )  # fmt: skip
        return replace(step, shadow=mind)

    def beside(self, step: Step) -> None:
        """The twin's token of the same step."""
        if self.twin is not None and self.twin.twin_of == step.run:
            other = self._other(step)
            twin_step = replace(
                step,
                run=self.twin.run,
                token_id=other.token_id,
                token_bytes=other.token_bytes,
                text=other.token_bytes.decode(),
            )
            self.emit(twin_step)

    @staticmethod
    def _other(step: Step) -> Any:
        """The token of the other lane: another candidate at every EVERY-th step."""
        others = [candidate for candidate in step.candidates if candidate.token_id != step.token_id]
        return others[0] if step.index % EVERY == 0 else step
