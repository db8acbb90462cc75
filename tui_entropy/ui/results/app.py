"""ResultsApp: the screen of results. A row that opens a text closes it, and whoever ran it opens the inspector."""

from __future__ import annotations

from dataclasses import replace

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.driver import Driver

from tui_entropy.records.corpus.results import Opening, Results
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.dialogs.failure import ClosesOnFailure
from tui_entropy.ui.drawing.line_filter import InAscii, WithoutControls
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.theme import textual_theme
from tui_entropy.ui.results.state import ResultsState
from tui_entropy.ui.results.views import ResultsChart, ResultsHints, ResultsTable, ResultsTitle
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import View

CSS = """
Screen { layout: vertical; overflow: hidden; }
#title, #hints { height: 1; }
#body { layout: vertical; height: 1fr; }
#curves { height: 1fr; width: 1fr; }
#rows { height: 1fr; width: 1fr; }
.-w2 #body { layout: horizontal; }
.-w2 #curves { margin-right: 2; }
"""


class ResultsApp(ClosesOnFailure, App[None]):
    """state: where a person was in the same results, to come back to."""

    TITLE = "tui-entropy"
    CSS = CSS
    HORIZONTAL_BREAKPOINTS = [(0, "-w1"), (100, "-w2")]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [  # noqa: RUF012
        Binding("up,k", "move(-1)"), Binding("down,j", "move(1)"),
        Binding("pageup", "page(-1)"), Binding("pagedown", "page(1)"),
        Binding("home", "end(0)"), Binding("end", "end(1)"),
        Binding("enter,right", "open(0)"), Binding("2", "open(1)"),
        Binding("escape,left,backspace", "out"),
        Binding("c,tab", "chart(1)"), Binding("C,shift+tab", "chart(-1)"),
        Binding("u", "unit"), Binding("q,ctrl+q,ctrl+c", "leave"),
    ]  # fmt: skip

    def __init__(
        self,
        results: Results,
        paint: Paint | None = None,
        state: ResultsState | None = None,
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(driver_class=driver_class)
        self._filters.append(WithoutControls())
        self.frame = Frame(SessionView(), paint or Paint())
        if self.frame.paint.ascii:
            self._filters.append(InAscii())
        theme = textual_theme(self.frame.paint.theme, self.frame.paint.color)
        self.register_theme(theme)
        self.theme = theme.name
        self.frame = replace(self.frame, **self.frame.put(ResultsState, results=results))
        if state is not None:
            self.frame = replace(self.frame, pages={ResultsState: state})
        self.opening: Opening | None = None
        """The token that the inspector is to be opened on; None where a person left."""

    @property
    def state(self) -> ResultsState:
        return self.frame.of(ResultsState)

    def compose(self) -> ComposeResult:
        yield ResultsTitle(id="title")
        yield Container(ResultsChart(id="curves"), ResultsTable(id="rows"), id="body")
        yield ResultsHints(id="hints")

    def on_mount(self) -> None:
        self.query_one("#curves").display = bool(self.state.results.charts)
        self.show(self.state)

    def show(self, state: ResultsState, **changes: object) -> None:
        """Another state, on every view."""
        self.frame = replace(self.frame, pages={ResultsState: state}, **changes)  # type: ignore[arg-type]
        for view in (ResultsTitle, ResultsChart, ResultsTable, ResultsHints):
            self.query_one(view).show(self.frame)

    # --- Keys ------------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        self.show(self.state.to(self.state.row + by))

    def action_page(self, by: int) -> None:
        self.action_move(by * max(self.query_one(ResultsTable).size.height - 3, 1))

    def action_end(self, which: int) -> None:
        self.show(self.state.to(len(self.state.listing.rows) * which))

    def action_open(self, nth: int) -> None:
        row = self.state.chosen
        if row is not None and row.inside is not None and nth == 0:
            self.show(self.state.inside())
        elif row is not None and nth < len(row.opens):
            self.opening = row.opens[nth]
            self.exit()
        else:
            self.show(replace(self.state, message="there is nothing to open here"))

    def action_out(self) -> None:
        self.show(self.state.outside())

    def action_chart(self, by: int) -> None:
        self.show(self.state.next_chart(by))

    def action_unit(self) -> None:
        self.show(self.state, bits=not self.frame.bits)

    def action_leave(self) -> None:
        self.exit()

    def on_view_row_asked(self, message: View.RowAsked) -> None:
        """A click chooses a row, and on the chosen one opens it."""
        if message.row == self.state.row:
            self.action_open(0)
        else:
            self.show(self.state.to(message.row))
