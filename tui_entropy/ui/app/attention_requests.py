"""The attention rows that the screen lacks, asked for one question at a time; and which head it looks at."""

from __future__ import annotations

import math
from asyncio import get_running_loop
from collections.abc import Callable

from tui_entropy.records.commands import SelectHead
from tui_entropy.ui.panes.attention import AttentionMap
from tui_entropy.ui.protocol.host import EngineHost
from tui_entropy.ui.views.frame import Frame

ANSWER_TIMEOUT_S = 2.0
"""After which a question that nobody answers is given up."""


class AttentionRequests:
    """The last request of the attention view, and whether it is answered."""

    def __init__(self, app: EngineHost, view: AttentionMap, in_control: Callable[[], bool]) -> None:
        """in_control: whether this screen may tell the engine anything."""
        self._app, self._view, self._in_control = app, view, in_control
        self._newest: object = None
        self._pending_since = -math.inf
        self._selected: tuple[int, int | None] | None = None
        """The head that the engine was told and has not told of since."""

    def ask(self) -> None:
        """For the rows of the view as it stands."""
        frame, view, now = self._app.frame, self._view, get_running_loop().time()
        self._select(frame)
        seen = (view.display and view.size) or frame.attention_tint
        if self._app.page or not seen or now - self._pending_since < ANSWER_TIMEOUT_S:
            return
        wanted = view.wanted(frame)
        if wanted is None or wanted == self._newest:
            return
        self._newest, self._pending_since = wanted, now
        self._app.tell(wanted)

    def _select(self, frame: Frame) -> None:
        """Tell an engine that records rows which head a person looks at: it then records that one's."""
        head, log = (frame.layer, frame.head), frame.log
        known = self._selected or (log.head and (log.head.layer, log.head.head))
        records = frame.step is not None and frame.step.attention_rows is not None
        can = self._in_control() and records and log.capabilities.can("select-head")
        if frame.own_head and can and head != known:
            self._selected = head
            self._app.tell(SelectHead(*head))

    def on_answer(self) -> None:
        """Or refused: the next may be asked."""
        self._pending_since = -math.inf

    def on_selected(self) -> None:
        """The engine tells which head it records."""
        self._selected = None

    def forget(self) -> None:
        """Forget the last request: its answer is none to what is asked from now on."""
        self._newest = self._selected = None
