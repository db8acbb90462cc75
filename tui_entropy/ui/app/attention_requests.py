"""The attention rows that the screen lacks, asked for one question at a time."""

from __future__ import annotations

import math
from asyncio import get_running_loop

from tui_entropy.ui.panes.attention import AttentionMap
from tui_entropy.ui.protocol.host import EngineHost

ANSWER_TIMEOUT_S = 2.0
"""After which a question that nobody answers is given up."""


class AttentionRequests:
    """The last request of the attention view, and whether it is answered."""

    def __init__(self, app: EngineHost, view: AttentionMap) -> None:
        self._app, self._view = app, view
        self._newest: object = None
        self._pending_since = -math.inf

    def ask(self) -> None:
        """For the rows of the view as it stands."""
        frame, view, now = self._app.frame, self._view, get_running_loop().time()
        if self._app.page or not view.display or not view.size or now - self._pending_since < ANSWER_TIMEOUT_S:
            return
        wanted = view.wanted(frame)
        if wanted is None or wanted == self._newest:
            return
        self._newest, self._pending_since = wanted, now
        self._app.tell(wanted)

    def on_answer(self) -> None:
        """Or refused: the next may be asked."""
        self._pending_since = -math.inf

    def forget(self) -> None:
        """Forget the last request: its answer is none to what is asked from now on."""
        self._newest = None
