"""Every session on this machine: the engines that run, and what was recorded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

from textual.strip import Strip

from tui_entropy.ui.drawing.glyphs import cells, fitted, visible
from tui_entropy.ui.drawing.paint import Paint, Part, size_of
from tui_entropy.ui.keys.session_choice import Session, SessionsState, chosen_session
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.list_view import ABOVE, ListView
from tui_entropy.ui.views.view import HEAVY, around
from tui_entropy.ui.views.wording import counted

BELOW = 3
"""Rows under the list that tell of the chosen one."""
WHEN, MODEL, NUMBER = 16, 22, 7
STATE = 16
WIDE = 100
"""Cells from which on there is room for the model."""


class Sessions(ListView):
    PACE: ClassVar[float] = HEAVY

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, kept = frame.paint, frame.of(SessionsState)
        sessions = kept.sessions
        if sessions is None:
            return [self.heading(frame, "sessions", ["looking for them"], width)]
        n_engines = sum(session.socket is not None for session in sessions)
        n_files = sum(session.file is not None for session in sessions) + kept.n_more
        counts = [counted(n_engines, "engine") + " running", counted(n_files, "recording")]
        heading = self.heading(frame, "sessions", counts, width)
        if not sessions:
            about = "Whatever is written is recorded, unless --no-trace: it stands here then, and goes on with enter."
            return [heading, *paint.hint(about, width)][:height]
        rows = [_row(frame, sessions[at], width) for at in self.window(frame, height)]
        foot = [paint.row(line, width) for line in _about(frame)]
        return [heading, _titles(paint, width), *rows, *foot][:height]

    def last(self, frame: Frame) -> int:
        return len(frame.of(SessionsState).sessions or ()) - 1

    def window(self, frame: Frame, height: int) -> range:
        total = self.last(frame) + 1
        return range(total)[around(frame.row, total, max(height - ABOVE - BELOW, 1))]


def _titles(paint: Paint, width: int) -> Strip:
    model = f"{'model':<{MODEL}} " if width >= WIDE else ""
    text = f"   {'written':<{WHEN}} {'engine':<{STATE}} {model}{'runs':>{NUMBER}}{'tokens':>{NUMBER}}  prompt"
    return paint.row([(text, paint.dim)], width)


def _row(frame: Frame, session: Session, width: int) -> Strip:
    paint, chosen = frame.paint, session is chosen_session(frame)
    engine = f"{session.socket.stem} {session.state}" if session.socket else ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(session.at)) if session.at else "?"
    here = session.name == frame.of(SessionsState).here
    row: list[Part] = [
        (paint.drawn if chosen else " ", paint.accent),
        (f"{paint.diamond if here else ' '} ", paint.good),
        (f"{when:<{WHEN}} ", paint.dim),
        (f"{_cell(engine, STATE, paint)} ", paint.good),
    ]
    if width >= WIDE:
        row.append((f"{_cell(session.model.rsplit('/', 1)[-1], MODEL, paint)} ", paint.base))
    numbers = "".join("?".rjust(NUMBER) if n is None else str(n).rjust(NUMBER) for n in _numbers(session))
    room = max(width - size_of(row) - cells(numbers) - 2, 0)
    words = session.prompt if session.readable else "cannot be read"
    words = _cell(words, room, paint)
    return paint.row([*row, (numbers, paint.number), (f"  {words}", paint.selected if chosen else paint.base)], width)


def _numbers(session: Session) -> tuple[int | None, int | None]:
    return session.n_runs, session.n_tokens


def _cell(text: str, room: int, paint: Paint) -> str:
    return fitted(visible(text, paint.ascii, in_table=True), room, paint.ascii)


def _about(frame: Frame) -> Iterator[list[Part]]:
    """Under the list: what was recorded where, and the command that shows it."""
    paint, kept, session = frame.paint, frame.of(SessionsState), chosen_session(frame)
    yield [(f"  {kept.n_more} older ones: `tui-entropy traces` lists them", paint.dim)] if kept.n_more else []
    if session is None:
        return
    yield [
        (visible(str(session.file), paint.ascii, True) if session.file else "no recording of it is known", paint.dim)
    ]
    if session.name == kept.here:
        yield [(f"{paint.diamond} ", paint.good), ("this screen shows it", paint.base)]
        return
    command = visible(f"`tui-entropy {session.command}`", paint.ascii, True)
    yield [("enter goes to it, and so does ", paint.dim), (command, paint.base)]
