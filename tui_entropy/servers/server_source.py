"""ServerSource: a model behind a server as a source: commands to its session, and how many tokens until a pause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import (
    Advance,
    Branch,
    Command,
    Continue,
    Go,
    Label,
    Load,
    Pause,
    Reopen,
    SetBreakpoints,
    SetKnobs,
    SetVector,
    SetWatches,
    Stop,
    Write,
)
from tui_entropy.records.events import STOPPED, Continued, Event, Memory, Paused, Progress, Ready
from tui_entropy.records.model import ModelCard, ServerSpec, Trust
from tui_entropy.records.probes.answering import progress_to
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.source import Audience, Capabilities, OwnDraw, VectorFiles
from tui_entropy.records.step import Step
from tui_entropy.servers.card import KNOWN, model_card
from tui_entropy.servers.http.client import HttpClient
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.kinds.registry import card_of, identified
from tui_entropy.servers.probes.registry import answer, infos
from tui_entropy.servers.reopening.recorded_texts import RecordedTexts
from tui_entropy.servers.session import ServerSession
from tui_entropy.servers.vllm_lens.card import card_with_inside, known_inside
from tui_entropy.servers.vllm_lens.inside import Inside
from tui_entropy.state.unopened import UnopenedRecording, not_begun_with

ALWAYS = (
    "write", "set-knobs", "pause", "continue", "advance", "advance-on", "stop", "set-breakpoints", "set-watches",
    "go", "label", "ask-probe", "cancel-probe", "reopen",
)  # fmt: skip


class ServerSource:
    """A session and who commands it."""

    def __init__(
        self,
        audience: Audience,
        own_draw: Callable[..., OwnDraw] | None = None,
        vector_files: Callable[[], VectorFiles] | None = None,
    ) -> None:
        """own_draw: how a token is drawn here, where that is wanted: see engine/decoding/own_draw.py. vector_files:
        how vectors are read."""
        self.audience, self._own_draw, self._vector_files = audience, own_draw, vector_files
        self.session: ServerSession
        self.budget: int | None = None
        """Tokens to write before pausing by itself; None for no end, 0 while paused."""
        self._recorded: RecordedTexts | None = None
        self._unopened: UnopenedRecording | None = None
        """A recording that nobody has gone on with yet, and what may be done until then."""
        self._client: HttpClient | None = None
        self._server: Kind

    def begin(self, load: Load) -> None:
        spec = load.model.server
        assert spec is not None
        self._client = HttpClient(spec.url, spec.key_env, spec.timeout)
        self.audience.emit(Progress(f"asking {self._client.url} what it is"))
        try:
            self._server = identified(self._client, spec)
        except UserError as mistake:
            if load.reopen is None:
                raise
            raise UserError(f"{mistake} (`tui-entropy open --server URL` goes on with another one)") from None
        if load.vectors and (why := self._server.no_inside):
            raise UserError(f"this server is not steered, since {why}: leave --vector and --ablate out")
        card = self._card()
        inside = self._inside(card)
        self.session = ServerSession(self._server, card, self.audience.emit, self._drawn_here(spec), inside)
        if load.reopen is not None:
            self.audience.emit(Progress("reading the recording"))
            self._recorded = RecordedTexts(self.session, Path(load.reopen.path))
            self._unopened = UnopenedRecording(load.reopen.path, self._recorded.differences)

    def _inside(self, card: ModelCard) -> Inside | None:
        if self._server.inside is None:
            return None
        self.audience.emit(Progress("reading vectors that fit its model"))
        return Inside(self._server, self._server.inside, card, self._vector_files() if self._vector_files else None)

    def _drawn_here(self, spec: ServerSpec) -> Callable[..., OwnDraw] | None:
        """Raises UserError where the server does not tell the whole distribution."""
        if spec.sampler == "server":
            return None
        server = self._server
        if not server.takes_ids or not server.vocab or server.n_logprobs < server.vocab or self._own_draw is None:
            raise UserError(
                f"--server-sampler own draws from the whole distribution, and {server.title} tells "
                f"{server.n_logprobs} of {server.vocab or 'unknown many'} tokens: leave the option out"
            )
        return self._own_draw

    def _card(self) -> ModelCard:
        server, found = self._server, card_of(self._server)
        name = server.model.rstrip("/").rsplit("/", 1)[-1] if server.model.startswith("/") else server.model
        card = model_card(
            found, name, _note(server, found.name), f"as {server.title} told it: {server.distribution}",
            server.vocab, server.context_length, server.model,
        )  # fmt: skip
        if server.inside is not None:
            card = card_with_inside(card, server.inside, server.spec.lens)
        if server.spec.sampler == "server":
            return card
        own = Trust("exact", "the sampling chain of this program, on what the server told")
        return replace(card, trust={**card.trust, "sampling": own})

    def ready(self) -> Ready:
        recording = str(self._recorded.path) if self._recorded else ""
        return Ready(
            self.session.card, self.session.vectors, probes=infos(), capabilities=self.capabilities,
            recording=recording,
        )  # fmt: skip

    @property
    def capabilities(self) -> Capabilities:
        server = self._server
        lacking = {"branch": server.can_go_back, "set-vector": server.no_inside}
        commands = (*ALWAYS, *(name for name, why in lacking.items() if not why))
        told = (*(KNOWN if server.n_logprobs else ()), *(known_inside(server.inside) if server.inside else ()))
        return Capabilities(commands, told, reasons=tuple((name, why) for name, why in lacking.items() if why))

    @property
    def state(self) -> str:
        if self.session.active:
            return "paused" if self.budget == 0 else "writing"
        return "ended" if self.session.run else "ready"

    @property
    def n_written(self) -> int:
        return len(self.session.run.steps) if self.session.run else 0

    def handle(self, command: Command) -> None:
        session = self.session
        if self._unopened is not None and not isinstance(command, Reopen | Write):
            self._unopened.put_off(command, self.audience)
            return
        match command:
            case Reopen():
                self._reopen(command)
            case Write():
                self._unopened = self._recorded = None
                session.begin(command)
                self.budget = None
            case SetKnobs():
                session.set_knobs(command.knobs)
            case SetVector():
                session.set_vector(command.vector, command.rebuild)
            case Branch():
                self._branch(command)
            case Go():
                self.budget = 0
                session.go(command.run)
            case Label():
                session.label(command)
            case Stop():
                session.stop(command.reason or STOPPED)
            case Pause() if self.state == "writing" or session.reopen():
                self._pause(command.reason)
            case Continue() | Advance() if session.reopen() or session.active:
                place = command.until if isinstance(command, Advance) else ""
                session.breakpoints.run_to(place)
                self.budget = command.tokens if isinstance(command, Advance) and not place else None
                self._tell_continued()
            case SetBreakpoints():
                session.breakpoints.set_breakpoints(command.breakpoints)
            case SetWatches():
                session.breakpoints.set_watches(command.texts)
            case AskProbe():
                self._probe(command)
            # A CancelProbe comes too late here: who waits for the server hears of it (hears_cancel).

    def _reopen(self, command: Reopen) -> None:
        recorded, unopened = self._recorded, self._unopened
        if recorded is None or unopened is None:
            raise not_begun_with(command.path)
        if unopened.is_agreed(command, self.audience):
            recorded.enter(command)
            self._unopened, self._recorded, self.budget = None, None, 0

    def _probe(self, ask: AskProbe) -> None:
        """The text rests meanwhile: where a server answers one request at a time, its own would be in the way."""
        self.session.rest()
        found = answer(self.session, ask, progress_to(self.audience, ask))
        (self.audience.emit if found.record else self.audience.answer)(found)

    def _branch(self, command: Branch) -> None:
        run = self.session.run
        n_forced = self.session.branch(command)
        self.session.breakpoints.run_to()
        if command.pause and not n_forced:
            if self.state == "writing" or self.session.run is not run:
                self._pause("before a branch")
            return
        self.budget = n_forced if command.pause else None
        if self.session.run is run:
            self._tell_continued()

    def _tell_continued(self) -> None:
        assert self.session.run is not None
        self.audience.emit(Continued(self.session.run.number))

    def _pause(self, reason: str) -> None:
        assert self.session.run is not None
        self.budget = 0
        self.audience.emit(Paused(self.session.run.number, reason))
        self.session.look_ahead()
        self.session.rest()

    def advance(self) -> Event | None:
        event = self.session.advance()
        if isinstance(event, Paused):
            self.budget = 0
        if isinstance(event, Step) and self.budget is not None:
            self.budget -= 1
            if self.budget == 0 and self.session.active:
                self._pause("after a step")
        return event

    def abandon(self) -> None:
        self.session.stop("failed")

    def memory(self) -> Memory | None:
        return None

    def close(self) -> None:
        if self._client is not None:
            if hasattr(self, "session"):
                self.session.stop()
                if self.session.inside is not None:
                    self.session.inside.close()
            self._client.close()


def _note(server: Kind, title: str) -> str:
    """'llama.cpp: top 100, raw, ids'"""
    told = f"top {server.n_logprobs}" if server.n_logprobs else "no log-probabilities"
    whose = server.distribution.partition(":")[0] if server.n_logprobs else ""
    whose = "" if whose.startswith("not known") else f" {whose}"
    return f"{title}: {told}{whose}, {'ids' if server.takes_ids else 'no ids'}"
