"""Host: the app as its actions see it. EngineHost: the same where an engine writes the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tui_entropy.ui.protocol.remark import Check

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.timer import Timer

    from tui_entropy.records.commands import Command, Write
    from tui_entropy.ui.keys.session_choice import Session
    from tui_entropy.ui.protocol.requests import Requests
    from tui_entropy.ui.views.frame import Frame
    from tui_entropy.ui.views.pane_layout import PaneLayout
    from tui_entropy.ui.views.view import View


class OpenPage(Protocol):
    """A view on the whole screen, as those see it that only ask which one it is."""

    called: str
    views: tuple[View, ...]


class Host(Protocol):
    """The app on any log: what is shown, how that changes, and how a person is spoken to."""

    frame: Frame

    @property
    def screen(self) -> Screen[Any]: ...
    @property
    def base(self) -> Screen[Any]:
        """The screen under whatever is open over it."""
        ...

    @property
    def page(self) -> OpenPage | None:
        """The one that is open."""
        ...

    @property
    def model_name(self) -> str:
        """The model as a person asked for it; empty where nobody did, as in a recording."""
        ...

    @property
    def place(self) -> str:
        """As in Frame, of this moment."""
        ...

    def show(self, **changes: Any) -> None:
        """A frame with these changes, on every pane that can be seen."""

    def say(self, sentence: str, seconds: float = ..., holds: Callable[[Frame], bool] = ...) -> None:
        """As in Notices."""

    def refuse(self, sentence: str) -> None:
        """Why nothing was done: for a while, and no longer than that is so."""

    def ask(
        self, question: str, take: Callable[[str], None], text: str = "", check: Check = ..., choices: str = ""
    ) -> None:
        """As in Questions."""

    def go_to(self, index: int) -> None:
        """Look at a step. The last step and anything beyond it means following."""

    def go_before_first(self) -> None:
        """Look at what stands before the first step, where that can be opened."""

    def go_to_run(self, run: int) -> None:
        """Look at another run."""

    def focus_on(self, name: str) -> None:
        """The pane of that id, with any page closed."""

    def arrange(self, layout: PaneLayout) -> None:
        """Show the panes of the usual screen as a layout says."""

    def open_page(self, name: str) -> None: ...
    def close_page(self) -> None: ...
    def close(self, screen: Screen[Any]) -> None: ...

    @property
    def whereabouts(self) -> str:
        """The name of the session that is shown, as the page of sessions has it; empty where that is not known."""
        ...

    def leave_for(self, session: Session) -> None:
        """Close this screen, once a person agrees where something ends with it, and open another in its place."""

    def forget_terminal(self) -> None: ...

    # As Textual's App has them.
    def push_screen(self, screen: Any) -> Any: ...
    def call_after_refresh(self, callback: Callable[..., Any], *args: Any) -> bool: ...
    def set_timer(self, delay: float, callback: Callable[[], Any], /) -> Timer: ...
    def refresh(self, *, layout: bool = False) -> Any: ...
    def copy_to_clipboard(self, text: str) -> None: ...
    def exit(self) -> None: ...


class EngineHost(Host, Protocol):
    """The app on a log that an engine writes, which can be told what to do. A recording has no such app, so what
    needs one here acts on no recording."""

    @property
    def requests(self) -> Requests: ...

    def tell(self, command: Command) -> None: ...
    def write(self, wanted: Write) -> None:
        """Begin a text, now or when the model is up."""

    def begin_engine(self) -> None: ...
