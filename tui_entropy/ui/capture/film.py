"""The screens of a recording as it plays, one after the other, with the time of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from tui_entropy.trace.playback import Playback
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.capture.animated_svg import AnimatedSvg
from tui_entropy.ui.capture.asciicast import Asciicast
from tui_entropy.ui.capture.moment import WHOLE, Clock, Cut, Moment
from tui_entropy.ui.capture.snapshot import on_stage, screen, terminal
from tui_entropy.ui.drawing.glyphs import visible
from tui_entropy.ui.drawing.paint import Paint

FRAME = 1 / 20
"""Seconds between two screens of a film, at least."""


async def moments(app: ReplayApp, clock: Clock, size: tuple[int, int], cut: Cut = WHOLE) -> AsyncIterator[Moment]:
    """The playback from where it is to its end, or to that of the cut.

    clock: the playback's own. The screen is drawn at most 20 times a second.
    """
    playback, at = app.playback, 0.0
    async with on_stage(app, size) as pilot:
        tokens = len(playback.log.steps)
        while True:
            app.come_to()
            await pilot.pause(0)
            texts = playback.log.steps.texts
            new = range(tokens, len(playback.log.steps))
            yield Moment(at, screen(app), tuple(f"token {n + 1} {visible(texts[n], in_table=True)}" for n in new))
            tokens = len(playback.log.steps)
            wait = playback.wait
            if wait is None or (cut.last is not None and tokens >= cut.last):
                return
            clock.now += max(wait, FRAME)
            at += max(min(wait, cut.idle), FRAME)
            playback.advance()


def encode(
    file: Path, playback: Playback, clock: Clock, size: tuple[int, int], paint: Paint, cut: Cut = WHOLE
) -> bytes:
    """The film of a playback in the format that the name of its file ends in: .svg, or .cast for any other."""
    return asyncio.run(_encode(file.suffix == ".svg", ReplayApp(playback, paint=paint, film=True), clock, size, cut))


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
