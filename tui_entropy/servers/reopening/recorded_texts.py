"""RecordedTexts: a recording that a server goes on with, once that is agreed."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Reopen
from tui_entropy.records.events import STOPPED, NextTokens, Started
from tui_entropy.records.step import NO_ID, Step
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.reopening import differences
from tui_entropy.servers.reopening.vectors import RecordedVectors
from tui_entropy.servers.run import ServerRun, messages_of, replayed
from tui_entropy.servers.session import ServerSession
from tui_entropy.servers.steps import StepMaker
from tui_entropy.servers.texts.encoded import tokens_of_ids
from tui_entropy.servers.vllm_lens.steering import steers
from tui_entropy.state.agreement import phrase
from tui_entropy.state.run_view import RunView
from tui_entropy.state.session_view import SessionView
from tui_entropy.state.unopened import MORE_TOKENS
from tui_entropy.trace.reader import Trace

ROUNDING = 0.02
"""Nats by which two answers of a server to the same question may differ: it batches, and half precision rounds."""


class RecordedTexts:
    """The runs of a recording, known to a session that has just begun. Nothing is asked for before one is entered."""

    def __init__(self, session: ServerSession, path: Path) -> None:
        """Raises UserError for what is no recording, lacks tokens, or cannot be sent to this server."""
        self.path, self._session, server = path, session, session.server
        self._trace = trace = Trace.open(path)
        if not trace.runs:
            raise UserError(f"{path} holds no run: there is nothing to go on with")
        self._log: SessionView = trace.log()
        """As a screen had it at the end."""
        begun = [view.started for view in self._log.runs.values()]
        differences.check(trace.card, begun, session.card, server)
        self._vectors = RecordedVectors((event for _, _, event in trace.events()), session.inside)
        found = differences.of_server(trace.card, begun, session.card, server)
        self.differences = (*found, *self._vectors.lost)
        """Half a sentence for each way in which something is not what it was."""
        session.names.recall(_vocabulary(trace))
        forced = {event.run: event for _, _, event in trace.events() if isinstance(event, NextTokens)}
        for number, view in self._log.runs.items():
            session.runs[number] = self._restored(view, forced.get(number))
        session.breakpoints.recall(self._log.breakpoints, self._log.run.watches)

    def enter(self, ask: Reopen) -> None:
        """Its run is the present one of the session, and rests. Raises UserError for a run that is not there, and
        where the server does not answer."""
        number = self._trace.checked(self._log.run_number if ask.run is None else ask.run)
        run, view = self._session.run_of(number), self._log.runs[number]
        _reopen(run, ask.max_tokens)
        self._session.go(number, how_it_agrees(self._session, run) if run.ended is None else "")
        if run.steps:
            self._session.breakpoints.recall_newest(run.steps[-1])
        if pending := view.pending:
            self._session.recall(pending.knobs, self._vectors.present(pending.vectors))

    def _restored(self, view: RunView, told: NextTokens | None) -> ServerRun:
        """A run as it was left. Raises UserError where one of its tokens is missing."""
        started, trace = view.started, self._trace
        n = trace.n_steps(started.run)
        if not started.prompt_tokens or any(one != one for one in trace.column(started.run, "token_id")):
            raise UserError(
                f"{trace.path} lacks tokens of run {started.run}, so it cannot be gone on with: `tui-entropy replay` "
                "shows what there is of it"
            )
        maker = StepMaker(self._session.card, self._session.names, len(started.prompt_tokens))
        shared = self._shared(started)
        steps = replayed(maker, [*shared, *trace.steps(started.run, len(shared))])
        run = ServerRun(
            started, messages_of(started.prompt, started.system) if started.chat else (), view.knobs, maker, steps,
            self._vectors.changes(view.vector_changes), ended=view.ended, name=view.name, starred=view.starred,
            deleted=view.deleted,
        )  # fmt: skip
        if told is not None and told.index <= n:
            run.forced = list(told.forced[n - told.index :])
            run.banned = frozenset(told.banned if told.index == n else ())
            if told.given[n - told.index :]:
                prompt = [one.token_id for one in started.prompt_tokens]
                text = tokens_of_ids(
                    self._session.server, self._session.names, (*prompt, *told.given), started.prompt
                )
                run.given = list(text[len(prompt) + n - told.index :])
        return run

    def _shared(self, started: Started) -> list[Step]:
        """The steps that it has of the run that it branches off, which is there by then."""
        parent = self._session.runs.get(started.parent or 0)
        return parent.steps[: started.shared] if parent is not None else []


def _vocabulary(trace: Trace) -> dict[int, bytes]:
    """The bytes of every token that came up."""
    rows = ((token_id, data) for token_id, data, *_ in trace.table("vocabulary"))
    return {one: data for one, data in rows if isinstance(one, int) and isinstance(data, bytes) and one != NO_ID}


def _reopen(run: ServerRun, max_tokens: int | None) -> None:
    """What ended since a person left it has not ended, and what came to its limit may be given more."""
    if run.ended is not None and run.ended.startswith(STOPPED):
        run.ended = None
    if max_tokens is None and not run.n_left:
        max_tokens = MORE_TOKENS
    if max_tokens is not None:
        n_written = len(run.steps) + len(run.given) - run.started.n_given
        run.started = replace(run.started, max_tokens=n_written + max_tokens)
        if run.ended == "token limit":
            run.ended = None


def how_it_agrees(session: ServerSession, run: ServerRun) -> str:
    """How what the server says before the newest token agrees with what was recorded, in a phrase: one token is asked
    for, behind all that goes on being sent. Raises UserError where it does not answer."""
    if why := session.server.can_go_back:
        return f"it cannot be gone on with, since {why}"
    is_steered = any(steers(vectors) for _, vectors in run.changes)
    nats = _difference(session, run, run.steps[-1]) if run.steps and not is_steered else None
    return phrase(nats, ROUNDING, "sent when it goes on")


def _difference(session: ServerSession, run: ServerRun, newest: Step) -> float | None:
    """The largest difference of ln p, in nats, over the candidates that both tell of; None where there are none."""
    server: Kind = session.server
    context = run.context(len(run.steps) - 1)
    told = server.whole(*server.request(context, run.knobs, 1, server.n_logprobs)).tokens
    if not told:
        return None
    session.names.learn(told[0])
    now = {session.names.of_alternative(one).token_id: one.logprob for one in told[0].alternatives}
    return max(
        (abs(one.logprob - now[one.token_id]) for one in newest.candidates if one.token_id in now), default=None
    )
