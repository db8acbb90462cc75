"""Actions: what the keys of one subject do, as an object of its own that is given the app."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic, TypeVar

from tui_entropy.ui.protocol.host import EngineHost, Host

PREFIX = "action_"
App = TypeVar("App", bound=Host)
"""What they need of the app: Host, or EngineHost for those that tell an engine something."""


class Actions(Generic[App]):
    """Offers an action `x` for each of its methods `action_x`, by which the table of keys names it."""

    offered: ClassVar[tuple[str, ...]] = ()
    """The names of its actions."""
    commanding: ClassVar[frozenset[str]] = frozenset()
    """Those of them that command an engine: a screen that only watches one has not got them."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.offered = tuple(name.removeprefix(PREFIX) for name in dir(cls) if name.startswith(PREFIX))

    def __init__(self, app: App) -> None:
        self.app = app

    def may(self, action: str, arguments: tuple[Any, ...]) -> bool:
        """Whether one of its actions acts now, as far as only these actions know; a key that may not goes on to
        whatever else has it."""
        return True


class EngineActions(Actions[EngineHost]):
    """Actions that all command the engine."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.commanding = frozenset(cls.offered)


def table_of(parts: Iterable[Actions[Any]]) -> dict[str, tuple[Actions[Any], Callable[..., Any]]]:
    """Action -> whose it is, and what does it. Each is of one part only."""
    table: dict[str, tuple[Actions[Any], Callable[..., Any]]] = {}
    for part in parts:
        for name in part.offered:
            assert name not in table, f"{name} is an action of {table[name][0]} and of {part}"
            table[name] = part, getattr(part, PREFIX + name)
    return table
