"""PaneLayout: what a person changed of the panes of the usual screen, and the styles that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from textual.css.scalar import Scalar, Unit
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

PANES = ("stream", "twin", "chart", "attention", "candidates", "heads", "quadrants")
LEAST_ROWS = 2
"""Rows of a pane with its title."""
LEAST_SHARE, MOST_SHARE = 15, 75
"""Per cent of the width that the second column may have."""


@dataclass(frozen=True)
class PaneLayout:
    """Panes by the names that the stylesheet has for them. `Viewer.arrange` shows one, and `frame.of(PaneLayout)` is
    the one that is shown: whoever keeps it for another time writes the second and calls the first."""

    hidden: frozenset[str] = frozenset()
    rows: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(class of a size such as 'w2 h2', pane) -> rows that it has more than the stylesheet gives it, or fewer."""
    share: Mapping[str, int] = field(default_factory=dict)
    """Class of a width such as 'w2' -> per cent of the width that the second column has more."""

    def hiding(self, *panes: str) -> PaneLayout:
        return replace(self, hidden=self.hidden | {*panes})

    def showing(self, *panes: str) -> PaneLayout:
        return replace(self, hidden=self.hidden - {*panes})

    def taller(self, size: str, pane: str, by: int) -> PaneLayout:
        more = {**self.rows, (size, pane): self.rows.get((size, pane), 0) + by}
        return replace(self, rows={key: rows for key, rows in more.items() if rows})

    def wider(self, size: str, by: int) -> PaneLayout:
        """The second column by so many per cent."""
        more = {**self.share, size: self.share.get(size, 0) + by}
        return replace(self, share={key: share for key, share in more.items() if share})


def arrange(screen: Screen[Any], layout: PaneLayout) -> None:
    """Show that layout on top of the stylesheet; one pane on the whole screen is as large as it is."""
    zoomed, size = screen.has_class("-zoom"), size_class(screen)
    for name in PANES:
        pane = screen.query_one(f"#{name}")
        hidden = name in layout.hidden and not zoomed
        rows = layout.rows.get((size, name), 0)
        _set(pane, "display", "none" if hidden else None)
        height = max(_own_rows(pane) + rows, LEAST_ROWS) if is_fixed(pane) and rows and not zoomed else None
        for rule in ("height", "min_height", "max_height"):
            _set(pane, rule, None if height is None else Scalar.from_number(height))
    right = screen.query_one("#right")
    more, width = layout.share.get(size[:2], 0), right.styles.base.width
    percent = width is not None and width.unit is Unit.WIDTH
    share = (
        min(max(width.value + more, LEAST_SHARE), MOST_SHARE) if percent and width and more and not zoomed else None
    )
    _set(right, "width", None if share is None else Scalar(share, Unit.WIDTH, Unit.WIDTH))
    _set(right, "max_width", None if share is None else Scalar(100, Unit.WIDTH, Unit.WIDTH))
    empty = bool(layout.hidden) and not any(pane.display for pane in right.children)
    _set(right, "display", "none" if empty and not zoomed else None)


def size_class(screen: DOMNode) -> str:
    """The class of the size of a screen, as the stylesheet has it: 'w2 h2'."""
    names = sorted(
        (name[1:] for name in screen.classes if name[1:2] in ("w", "h") and name[2:].isdigit()), reverse=True
    )
    return " ".join(names)


def seen(screen: Screen[Any]) -> list[Widget]:
    """The panes that can be seen."""
    panes = (screen.query_one(f"#{name}") for name in PANES)
    return [pane for pane in panes if all(box.display for box in pane.ancestors_with_self if isinstance(box, Widget))]


def is_fixed(pane: Widget) -> bool:
    """It has rows of its own, and not those that others leave."""
    height = pane.styles.base.height
    return height is not None and height.unit in (Unit.CELLS, Unit.AUTO)


def _own_rows(pane: Widget) -> float:
    """The rows that the stylesheet gives it: a number of them, or those that its content takes between two."""
    style = pane.styles.base
    if style.height is not None and style.height.unit is Unit.CELLS:
        return style.height.value
    rows = pane.get_content_height(pane.container_size, pane.container_viewport.size, pane.size.width)
    most, least = (scalar.value if scalar is not None else None for scalar in (style.max_height, style.min_height))
    return max(rows if most is None else min(rows, most), least or 0)


def column(screen: Screen[Any], pane: Widget) -> Sequence[Widget]:
    """The panes over and under it, itself included."""
    span = pane.region.column_span
    return [
        one for one in seen(screen) if one.region.column_span[0] < span[1] and span[0] < one.region.column_span[1]
    ]


def _set(widget: Widget, rule: str, value: object) -> None:
    """One style on top of the stylesheet; None for as the stylesheet has it."""
    if value is not None or widget.styles.inline.has_rule(rule):
        setattr(widget.styles, rule, value)
