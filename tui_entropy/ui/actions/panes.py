"""Panes: which are seen, how large, and what lies over them."""

from __future__ import annotations

from textual.widget import Widget

from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.views.pane_layout import LEAST_ROWS, PANES, PaneLayout, column, is_fixed, size_class

SHOWN = ("-show-heads", "-show-attention")
TEXTS = ("stream", "twin")
STEP = 5
"""Per cent of the width that a column grows by."""


class PaneActions(Actions[Host]):
    """The actions on the panes of the usual screen: which there are, and where."""

    def action_page(self, pages: int) -> None:
        self.app.base.query_one(TokenStream).page(pages)

    def action_pane(self, name: str) -> None:
        """To a pane, on small screens in place of others; the same key again leads back."""
        app = self.app
        if name in app.frame.untold_panes:
            app.refuse("this model is behind a server, which tells nothing of its inside: {server} says what it does")
            return
        app.close_page()
        focused = app.base.focused
        back = focused is not None and focused.id == name
        self._unzoom()
        app.base.remove_class(*SHOWN)
        if not back:
            app.base.add_class(f"-show-{name}")
        app.arrange(self._layout.showing(name))
        app.show(pane="" if back else name)
        app.call_after_refresh(app.focus_on, "stream" if back else name)

    def action_zoom(self) -> None:
        app = self.app
        app.close_page()
        if app.base.has_class("-zoom"):
            name = self._pane.id or "stream"
            self._unzoom()
            app.call_after_refresh(app.focus_on, name)
            return
        for shown in self._pane.ancestors_with_self:
            if shown.id == "body":
                break
            shown.add_class("-zoomed")
        app.base.add_class("-zoom")
        app.arrange(self._layout)

    def _unzoom(self) -> None:
        self.app.base.remove_class("-zoom")
        self.app.base.query(".-zoomed").remove_class("-zoomed")
        self.app.arrange(self._layout)

    # --- Which, and how large --------------------------------------------------------------------------------

    @property
    def _layout(self) -> PaneLayout:
        return self.app.frame.of(PaneLayout)

    @property
    def _pane(self) -> Widget:
        """The pane in focus, the text where none is."""
        focused = self.app.base.focused
        name = focused.id if focused is not None and focused.id in PANES else "stream"
        return self.app.base.query_one(f"#{name}")

    def action_hide(self) -> None:
        """The pane in focus; on the text, whatever is hidden comes back."""
        app, name = self.app, self._pane.id or ""
        app.close_page()
        self._unzoom()
        if name not in TEXTS:
            app.focus_on("stream")
            app.base.remove_class(f"-show-{name}")
            app.arrange(self._layout.hiding(name))
            app.say(f"the pane of {NAMES[name]} is hidden: {{hide}} on the text brings it back")
        elif self._layout.hidden:
            app.arrange(self._layout.showing(*self._layout.hidden))
        else:
            app.refuse("the text stays, and no pane is hidden: {focus} goes to a pane, {hide} hides it")

    def action_taller(self, by: int) -> None:
        """The pane in focus. One that has the rows that others leave takes them from another of its column."""
        app, pane = self.app, self._pane
        app.close_page()
        beside = column(app.base, pane)
        rest = [one for one in beside if not is_fixed(one)]
        fixed = [pane] if is_fixed(pane) else [one for one in beside if is_fixed(one)]
        if app.base.has_class("-zoom") or not fixed or not rest:
            app.refuse("this pane has all the rows that there are")
            return
        more = by if fixed[0] is pane else -by
        changed = max(fixed, key=_rows) if more < 0 else fixed[0]
        giving, least = (changed, LEAST_ROWS) if more < 0 else (min(rest, key=_rows), LEAST_ROWS + 1)
        if _rows(giving) <= least:
            app.refuse("there is no room for that")
        else:
            app.arrange(self._layout.taller(size_class(app.base), changed.id or "", more))

    def action_wider(self, by: int) -> None:
        """The column of the pane in focus, where there are two."""
        app = self.app
        app.close_page()
        right = app.base.query_one("#right")
        if app.base.has_class("-zoom") or right.region.y != app.base.query_one("#left").region.y or not right.region:
            app.refuse("there is one column: a wider terminal has two")
            return
        inside = right in self._pane.ancestors
        app.arrange(self._layout.wider(size_class(app.base)[:2], by * STEP if inside else -by * STEP))

    def action_escape(self) -> None:
        self._unzoom()
        self.app.base.remove_class(*SHOWN)
        self.app.show(pane="")
        self.app.focus_on("stream")

    def action_demo(self) -> None:
        self.app.show(demo=not self.app.frame.demo, caption="")

    def action_help(self) -> None:
        from tui_entropy.ui.dialogs.help import HelpScreen

        self.app.push_screen(HelpScreen(self.app.frame, self._pane.id or ""))

    def action_redraw(self) -> None:
        self.app.forget_terminal()
        self.app.refresh(layout=True)

    def action_help_quit(self) -> None:
        """ctrl-C."""
        self.app.say("{quit} quits")


def _rows(pane: Widget) -> int:
    return pane.region.height


NAMES = {
    "chart": "numbers over time", "attention": "attention", "candidates": "the next token", "heads": "the heads",
    "quadrants": "the quadrants",
}  # fmt: skip
"""A pane that can be hidden -> what is in it."""
