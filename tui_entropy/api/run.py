"""Run: one that is written, read or branched by an Inspector."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import asdict

from tui_entropy.api.answers import Answer
from tui_entropy.api.given import knobs_with, lane_of, options_with, plain, similar, token_ids_of, whole
from tui_entropy.api.run_data import RunData
from tui_entropy.core.errors import UserError
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.registry import BY_NAME, options_of
from tui_entropy.export.recorded_run import RunRecord
from tui_entropy.records.commands import Branch, Label, Twin
from tui_entropy.records.events import STOPPED
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.panels import steps_of
from tui_entropy.records.probes.visit import VISIT
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane
from tui_entropy.records.step import Step
from tui_entropy.state.run_view import RunView
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.lineage import lineage_of

if TYPE_CHECKING:
    from tui_entropy.api.live import LiveSession
    from tui_entropy.api.opened import OpenModel


class Run(RunData):
    """A run of an Inspector. To iterate it goes through its steps from the first on, and, where it is still being
    written, writes further ones as they are asked for. A loop that is left, by `break`, an exception or ctrl-C,
    leaves the run paused: to iterate it then lists what there is, and `advance`, `finish` and `rest` write on.

    What was written can be looked at for as long as one likes, also once the Inspector is closed.

    Example:
        >>> run = inspector.write("The capital of France is", max_tokens=8, chat=False)
        >>> for step in run:
        ...     if step.index == 2:
        ...         break
        >>> len(run), len(run.finish())
        (3, 8)
    """

    def __init__(self, inspector: OpenModel, live: LiveSession, number: int) -> None:
        super().__init__(number)
        self._inspector = inspector
        """Whose session must not be closed while somebody has one of its runs."""
        self._live = live

    @property
    def _view(self) -> RunView:
        return self._live.view(self.number)

    @property
    def record(self) -> RunRecord:
        live, view = self._live, self._view
        log = SessionView(card=live.log.card, runs=live.log.runs, run=view)
        log.state, log.note = ("paused", self.paused) if view.ended is None else ("ended", view.ended)
        return RunRecord(
            card=live.loaded.card,
            started=view.started,
            log=log,
            lineage=lineage_of(live.log.runs, self.number),
            began=live.began.get(self.number, time.time()),
        )

    @property
    def knobs(self) -> Knobs:
        return self._live.knobs(self.number)

    @property
    def paused(self) -> str:
        """Why writing rests, such as 'breakpoint: entropy > 3 bits'; '' where nothing stopped it."""
        return self._live.paused.get(self.number, "")

    @property
    def proposed(self) -> Step | None:
        """At a stop: what comes next if nothing is changed. Not a part of the run yet; see `look_ahead`."""
        return self._view.proposed

    # --- Writing ---------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Step]:
        going, at = self.number in self._live.fresh, 0
        self._live.fresh.discard(self.number)
        while at < len(self) or (going and self._write()):
            yield self[at]
            at += 1

    def advance(self, n: int = 1) -> list[Step]:
        """Write n tokens on. Returns their steps, fewer at the end and before a stop. Past the limit that the run
        had, it is given room for them. Raises UserError where the model fails.

        Example:
            >>> run = inspector.write("Once upon a time", max_tokens=4, chat=False)
            >>> [step.index for step in run.advance(2)]
            [0, 1]
        """
        first = len(self)
        self._live.go_on(self.number, whole(n, "n"))
        self._unpause()
        while len(self) < first + n and self._write():
            pass
        return self[first:]

    def rest(self) -> Iterator[Step]:
        """Write on, and go through the steps that are new.

        Example:
            >>> run = inspector.write("Once upon a time", max_tokens=4, chat=False)
            >>> len(run.advance(1)), len(list(run.rest()))
            (1, 3)
        """
        at = len(self)
        self._unpause()
        while at < len(self) or self._write():
            yield self[at]
            at += 1

    def finish(self) -> Self:
        """Write on to the end, or to the next stop. Returns the run.

        Example:
            >>> inspector.write("Once upon a time", max_tokens=4, chat=False).finish().ended
            'token limit'
        """
        for _ in self.rest():
            pass
        return self

    def _unpause(self) -> None:
        """Somebody said how it goes on."""
        self._live.fresh.discard(self.number)
        self._live.paused.pop(self.number, None)

    def _write(self) -> bool:
        """One token more, or several of a text that is there. False where there is none, or something stops it."""
        if self.paused or self._view.ended not in (None, STOPPED):
            return False
        if self._view.ended == STOPPED:
            self._live.go_on(self.number, 0)
        n = len(self)
        if (stopped := self._live.write_on(self.number)) is not None:
            self._live.paused[self.number] = stopped.reason
        return len(self) > n

    def look_ahead(self) -> Step | None:
        """The step that comes next if nothing is changed; it is not written. None at the end. Settings that are
        changed now bring another one, for which the model is not asked.

        Example:
            >>> run = inspector.write("The capital of France is", max_tokens=8, chat=False, temperature=0)
            >>> run.look_ahead().text, len(run)
            (' Paris', 0)
        """
        with self._live.at_work() as session:
            self._live.come_to(self.number)
            session.look_ahead(read_all=True)
        return self.proposed

    # --- What is changed ---------------------------------------------------------------------------------------

    def set(self, **knobs: Any) -> None:
        """Turn knobs, from the next token on: temperature, top_k, top_p, min_p, seed and all others that
        `tui-entropy run --help` lists. Raises UserError for one, or a value, that there is not.

        Example:
            >>> run = inspector.write("Once upon a time", max_tokens=4, chat=False)
            >>> run.set(temperature=0, top_k=1)
            >>> run.knobs.temperature, run.advance()[0].rank
            (0.0, 1)
        """
        with self._live.at_work() as session:
            self._live.come_to(self.number)
            session.set_knobs(knobs_with(self.knobs, knobs, self._live.loaded.card.vocab))

    def force(self, text: str = "", tokens: Any = ()) -> Self:
        """Have these tokens, and then this text, written next whatever the model says; what it would have said is
        measured all the same. tokens: ids, texts of one token each, or candidates. Raises UserError.

        Example:
            >>> run = inspector.write("The capital of France is", max_tokens=8, chat=False)
            >>> run.force(" Lyon").advance()[0].text
            ' Lyon'
        """
        return self._next(text=text, token_ids=self._ids(tokens))

    def ban(self, tokens: Any) -> Self:
        """Have the next token be none of these: ids, texts of one token each, or candidates. Those that are banned
        throughout are a knob, `set(banned=ids)`. Raises UserError.

        Example:
            >>> run = inspector.write("The capital of France is", max_tokens=8, chat=False, temperature=0)
            >>> run.ban(" Paris").advance()[0].text != " Paris"
            True
        """
        return self._next(ban=self._ids(tokens))

    def _next(self, **what: Any) -> Self:
        if self.ended == STOPPED:
            self._live.go_on(self.number, 0)
        if self.ended is not None:
            raise UserError(
                f"run {self.number} has ended ({self.ended}), so nothing comes next: branch off before it"
            )
        with self._live.at_work() as session:
            self._live.come_to(self.number)
            session.branch(Branch(self.number, len(self), **what))
        return self

    def _ids(self, tokens: Any) -> tuple[int, ...]:
        loaded = self._live.loaded
        return token_ids_of(tokens, loaded.tokenizer, loaded.card.vocab)

    def branch(
        self, step: int | Step | None = None, *, token: Any = (), text: str = "", ban: Any = (), **knobs: Any
    ) -> Run:
        """A new run that shares what comes before a step, and is written on from there; this one stays as it is.

        step: an index, from the end where it is negative, or a Step; None for behind the newest. token: what is
        written there in place of what was: an id, a text of one token, a candidate, or several. text: what is written
        next, behind `token`. ban: what is not written there. knobs: those that are otherwise than in this run. Raises
        UserError.

        Example:
            >>> run = inspector.write("The capital of France is", max_tokens=8, chat=False).finish()
            >>> other = run.branch(0, token=" Lyon", temperature=0).finish()
            >>> other.parent == run.number, other.text[:5]
            (True, ' Lyon')
        """
        live, at = self._live, self._index(step)
        given, banned = self._ids(token), self._ids(ban)
        wanted = knobs_with(self.knobs, knobs, live.loaded.card.vocab)
        with live.at_work() as session:
            live.come_to(self.number)
            with live.knobs_of_branch(wanted):
                session.branch(Branch(self.number, at, given, text, banned), anew=True)
            return self._inspector.run_of(session.state.run_number)

    # --- Beside it -------------------------------------------------------------------------------------------------

    def shadow(
        self,
        *,
        name: str = "",
        prompt: str | None = None,
        system: str | None = None,
        vectors: Any = None,
        **knobs: Any,
    ) -> Self:
        """Have the tokens that are written from now on measured under other settings too: `step.shadow` tells what
        the other lane believed, the KL to it, and what it would have written. It stays until `unshadow`, also for
        runs that begin after.

        name: of the lane. prompt, system: what it reads in place of this run's prompt. vectors: names of those of
        `inspector.vectors` that are on in it, or names with strengths; () for none. knobs: those that are otherwise
        in it. Returns the run. Raises UserError.

        Example:
            >>> run = inspector.write("The capital of France is", max_tokens=4, chat=False, temperature=0)
            >>> step = run.shadow(prompt="The capital of Italy is").advance()[0]
            >>> step.text, step.shadow.would_bytes, step.shadow.kl > 1
            (' Paris', b' Rome', True)
            >>> run.unshadow()
        """
        lane = self._lane(name, prompt, system, vectors, knobs)
        with self._live.at_work() as session:
            self._live.come_to(self.number)
            session.set_shadow(lane)
        return self

    def unshadow(self) -> None:
        """No other lane is measured any more."""
        with self._live.at_work() as session:
            session.set_shadow(None)

    def twin(
        self,
        step: int | Step | None = None,
        *,
        name: str = "",
        prompt: str | None = None,
        system: str | None = None,
        vectors: Any = None,
        **knobs: Any,
    ) -> tuple[Run, Run]:
        """Two runs from before a step on, written side by side with the same noise: this one, or a branch of it where
        the step is written already, and one under other settings, given as to `shadow`. Writing the first writes the
        second too, a token each; whoever goes to another run, or to the second itself, ends that.

        step: as of `branch`; one with another prompt begins at 0. Raises UserError.

        Example:
            >>> run = inspector.write("Once upon a time", max_tokens=6, chat=False, temperature=0).finish()
            >>> first, second = run.twin(2, temperature=1.5)
            >>> first.finish().text.startswith(run.text), len(second) == len(first)
            (True, True)
        """
        at, lane = self._index(step), self._lane(name, prompt, system, vectors, knobs)
        with self._live.at_work() as session:
            self._live.come_to(self.number)
            session.begin_twin(Twin(self.number, at, lane))
            first = session.state.run_number
            second = max(session.state.runs)  # the newest: it began last
        return self._inspector.run_of(first), self._inspector.run_of(second)

    def _lane(self, name: str, prompt: Any, system: Any, vectors: Any, knobs: Mapping[str, Any]) -> Lane:
        live = self._live
        return lane_of(
            self.knobs, live.session.state.vectors, live.loaded.card.vocab, name, prompt, system, vectors, knobs
        )

    def _index(self, step: int | Step | None) -> int:
        """Of a step that there is, or of the next one."""
        value = plain(step.index if isinstance(step, Step) else step)
        if value is None:
            return len(self)
        at = whole(value, "step", -len(self), len(self))
        return at if at >= 0 else at + len(self)

    def label(self, name: str | None = None, starred: bool | None = None) -> Self:
        """Name it, or star it, as on the page of branches."""
        with self._live.at_work() as session:
            session.branches.label(Label(self.number, name, starred))
        return self

    # --- What is asked -----------------------------------------------------------------------------------------

    def probe(self, name: str, /, position: int | Step | None = None, **options: Any) -> Answer:
        """Ask a probe about one token: what each layer would have said, where it looked, what it might have written.

        name: one of `inspector.probes`. position: of the token in the whole context, the prompt included, from 0 on
        (-1 is the newest), or a Step; None for the newest, and where nothing is written yet for what comes next.
        options: those of the probe, looked at as on the command line. Raises UserError for what there is not, and
        where the model has no such answer.

        Example:
            >>> run = inspector.write("The capital of France is", max_tokens=4, chat=False).finish()
            >>> answer = run.probe("lens", run[0], k=3, before=1)
            >>> answer.position == run[0].position, answer[0].values.shape[1]
            (True, 2)
        """
        if name not in BY_NAME:
            raise UserError(f"there is no probe {name!r}: {similar(name, BY_NAME)}")
        values = options_with(options)
        options_of(BY_NAME[name], values)
        at = self._position(position)
        with self._live.at_work() as session:
            run = session.state.run_of(self.number)
            if len(run.sequence.prefix_ids) < at:  # the token before was not read so far
                self._live.come_to(self.number)
                session.look_ahead(read_all=True)
            found = answer(session, AskProbe(name, self.number, at, values))
            self._live.tell(found)
        if found.unavailable is not None:
            raise UserError(f"{name} has no answer about position {at}: {found.unavailable}")
        return Answer(found, self.record.log)

    def _position(self, position: int | Step | None) -> int:
        n = len(self._view.started.prompt_tokens) + len(self)
        value = plain(position.position if isinstance(position, Step) else position)
        if value is None:
            return n - 1 if len(self) else n
        at = whole(value, "position", -n, n)
        return at if at >= 0 else at + n

    def visit(self, step: int | Step) -> Step:
        """The pass that chose a token once more, with all that it tells: of a text that was read in one go the heads
        and norms too, which its own steps lack. The run stays as it is. Raises UserError.

        Example:
            >>> run = inspector.read("The capital of France is Paris.")
            >>> run[3].is_visited, run.visit(3).is_visited
            (False, True)
        """
        index = self._index(step)
        if index >= len(self):
            raise UserError(f"run {self.number} has {len(self)} steps, so there is no step {index}: write on first")
        found = self.probe(VISIT, self[index], **asdict(self.record.log.knobs_at(index)))
        return steps_of(found.record.panels)[0]

    # --- Told --------------------------------------------------------------------------------------------------

    def _standing(self) -> str:
        if self.ended is not None:
            return f", {self.ended}"
        if self.paused:
            return f", paused: {self.paused}"
        most = len(self) + self._live.room(self.number)
        fresh = self.number in self._live.fresh
        return f" of at most {most}: {'iterate it, or call .finish()' if fresh else '.finish() writes on'}"
