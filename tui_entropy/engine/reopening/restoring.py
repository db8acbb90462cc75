"""Restoration: the events of a recording, in their order, to the runs and settings of a session."""

from __future__ import annotations

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.engine.reopening.restored_run import RestoredRun
from tui_entropy.engine.reopening.vectors import RecordedVectors
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.run import Run
from tui_entropy.engine.session.session import Session
from tui_entropy.records.events import (
    Event,
    KnobsChanged,
    NextTokens,
    Prefilled,
    PromptScores,
    ShadowChanged,
    Started,
    VectorsChanged,
    WatchesChanged,
)
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.head_patterns import HEAD_PATTERNS
from tui_entropy.records.settings import Lane
from tui_entropy.state.run_view import RunView
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace


class Restoration:
    """What a session did is not done again: it is counted. Nothing is read, and nothing told."""

    def __init__(self, session: Session, trace: Trace) -> None:
        self._session, self._state, self._trace = session, session.state, trace
        self.log: SessionView = trace.log()
        """As a screen had it at the end."""
        self.vectors = RecordedVectors()
        self.lost: tuple[str, ...] = ()
        """Half a sentence for each vector that is not what it was."""
        self.shadow: Lane | None = None
        """The one that was on at the end."""
        self._runs: dict[int, RestoredRun] = {}
        self._patterns: ProbeAnswer | None = None

    def carry_out(self) -> None:
        """Raises UserError where something is missing that later tokens hang on."""
        events = list(self._trace.events())
        for _, _, event in events:
            self.vectors.take(event)
        self.lost = self.vectors.read(self._state)
        for seq, _, event in events:
            self._take(event, seq)
        for run in self._runs.values():
            run.write(self._trace.n_steps(run.number))
            run.finish()
        self._state.adopt({number: self._made(run, self.log.runs[number]) for number, run in self._runs.items()})
        self._state.breakpoints.recall(self.log.breakpoints, self.log.run.watches)
        if self.log.head is not None:
            self._session.heads.recall(self.log.head)
        if self._patterns is not None:
            self._session.head_watch.recall(self._patterns.run, self._patterns.position)

    def _take(self, event: Event, seq: int) -> None:
        if isinstance(event, Started):
            if event.run not in self._runs:
                self._runs[event.run] = self._begun(event, seq)
            return
        if isinstance(event, ProbeAnswer) and event.name == HEAD_PATTERNS:
            self._patterns = event
        run = self._runs.get(getattr(event, "run", 0))
        if run is None:
            return
        run.write(self._trace.reached(run.number, seq))
        match event:
            case Prefilled():
                run.read_prompt(event.done)
            case PromptScores():
                run.scored, run.sequence.n_scored = True, event.first + event.scores.shape[0]
            case KnobsChanged():
                run.knobs = event.knobs
            case VectorsChanged():
                run.vectors = event.vectors
                if event.rebuilt:
                    run.read_anew()
            case NextTokens():
                run.tell_next(event)
            case WatchesChanged():
                self._state.breakpoints.watches = event.watches
            case ShadowChanged():
                self.shadow = event.lane

    def _begun(self, started: Started, seq: int) -> RestoredRun:
        """A run as it began: from nothing, or as a branch or a twin of one that had come so far by then."""
        n_steps, ids = self._trace.n_steps(started.run), [token.token_id for token in started.prompt_tokens]
        self._check(started, ids, n_steps)
        parent = self._runs.get(started.parent) if started.parent is not None else None
        if parent is None or not started.how:  # an edited prompt, of which nothing is shared
            sequence = TokenSequence(self._state.loaded, ids, n_steps)
            return self._run(started, sequence, started.n_given + started.max_tokens, not n_steps)
        parent.write(self._trace.reached(parent.number, seq))
        before = parent.sequence
        if ids != before.prompt.tolist():  # a twin with a prompt of its own
            sequence = TokenSequence(self._state.loaded, ids, n_steps)
            sequence.position_offset = len(ids) - before.n_prompt
            return self._run(started, sequence, parent.limit, True)
        sequence = before.branch(started.shared, n_steps - started.shared)
        if started.twin_of is None:
            return self._run(started, sequence, started.shared + started.max_tokens, parent.scored)
        sequence.offsets, sequence.prefix_ids, sequence.n_scored = [], [], 0
        return self._run(started, sequence, parent.limit, False)

    def _run(self, started: Started, sequence: TokenSequence, limit: int, scored: bool) -> RestoredRun:
        return RestoredRun(self._state, self._trace, started, sequence, limit, scored)

    def _check(self, started: Started, ids: list[int], n_steps: int) -> None:
        card = self._state.loaded.card
        if not ids or not all(0 <= token_id < card.vocab for token_id in ids):
            raise UserError(
                f"{self._trace.path} lacks tokens of the prompt of run {started.run}, so it cannot be gone on with: "
                "`tui-entropy replay` shows what there is of it"
            )
        if len(ids) + n_steps > card.context:
            raise UserError(
                f"run {started.run} of {self._trace.path} has {len(ids) + n_steps} tokens, and {card.name} reads "
                f"{card.context} at most: name the model that it was made with, by --model"
            )

    def _made(self, run: RestoredRun, view: RunView) -> Run:
        """The run of the session, as it was left."""
        vectors = self.vectors.present(self._state, run.vectors)
        return Run(
            replace(view.started, n_given=run.started.n_given),
            run.sequence,
            self._state.controls_with(self._state.offsets_of(vectors, run.sequence), run.knobs),
            vectors,
            run.scored,
            view.ended,
            view.name,
            view.starred,
            view.deleted,
        )
