"""ProxySource: what passes between applications and a server, as runs that can be looked at and not changed."""

from __future__ import annotations

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Command, Go, Label, Load, Relayed
from tui_entropy.records.events import Continued, Event, Labelled, Memory, Ready, Switched
from tui_entropy.records.model import ModelCard, ServerCard, ServerFact
from tui_entropy.records.source import ABILITIES, Audience, Capabilities
from tui_entropy.servers.card import KNOWN, model_card
from tui_entropy.servers.http.address import base_of
from tui_entropy.servers.proxied.exchange import Exchange
from tui_entropy.servers.tokens import TokenNames

MOST_OPEN = 1024
"""Requests on their way at a time; of further ones nothing is shown."""
ABOUT = "requests of applications pass to it unchanged, and nothing else is asked of it"
BELIEVED = "as the server told it"
ABLE = ("relayed", "go", "label")
READ_ONLY = "a proxy is read-only: what passes is the application's"
"""Why it can do nothing else."""


class ProxySource:
    """It writes nothing by itself: all that happens is told to it by who passes the requests on."""

    capabilities = Capabilities(
        ABLE, KNOWN, reasons=tuple((name, READ_ONLY) for name in ABILITIES if name not in ABLE)
    )

    def __init__(self, audience: Audience) -> None:
        self._emit = audience.emit
        self._names = TokenNames()
        self._open: dict[str, tuple[int, Exchange]] = {}
        """Requests that are not answered to their end, by their names: run and exchange."""
        self._labels: list[Labelled] = []
        """Of each run, in order."""
        self._card: ModelCard
        self._n_newest = 0

    def begin(self, load: Load) -> None:
        assert load.model.server is not None
        url = base_of(load.model.server.url, "--proxy")
        facts = [ServerFact("applications ask at", load.endpoint)] if load.endpoint else []
        facts += [ServerFact("what passes", ABOUT), ServerFact("log-probabilities", "as many as a request asks for")]
        server = ServerCard("openai", "a server behind a proxy", url, 0, tuple(facts), spec=load.model.server)
        self._card = model_card(server, "proxy", "", BELIEVED, requested=url)

    def ready(self) -> Ready:
        return Ready(self._card, capabilities=self.capabilities)

    @property
    def state(self) -> str:
        """Never 'writing': there is nothing that could be asked for."""
        return "ended" if self._labels else "ready"

    @property
    def n_written(self) -> int:
        return self._n_newest

    def handle(self, command: Command) -> None:
        match command:
            case Relayed():
                self._relayed(command)
            case Go():
                self._go(command.run)
            case Label():
                now = self._label_of(command.run)
                self._labels[command.run - 1] = told = Labelled(
                    command.run,
                    now.name if command.name is None else command.name,
                    now.starred if command.starred is None else command.starred,
                    now.deleted if command.deleted is None else command.deleted,
                )
                self._emit(told)

    def _relayed(self, part: Relayed) -> None:
        if part.route and part.request not in self._open and len(self._open) < MOST_OPEN:
            run = len(self._labels) + 1
            exchange = Exchange(run, part, self._card, self._names, self._emit)
            self._labels.append(Labelled(run, exchange.name, False))
            self._emit(self._labels[-1])
            self._open[part.request] = run, exchange
        if (found := self._open.get(part.request)) is None:
            return
        run, exchange = found
        try:
            is_over = exchange.take(part)
        except Exception:
            del self._open[part.request]
            raise
        if run == len(self._labels):
            self._n_newest = exchange.n_written
        if is_over:
            del self._open[part.request]

    def _label_of(self, run: int) -> Labelled:
        if not 0 < run <= len(self._labels):
            raise UserError(f"there is no run {run}: there are {len(self._labels)} of them, choose one of those")
        return self._labels[run - 1]

    def _go(self, run: int) -> None:
        self._label_of(run)
        self._emit(Switched(run))
        if any(run == number for number, _ in self._open.values()):
            self._emit(Continued(run))

    def advance(self) -> Event | None:
        return None

    def abandon(self) -> None:
        """Each request stands for itself: the others go on."""

    def memory(self) -> Memory | None:
        return None

    def close(self) -> None:
        for _, exchange in self._open.values():
            exchange.end("stopped", 0.0)
        self._open.clear()
