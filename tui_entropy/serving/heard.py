"""What an engine was told and has not obeyed yet: commands in their order, and texts that applications ask for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from tui_entropy.records.commands import Command, SetKnobs, Stop, Write
from tui_entropy.records.probes.ask import CancelProbe
from tui_entropy.serving.observer import Client

MAX_REQUESTS = 64
"""Texts that applications may wait for, all together."""
FREE = ("ready", "ended", "failed")
"""States in which no text is going."""


@dataclass(slots=True)
class Heard:
    """Commands that wait to be obeyed."""

    _commands: deque[tuple[Client | None, Command]] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return bool(self._commands)

    def put(self, client: Client | None, command: Command) -> None:
        """client: who said it; None for nobody who is there."""
        if client is not None:
            client.waiting += 1
        self._commands.append((client, command))

    def put_first(self, command: Command) -> None:
        self._commands.appendleft((None, command))

    def take(self, in_control: Callable[[], Client | None]) -> Iterator[tuple[Client | None, Command]]:
        """Each in its turn. Of those of others than who is in control one at a time, so that they do not hold up the
        text."""
        later = list[tuple[Client | None, Command]]()
        answered = False
        while self._commands:
            client, command = self._commands.popleft()
            if client not in (None, in_control()):
                if answered:
                    later.append((client, command))
                    continue
                answered = True
            if client is not None:
                client.waiting -= 1
            yield client, command
        self._commands.extend(later)

    def overtaking(self, wish: Write | None) -> Write | None:
        """The text to begin with: the newest that was asked for since, under the knobs that were set since."""
        commands = deque[tuple[Client | None, Command]]()
        for client, command in self._commands:
            match command:
                case Write():
                    wish = command
                case SetKnobs() if wish:
                    wish = replace(wish, knobs=command.knobs)
                case _:
                    commands.append((client, command))
                    continue
            if client:
                client.waiting -= 1
        self._commands = commands
        return wish

    def cancelled(self, by: tuple[Client | None, ...]) -> bool:
        """Whether one of these does not want the answer that is computed now."""
        found = [each for each in self._commands if each[0] in by and isinstance(each[1], CancelProbe)]
        for each in found:
            self._commands.remove(each)
            if each[0]:
                each[0].waiting -= 1
        return bool(found)


@dataclass(slots=True)
class Requests:
    """Texts that applications ask for. Each begins once no other text is going: none is written, and none that is
    held rests before the eyes of a person."""

    _waiting: deque[tuple[Client, Write]] = field(default_factory=deque)
    _newest: tuple[Client, str] | None = None
    """Of the one that began last: who asked for it, and by which name."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, client: Client, write: Write) -> bool:
        """Let one wait; False where too many do."""
        if len(self._waiting) >= MAX_REQUESTS:
            return False
        self._waiting.append((client, write))
        return True

    def due(self, state: str, n_screens: int) -> bool:
        """Whether one may begin. state: of the engine. n_screens: how many look on."""
        return bool(self) and (state in FREE or (state == "paused" and not n_screens))

    def pop(self) -> tuple[Client, Write]:
        """The one that is due."""
        client, write = self._waiting.popleft()
        self._newest = client, write.request
        return client, write

    def cancel(self, client: Client, request: str) -> bool:
        """It is not wanted any more; whether it was waiting."""
        before = len(self._waiting)
        self._waiting = deque(each for each in self._waiting if (each[0], each[1].request) != (client, request))
        return len(self._waiting) < before

    def leave(self, client: Client) -> Stop | None:
        """Nobody is there any more who could read what a client asked for. What is to be done about it."""
        self._waiting = deque(each for each in self._waiting if each[0] is not client)
        if self._newest is None or self._newest[0] is not client:
            return None
        stop, self._newest = Stop(self._newest[1]), None
        return stop
