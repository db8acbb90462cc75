"""The screens of a recording as it plays, one after the other, with the time of each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

from textual.strip import Strip

from tui_entropy.trace.playback import Playback
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.capture.animated_svg import AnimatedSvg
from tui_entropy.ui.capture.asciicast import Asciicast
from tui_entropy.ui.capture.moment import WHOLE, Clock, Cut, Moment
from tui_entropy.ui.capture.snapshot import on_stage, painted_rows, terminal
from tui_entropy.ui.drawing.glyphs import visible
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.views.view import View

FRAME = 1 / 20
"""Seconds between two screens of a film, at least."""


async def moments(app: ReplayApp, clock: Clock, size: tuple[int, int], cut: Cut = WHOLE) -> AsyncIterator[Moment]:
    """The playback from where it is to its end, or to that of the cut.

    clock: the playback's own. The screen is drawn at most 20 times a second.
    """
    playback, at = app.playback, 0.0
    shown: dict[View, float] = {}
    async with on_stage(app, size) as pilot:
        tokens = len(playback.log.steps)
        while True:
            app.come_to()
            await pilot.pause(0)
            wait = playback.wait
            is_last = wait is None or (cut.last is not None and len(playback.log.steps) >= cut.last)
            texts = playback.log.steps.texts
            new = range(tokens, len(playback.log.steps))
            markers = tuple(f"token {n + 1} {visible(texts[n], in_table=True)}" for n in new)
            yield Moment(at, painted(app, at, shown, is_last), markers)
            tokens = len(playback.log.steps)
            if wait is None or is_last:
                return
            clock.now += max(wait, FRAME)
            at += max(min(wait, cut.idle), FRAME)
            playback.advance()


def painted(app: ReplayApp, at: float, shown: dict[View, float], is_last: bool = False) -> list[Strip]:
    """The rows of the screen, with each view no older than its pace. shown: when each was painted last."""
    for view in app.views:
        if is_last or at - shown.get(view, -math.inf) >= view.PACE - FRAME / 2:
            view.show(app.frame)
            shown[view] = at
    return painted_rows(app)


def encode(
    file: Path,
    playback: Playback,
    clock: Clock,
    size: tuple[int, int],
    paint: Paint,
    cut: Cut = WHOLE,
    demo: bool = False,
) -> bytes:
    """The film of a playback in the format that the name of its file ends in: .svg, or .cast for any other."""
    app = ReplayApp(playback, paint=paint, film=True, demo=demo)
    return asyncio.run(_encode(file.suffix == ".svg", app, clock, size, cut))


async def _encode(is_svg: bool, app: ReplayApp, clock: Clock, size: tuple[int, int], cut: Cut) -> bytes:
    title, paint = app.playback.trace.path.name, app.frame.paint
    svg, cast = AnimatedSvg(size, title, terminal(paint.theme.dark)), Asciicast(size, title, paint.color)
    lines = [cast.header]
    async for moment in moments(app, clock, size, cut):
        if is_svg:
            svg.take(moment)
        else:
            lines += cast.lines(moment)
    return (svg.text() if is_svg else "".join(f"{line}\n" for line in lines)).encode()
