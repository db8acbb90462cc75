"""A demo: a recording with scenes, each of keys that are pressed, a caption and the seconds that it lasts."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import text_of
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.capture.animated_svg import AnimatedSvg
from tui_entropy.ui.capture.film import FRAME, painted
from tui_entropy.ui.capture.moment import Clock, Moment
from tui_entropy.ui.capture.snapshot import on_stage, terminal
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.views.view import View


class Scene(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: float
    """That pass, of the recording too while it plays."""
    keys: tuple[str, ...] = ()
    """Pressed at its beginning, as Textual names them."""
    caption: str = ""
    """In place of the one that the last key has: a key, two spaces, and what it does; or a sentence."""
    skip: int | None = None
    """The token from which on the run plays on, counted from 1, before any key is pressed."""


class Demo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    trace: str
    """The recording, beside this file."""
    title: str
    scene: tuple[Scene, ...]
    run: int = 1
    """The run that it begins with."""
    speed: float = 1.0
    size: tuple[int, int] = (100, 28)


def read_demo(path: Path) -> Demo:
    """Raises UserError for what is no such file."""
    try:
        return msgspec.convert(tomllib.loads(text_of(path)), Demo)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} holds no demo ({error})") from error


def film_demo(path: Path, paint: Paint | None = None) -> str:
    """The demo of a file as an animated SVG. Raises UserError."""
    demo, clock = read_demo(path), Clock()
    trace = Trace.open(path.parent / demo.trace)
    playback = Playback(trace, demo.run, speed=demo.speed, clock=clock)
    app = ReplayApp(playback, paint=paint, film=True, demo=True)
    svg = AnimatedSvg(demo.size, demo.title, terminal(app.frame.paint.theme.dark))

    async def filmed() -> None:
        async for moment in moments_of(app, demo, clock):
            svg.take(moment)

    asyncio.run(filmed())
    return svg.text()


async def moments_of(app: ReplayApp, demo: Demo, clock: Clock) -> AsyncIterator[Moment]:
    """The screens of a demo. clock: that of the app's playback."""
    at = 0.0
    async with on_stage(app, demo.size) as pilot:
        for scene in demo.scene:
            if scene.skip is not None:
                app.playback.seek(scene.skip - 1)
            for key in scene.keys:
                await pilot.press(key)
            app.show(notice="", caption=scene.caption or app.frame.caption)  # a notice goes by another clock
            shown: dict[View, float] = {}
            end, first = at + scene.seconds, True
            while at < end:
                app.come_to()
                await pilot.pause(0)
                yield Moment(at, painted(app, at, shown, is_last=first))
                first, step = False, min(2 * FRAME, end - at)
                clock.now, at = clock.now + step, at + step
                app.playback.advance()
