"""Notices: one line to a person, of what an action did or why it did nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from textual.timer import Timer

from tui_entropy.records.probes.continuations import CONTINUATIONS
from tui_entropy.ui.keys.keymap import with_keys
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.views.frame import Frame

NOTICE_S = 6.0
Holds = Callable[[Frame], bool]


def always(frame: Frame) -> bool:
    return True


class Notices:
    """The notice that is shown, and how long it stays. On a page a notice has a line of its own over the key
    hints, elsewhere it stands in their place: it goes when something with keys of its own is opened."""

    def __init__(self, app: Host) -> None:
        self.app = app
        self._hush: Timer | None = None
        self._holds: Holds = always
        self._place = ""
        self.refused = False
        """The last one was a refusal."""

    def say(self, sentence: str, seconds: float = NOTICE_S, holds: Holds = always) -> None:
        """Show a notice for a while: what was done, or what there is to know. A {key id} in it is that key.

        holds: whether it is still true, asked of every frame.
        """
        if self._hush is not None:
            self._hush.stop()
        self._hush = self.app.set_timer(seconds, lambda: self.app.show(notice=""))
        self._holds, self._place, self.refused = holds, self.app.place, False
        frame = self.app.frame
        self.app.show(notice=with_keys(sentence, frame.keymap, frame.paint.ascii))

    def refuse(self, sentence: str) -> None:
        """Why nothing was done: for a while, and no longer than that is so."""
        situation = _situation(replace(self.app.frame, place=self.app.place))  # a page may have opened just now
        self.say(sentence, holds=lambda frame: _situation(frame) == situation)
        self.refused = True

    def true_in(self, frame: Frame) -> Frame:
        """The frame without a notice that another place has opened over, or that is not true any more."""
        opened = frame.place not in ("", self._place)
        if frame.notice and (opened or not self._holds(frame)):
            return replace(frame, notice="")
        return frame


def _situation(frame: Frame) -> object:
    """All that a refusal can be about."""
    log = frame.log
    there = (
        log.card is None,
        len(log.runs),
        len(log.steps) > 0,
        log.answers.get(CONTINUATIONS),
        log.twin and log.twin.started,
    )
    looked_at = log.run_number, frame.place, None if frame.following else frame.cursor, frame.second, frame.row
    return log.state, frame.link, there, looked_at, frame.knobs, frame.vectors, frame.token
