"""What a person set of the looks: a screen begins with it, and it is kept when they change it there."""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui_entropy.config.file import keep
from tui_entropy.config.settings import SCALES, Config
from tui_entropy.core.errors import UserError
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.pane_layout import PANES, PaneLayout

if TYPE_CHECKING:
    from tui_entropy.ui.app.viewer import Viewer

REST_S = 1.0
"""Seconds after a change until it is written, so that one key pressed on and on is one write."""


def with_look(frame: Frame, config: Config) -> Frame:
    """The frame as a person's settings have it. Its colours are chosen before."""
    rows = {tuple(key.rsplit(" ", 1)): by for key, by in config.value("panes.rows").items() if " " in key}
    hidden = frozenset(config.value("panes.hidden")) & {*PANES[2:]}
    layout = PaneLayout(hidden, rows, dict(config.value("panes.share")))
    return replace(
        frame,
        tint=BY_NAME[config.value("tint")],
        relative=SCALES[config.value("tint_scale")],
        bits=config.value("unit") == "bits",
        pages={**frame.pages, PaneLayout: layout},
    )


def look_of(frame: Frame) -> dict[str, Any]:
    """Name of a setting -> its value on this frame."""
    layout = frame.of(PaneLayout)
    return {
        "theme": frame.paint.theme.name,
        "tint": frame.tint.name,
        "tint_scale": next(name for name, relative in SCALES.items() if relative == frame.relative),
        "unit": frame.unit,
        "panes.hidden": sorted(layout.hidden),
        "panes.rows": {f"{size} {pane}": by for (size, pane), by in layout.rows.items()},
        "panes.share": dict(layout.share),
    }


class LookKeeper:
    """Writes what a person changes into the file of settings, and nothing that came by an option."""

    def __init__(self, app: Viewer, config: Config) -> None:
        self._app, self._config = app, config
        self._known: Mapping[str, Any] = look_of(app.frame)
        self._changed: dict[str, Any] = {}
        self._timer: TimerHandle | None = None

    def on_frame(self, frame: Frame) -> None:
        """A frame that is shown."""
        look = look_of(frame)
        if look == self._known:
            return
        self._changed |= {name: value for name, value in look.items() if value != self._known[name]}
        self._known = look
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._app.clock.call_later(REST_S, self.write)

    def write(self) -> None:
        """What has changed and is not written yet. Where it cannot be kept a person is told, once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        changed, self._changed = self._changed, {}
        if not changed:
            return
        try:
            keep(self._config.path, changed)
        except UserError as mistake:
            self._app.say(f"not kept for the next time: {mistake}")
            self.on_frame = lambda frame: None  # type: ignore[method-assign]
