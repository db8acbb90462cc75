"""The one way from a person to what the program does: keys, mouse, palette, and what was put off for later."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from textual import events, work
from textual.actions import parse
from textual.app import App, ComposeResult
from textual.await_complete import AwaitComplete
from textual.command import CommandList, CommandPalette
from textual.screen import Screen
from textual.widgets import Input

from tui_entropy.ui.keys.keymap import KEYS, holds
from tui_entropy.ui.protocol.actions import PREFIX, Actions, table_of
from tui_entropy.ui.protocol.input_order import InputOrder

if TYPE_CHECKING:
    from textual.widget import AwaitMount

BY_A_PERSON = (events.InputEvent, events.Paste)
_PARSED = [(parse(key.action)[1:], key) for key in KEYS]
KEY_OF = dict(reversed(_PARSED))
"""(action, arguments) -> the key that does it, of several the first."""
PLACES = {asked: key.where for asked, key in _PARSED}
"""(action, arguments) -> the pane that must have the focus."""
NAMES = {name for name, _ in PLACES}
"""Every action that a key has, in any app."""


class Dispatch(App[None]):
    """An app whose actions are those of its parts, and happen one after the other, each when what the one before
    opened is there, and none once leaving has begun.

    A key may arrive in any state: while a page opens, while the run is switched, with the one that quits. Those of a
    person wait for each other (InputOrder). Bindings, palette and clicks on key hints come through `run_action`, what
    an action puts off comes through `call_later` and `call_after_refresh`; so what holds at any moment is seen to
    here, and no action has to ask.

    What a key does is looked up here too: in the parts that the app was given, then in Textual. An action of the key
    table that neither has is one that this app lacks: the footer does not offer it, and pressed it says why.
    """

    ALLOW_SELECT = False
    """Text is selected by the terminal: Textual's way has no key that copies, and fails on a widget that goes."""
    leaving = False
    """The screen is on its way out: nothing is taken in, opened or painted any more."""
    _opening: AwaitMount | None = None
    """The screen that was opened last, until it is there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.actions: dict[str, Callable[..., Any]] = {}
        """Action -> what does it."""
        self._owners: dict[str, Actions[Any]] = {}
        self.input = InputOrder(self, super().on_event)
        self._absent: frozenset[str] = frozenset()
        self.commanding: frozenset[str] = frozenset()
        """Actions that command an engine."""

    def exit(self, *result: Any, **more: Any) -> None:
        self.leaving = True
        super().exit(*result, **more)

    async def on_event(self, event: events.Event) -> None:
        if self.leaving and isinstance(event, (*BY_A_PERSON, events.Resize)):
            return
        if isinstance(event, BY_A_PERSON) and not event.is_forwarded:
            await self.input.add(event)
        else:
            await super().on_event(event)

    def give(self, *parts: Actions[Any]) -> None:
        """The parts whose actions are the app's."""
        table = table_of(parts)
        self._owners = {name: part for name, (part, _) in table.items()}
        self.actions = {name: act for name, (_, act) in table.items()}
        self._absent = frozenset(name for name in NAMES if name not in table and not hasattr(self, PREFIX + name))
        self.commanding = frozenset().union(*(part.commanding for part in parts))

    @property
    @abstractmethod
    def place(self) -> str:
        """As in Frame, of this moment."""

    @property
    def lacking(self) -> frozenset[str]:
        """Actions of the key table that this app has not got, or not now."""
        return self._absent

    @abstractmethod
    def lack(self, action: str) -> None:
        """Say why a key does nothing here: its action is one that this app lacks."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not holds(PLACES.get((action, parameters), ""), self.place):
            return False
        return action not in self._owners or self._owners[action].may(action, parameters)

    async def run_action(self, action: Any, default_namespace: Any = None, namespaces: Any = None) -> bool:
        if self.leaving:
            return True
        namespace, name, arguments = parse(action) if isinstance(action, str) else action
        here = namespace == "app" or (not namespace and default_namespace in (None, self))
        if here and (name in self.actions or name in self.lacking):
            handled = bool(self.check_action(name, arguments))
            if handled:
                await self._act(name, arguments)
        else:
            handled = await super().run_action(action, default_namespace, namespaces)
        opening, self._opening = self._opening, None
        if opening is not None and not self.leaving:
            await opening
        return handled

    async def _act(self, name: str, arguments: tuple[object, ...]) -> None:
        if name in self.lacking:
            self.lack(name)
        else:
            if isawaitable(done := self.actions[name](*arguments)):
                await done
            self.on_acted(name, arguments)

    def on_acted(self, name: str, arguments: tuple[object, ...]) -> None:
        """An action of the key table was done."""

    def push_screen(self, screen: Any, *how: Any, **more: Any) -> Any:
        opened = super().push_screen(screen, *how, **more)
        if not more.get("wait_for_dismiss"):
            self._opening = opened
        return opened

    def call_later(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        return super().call_later(self._unless_leaving, callback, *args, **kwargs)

    def call_after_refresh(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        put_off = self.input.put_off(partial(self._unless_leaving, callback, *args, **kwargs))
        return super().call_after_refresh(put_off)

    async def _unless_leaving(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        if not self.leaving and isawaitable(done := callback(*args, **kwargs)):
            await done

    def close(self, screen: Screen[Any]) -> None:
        """Take a screen away, with whatever lies over it. One that is gone already stays gone."""
        while screen in self.screen_stack[1:]:
            self.pop_screen()

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))


class ClosedOnce:
    """A screen over others that is closed once, however often that is asked for before it is gone."""

    def dismiss(self, result: Any = None) -> AwaitComplete:
        assert isinstance(self, Screen)
        if self.app.screen is not self:
            return AwaitComplete.nothing()  # type: ignore[no-untyped-call,no-any-return]
        return Screen.dismiss(self, result)


class Commands(CommandList):
    """The rows of the palette."""

    def on_click(self, event: events.Click) -> None:
        """One on a row that has gone since it was drawn, as what is typed leaves fewer of them, chooses nothing."""
        if event.style.meta.get("option", -1) >= self.option_count:
            event.prevent_default()


class Palette(ClosedOnce, CommandPalette):
    """The actions by name."""

    def compose(self) -> ComposeResult:
        for widget in super().compose():
            if isinstance(widget, Input):
                widget.cursor_blink = False  # it sends bytes for ever
            yield Commands() if isinstance(widget, CommandList) else widget

    def _on_mount(self, event: events.Mount) -> None:
        """Find the actions, unless the palette is taken away again before it is there: then it is for nobody."""
        if self not in self.app.screen_stack:
            event.prevent_default()

    @work(exclusive=True, group=CommandPalette._GATHER_COMMANDS_GROUP)
    async def _gather_commands(self, search_value: str) -> None:
        """Search the palette, unless it is on its way out by the time that there is time for it, its list gone."""
        if self.query(CommandList):
            await CommandPalette._gather_commands.__wrapped__(self, search_value)  # type: ignore[attr-defined]

    def _action_command_list(self, action: str) -> None:
        """The list lays its lines out when it is drawn; a key that comes before that finds none to start from."""
        shown = self.query_one(CommandList)
        if (shown.highlighted or 0) in shown._index_to_line:
            super()._action_command_list(action)
