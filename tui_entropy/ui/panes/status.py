"""One line: which model, what it is doing, and what it costs."""

from __future__ import annotations

from textual.strip import Strip

from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible
from tui_entropy.ui.drawing.paint import Paint, Part, in_bytes, size_of
from tui_entropy.ui.keys.keymap import BY_ID, key_names, keys_of
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import View

STATE = 24
"""Cells of the state, so that what follows stays in its place."""

ONE_COLUMN = (60, 108)
"""Widths, as of the breakpoints of Viewer, with one column of panes."""
LEAST_NAME = 8
"""Cells of the model's name, at least."""
REASON = 40
"""Cells of the expression that stopped it."""

GLYPHS = {
    "starting": "◌", "loading": "◔", "ready": "○", "reading": "◑", "writing": "●", "paused": "‖", "ended": "■",
    "failed": "✗", "lost": "✗",
}  # fmt: skip
GLYPHS_ASCII = {
    "starting": ".", "loading": ":", "ready": "o", "reading": "%", "writing": "*", "paused": "=", "ended": "#",
    "failed": "!", "lost": "!",
}  # fmt: skip


class Status(View):
    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        log, paint = frame.log, frame.paint
        if log.state in ("failed", "lost") and not frame.played:
            return [
                paint.row(_state(log, paint), width, [(f"{paint.between}ctrl+r restart the engine", paint.accent)])
            ]
        name = log.card.name.rsplit("/", 1)[-1] if log.card else "no model"
        state = _state(log, paint)
        if frame.played and not frame.demo:
            state = [(f"{visible(frame.played, paint.ascii, True)}  ", paint.accent), *state]
        gauges = [] if frame.demo else _gauges(frame)
        where: list[Part] = []
        if log.card and not frame.demo and width >= (108 if frame.played else 72):
            # Of weights that are not the original ones the first word says what they are, such as Q4_1.
            kind = f" {log.card.note.split(',')[0]}" if log.card.note and width >= 100 else ""
            way = f" {log.memory.step}" if log.memory and log.memory.step else ""
            place = f"{visible(log.card.device, paint.ascii, True)} {log.card.dtype}{way}".rstrip()
            where = [(f"{visible(kind)}{paint.between}{place}", paint.dim)]
        name = visible(name, in_table=True)
        short = _tabs(frame, width, named=False)
        room = max(width - size_of(state) - size_of(short) - 2, LEAST_NAME)  # what it is doing comes before its name
        left: list[Part] = [(fitted(name, min(cells(name), 24, room), paint.ascii), paint.title)]
        if size_of([*left, *where, *state]) + 2 <= width:
            left += where
        left += [("  ", paint.base), *state]
        first = cells(gauges[0]) + 2 if gauges and size_of([*left, *short]) + cells(gauges[0]) + 2 <= width else 0
        fit = (tabs for tabs in (_tabs(frame, width), short, []) if size_of([*left, *tabs]) + first <= width)
        tabs: list[Part] = next(fit, [])
        free = width - size_of([*left, *tabs])
        gap = max(STATE - size_of(state), 2)
        if gauges and gap + cells(gauges[0]) > free:
            gap = 2
        right = paint.lines(gauges, free - gap)
        return [paint.row([*left, (" " * gap, paint.base), *right[0]] if right else left, width, tabs)]


def _tabs(frame: Frame, width: int, named: bool = True) -> list[Part]:
    """Where there is one column, the keys of the panes that have no room in it, and which of them is there. `named`:
    with the names of both."""
    paint = frame.paint
    if frame.log.card is None or frame.demo or not ONE_COLUMN[0] <= width < ONE_COLUMN[1]:
        return []
    tabs: list[Part] = []
    for name in (pane for pane in ("heads", "attention") if pane not in frame.untold_panes):
        keys = key_names(keys_of(BY_ID[name], frame.keymap), paint.ascii)
        word = f" {name}" if named or frame.pane == name else ""
        tabs += [
            ("  ", paint.base), (keys, paint.number), (word, paint.focused if frame.pane == name else paint.dim)
        ]  # fmt: skip
    return tabs


def _state(log: SessionView, paint: Paint) -> list[Part]:
    """The state with a glyph, a number and a reason."""
    style = {"failed": paint.error, "lost": paint.error, "paused": paint.warning, "ended": paint.title}.get(
        log.state, paint.good
    )
    style = paint.error if log.state == "ended" and log.run.failed else style
    glyph = (GLYPHS_ASCII if paint.ascii else GLYPHS)[log.state]
    note = visible(log.note, paint.ascii, in_table=True)
    match log.state:
        case "writing":
            speed = log.tokens_per_second()
            sentence = "writing" if speed is None else f"writing {speed:.1f} tok/s"
        case "reading" if log.proxied:
            sentence = "waiting for the answer"
        case "reading":
            done = log.prefilled
            what = "text" if log.run.started.n_given else "prompt"
            what = "text again" if log.reads_again else what
            sentence = f"reading the {what} {done.done}/{done.total}" if done else f"reading the {what}"
        case "loading" if log.progress:
            return [(f"{glyph} ", style), *_progress(log, paint)]
        case "lost":
            sentence = note or "the engine is gone"
        case "failed":
            sentence = note or "failed"
        case "ready" if log.endpoint:
            sentence = "waiting for a request"
        case _:
            if log.stopped_by is not None:
                expression = note.removeprefix("breakpoint").removeprefix(": ")
                expression = fitted(expression, min(cells(expression), REASON), paint.ascii)
                note = f"breakpoint {log.stopped_by}: {expression}"
            sentence = f"{log.state} ({note})" if note else log.state
    return [(f"{glyph} {sentence}", style)]


def _progress(log: SessionView, paint: Paint) -> list[Part]:
    progress = log.progress
    assert progress
    stage = (visible(progress.stage, paint.ascii, in_table=True), paint.base)
    if progress.done is None:
        return [stage]
    if not progress.total:
        return [stage, (f" {progress.done:.0f} {progress.unit}".rstrip(), paint.number)]
    share = min(progress.done / progress.total, 1.0)
    return [
        stage,
        (" ", paint.base),
        (paint.bar(share, 10), paint.model),
        (f" {progress.done:.0f}/{progress.total:.0f} {progress.unit}".rstrip(), paint.number),
    ]


def _gauges(frame: Frame) -> list[str]:
    """Most wanted first."""
    log = frame.log
    gauges = []
    if log.card:
        room = f"/{log.card.context}" if log.card.context else ""
        gauges.append(f"context {log.context_used}{room}")
        if log.given_knobs is None or "seed" in log.given_knobs:
            gauges.append(f"seed {log.knobs.seed}")
    if log.n_open > 1:
        gauges.insert(0, f"{log.n_open} requests at once")
    if frame.link:
        gauges.append(frame.link)
    if log.memory:
        gauges.append(f"engine {in_bytes(log.memory.resident)}")
        if log.memory.device is not None:
            gauges.append(f"device {in_bytes(log.memory.device)}")
        gauges.append(f"cache {in_bytes(log.memory.cache)}")
        if log.memory.kept:
            gauges.append(f"kept {in_bytes(log.memory.kept)}")
    if frame.terminal:
        gauges.append(frame.terminal)
    return gauges
