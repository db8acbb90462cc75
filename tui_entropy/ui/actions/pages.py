"""A view on the whole screen, over the usual panes, and what its keys do."""

from __future__ import annotations

from msgspec.structs import replace as changed

from tui_entropy.records.knobs import BY_NAME
from tui_entropy.ui.actions import knob_steps
from tui_entropy.ui.pages.page import Page
from tui_entropy.ui.protocol.host import Host


class PageActions(Host):
    """What keys do that concern a page. The app has `frame`, `show`, `say`, `set_knobs`."""

    page: Page | None = None

    def action_open(self, name: str) -> None:
        """A page in place of any other; the key of the one that is open closes it."""
        again = self.page is not None and self.page.called == name
        self.action_close_page()
        if not again:
            self.page = Page(name)
            self.push_screen(self.page)
            self.show(place=name, typed="", row=0)

    def action_close_page(self) -> None:
        if self.page is not None:
            page, self.page = self.page, None
            self.close(page)
            self.show(place=self.place, following=self.frame.following)

    def action_row(self, by: int) -> None:
        """The rows of a page are what its view says."""
        if self.page is not None:
            for view in self.page.views:
                if changes := view.moved(self.frame, by):
                    self.show(**changes)

    def action_tint_chosen(self) -> None:
        self.show(tint=self.frame.chosen)

    def action_chart_chosen(self) -> None:
        charted, chosen = self.frame.charted, self.frame.chosen
        without = tuple(series for series in charted if series != chosen)
        self.show(charted=without if chosen in charted else (*charted, chosen))

    def action_stage(self, by: int) -> None:
        self.show(stage=min(max(self.frame.stage + by, 0), len(self.frame.knobs.order) - 1))

    def action_move_stage(self, by: int) -> None:
        """The chosen stage and its neighbour change places."""
        order, at = list(self.frame.knobs.order), self.frame.stage
        to = at + by
        if 0 <= to < len(order):
            order[at], order[to] = order[to], order[at]
            self.set_knobs(changed(self.frame.knobs, order=tuple(order)))
            self.show(stage=to)

    def action_adaptive(self) -> None:
        self.set_knobs(knob_steps.adjusted(self.frame.knobs, "adaptive", 1))
        self.say(ADAPTIVE[self.frame.knobs.adaptive])


_HEURISTIC = f"a heuristic to look at, about {BY_NAME['adaptive'].cost:g} ms a token: Q shows it"
ADAPTIVE = {
    "off": "adaptive sampling off: the knobs as you set them",
    "S1": f"adaptive S1: each step changes the knobs by Entropix's first thresholds; {_HEURISTIC}",
    "S3": f"adaptive S3: each step changes the knobs by Entropix's last thresholds; {_HEURISTIC}",
    "own": f"adaptive own: thresholds are quantiles of this text's recent steps; {_HEURISTIC}",
}
