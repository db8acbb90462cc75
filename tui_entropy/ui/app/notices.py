"""Notices: one line to a person, of what an action did or why it did nothing."""

from __future__ import annotations

from dataclasses import replace

from textual.timer import Timer

from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.views.frame import Frame

NOTICE_SECONDS = 6.0


class Notices:
    """What is said at the moment, and how long that stays. On a page a notice has a line of its own over the key
    hints, elsewhere it stands in their place."""

    def __init__(self, app: Host) -> None:
        self.app = app
        self._hush: Timer | None = None
        self.refused_in: object = None
        """The situation that a refusal is about; None for a notice that stays true for its time."""

    def say(self, sentence: str, seconds: float = NOTICE_SECONDS) -> None:
        """What was done, or what there is to know, for a while."""
        if self._hush is not None:
            self._hush.stop()
        self._hush = self.app.set_timer(seconds, lambda: self.app.show(notice=""))
        self.refused_in = None
        self.app.show(notice=sentence)

    def refuse(self, sentence: str) -> None:
        """Why nothing was done: for a while, and no longer than that is so."""
        self.say(sentence)
        self.refused_in = _situation(self.app.frame)

    def true_in(self, frame: Frame) -> Frame:
        """The frame without a refusal whose reason is gone."""
        if frame.notice and self.refused_in not in (None, _situation(frame)):
            return replace(frame, notice="")
        return frame


def _situation(frame: Frame) -> object:
    """All that a refusal can be about."""
    log = frame.log
    asked = frame.knobs, frame.vectors, frame.token, frame.row
    return log.state, log.run_number, frame.place, None if frame.following else frame.cursor, frame.second, asked
