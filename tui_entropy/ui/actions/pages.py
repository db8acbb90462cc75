"""A view on the whole screen, over the usual panes, and what its keys do."""

from __future__ import annotations

from tui_entropy.ui.pages.numbers import NumbersState
from tui_entropy.ui.pages.page import Page
from tui_entropy.ui.pages.waterfall import WaterfallState
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.host import Host


class PageActions(Actions[Host]):
    """Which page is open, and what is looked at on it."""

    page: Page | None = None
    """The one that is open."""

    def action_open(self, name: str) -> None:
        """A page in place of any other; the key of the one that is open closes it."""
        again = self.page is not None and self.page.called == name
        self.action_close_page()
        if not again:
            self.page = Page(name)
            self.app.push_screen(self.page)
            self.app.show(place=name, typed="", row=0)

    def action_close_page(self) -> None:
        if self.page is not None:
            page, self.page = self.page, None
            self.app.close(page)
            self.app.show(place=self.app.place, following=self.app.frame.following)

    def action_row(self, by: int) -> None:
        """The rows of a page are what its view says."""
        if self.page is not None:
            for view in self.page.views:
                if changes := view.moved(self.app.frame, by):
                    self.app.show(**changes)

    def action_tint_chosen(self) -> None:
        self.app.show(tint=self.app.frame.of(NumbersState).chosen)

    def action_chart_chosen(self) -> None:
        plotted, chosen = self.app.frame.chart_series, self.app.frame.of(NumbersState).chosen
        without = tuple(metric for metric in plotted if metric != chosen)
        self.app.show(chart_series=without if chosen in plotted else (*plotted, chosen))

    def action_stage(self, by: int) -> None:
        frame = self.app.frame
        stage = min(max(frame.of(WaterfallState).stage + by, 0), len(frame.knobs.order) - 1)
        self.app.show(**frame.put(WaterfallState, stage=stage))
