"""Page: a view on the whole screen."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.screen import Screen

from tui_entropy.ui.views.terminal_sized import TerminalSized
from tui_entropy.ui.views.view import View


class Page(TerminalSized, Screen[None]):
    """Holds the view of a name of keymap.PAGES between the status line and the key hints. The app hands its views
    every frame, and everywhere-keys act as they do elsewhere."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.called = name
        self.views = tuple(self._made())

    def _made(self) -> tuple[View, ...]:
        from tui_entropy.ui.pages.big_chart import BigChart
        from tui_entropy.ui.pages.breakpoints import Breakpoints
        from tui_entropy.ui.pages.layers import Layers
        from tui_entropy.ui.pages.numbers import Numbers
        from tui_entropy.ui.pages.probes import Probes
        from tui_entropy.ui.pages.quadrants import Quadrants
        from tui_entropy.ui.pages.runs.branches import Branches
        from tui_entropy.ui.pages.runs.comparison import Lanes
        from tui_entropy.ui.pages.runs.continuations import Fan
        from tui_entropy.ui.pages.runs.diff import Diff
        from tui_entropy.ui.pages.server import Server
        from tui_entropy.ui.pages.sessions import Sessions
        from tui_entropy.ui.pages.watches import Watches
        from tui_entropy.ui.pages.waterfall import Waterfall
        from tui_entropy.ui.panes.hints import Hints
        from tui_entropy.ui.panes.status import Status

        kinds: dict[str, type[View]] = {
            "numbers": Numbers, "layers": Layers, "waterfall": Waterfall, "quadrants": Quadrants, "chart": BigChart,
            "branches": Branches, "diff": Diff, "lanes": Lanes, "fan": Fan,
            "breakpoints": Breakpoints, "watches": Watches, "probes": Probes,
            "sessions": Sessions, "server": Server,
        }  # fmt: skip
        return Status(id="status"), kinds[self.called](), Hints(id="hints")

    def compose(self) -> ComposeResult:
        yield from self.views
