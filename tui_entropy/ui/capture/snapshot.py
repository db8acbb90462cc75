"""Pictures of a recording, and films of it, without a terminal. The same file gives the same bytes."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.color import parse_rgb_hex
from rich.console import Console
from rich.segment import Segment, Segments
from rich.terminal_theme import TerminalTheme
from textual.pilot import Pilot
from textual.strip import Strip

from tui_entropy.core.errors import UserError
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.trace.lazy_steps import LazySteps
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.app.viewer import Viewer
from tui_entropy.ui.capture.wishes import ATTENTION, MEAN, Snapshot
from tui_entropy.ui.drawing.contrast import PALETTES
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.probe_choice import answered_row

SHOWN_BY_KEY = ("heads", "attention")
"""Panes that a key shows on a screen that has no room for them."""

# --- What is on a screen -----------------------------------------------------------------------------------------


def screen(app: Viewer) -> list[Strip]:
    """Every row, with each view as it is now."""
    for view in app.views:
        view.show(app.frame)
    return painted_rows(app)


def painted_rows(app: Viewer) -> list[Strip]:
    """Every row, as it was painted last."""
    return app.screen._compositor.render_strips()


def as_text(rows: Sequence[Strip]) -> str:
    return "".join(f"{row.text.rstrip()}\n" for row in rows)


def as_svg(rows: Sequence[Strip], title: str = "tui-entropy", dark: bool = True) -> str:
    """Self-contained: without the fonts that a viewer would have to download; its own monospaced one serves. Sixteen
    colours are those of GNOME's terminal, on a dark ground or a light one."""
    width = rows[0].cell_length
    console = Console(
        width=width, height=len(rows), file=io.StringIO(), force_terminal=True, color_system="truecolor", record=True,
        legacy_windows=False, safe_box=False,
    )  # fmt: skip
    console.print(Segments([segment for row in rows for segment in (*Segment.simplify(row), Segment.line())]), end="")
    svg = console.export_svg(title=title, unique_id="tui-entropy", theme=terminal(dark))
    svg = re.sub(r"@font-face\s*\{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "DejaVu Sans Mono, Menlo, Consolas, monospace")


def terminal(dark: bool) -> TerminalTheme:
    """The colours of the terminal that a picture shows."""
    sixteen: list[tuple[int, int, int]] = [parse_rgb_hex(digits) for digits in PALETTES["gnome"].split()]
    ground, ink = (sixteen[0], sixteen[7]) if dark else (sixteen[15], sixteen[0])
    return TerminalTheme(ground, ink, sixteen[:8], sixteen[8:])


def as_png(svg: str) -> bytes:
    """Raises UserError where the library for it is missing."""
    try:
        import resvg_py
    except ImportError:
        raise UserError(
            "a .png is drawn by resvg, which is not installed: pip install 'tui-entropy[png]', or ask for .svg"
        ) from None
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, monospace_family="DejaVu Sans Mono"))


def encode(file: Path, rows: Sequence[Strip], dark: bool) -> bytes:
    """In the format that its name ends in. Raises UserError."""
    drawn = as_text(rows) if file.suffix == ".txt" else as_svg(rows, dark=dark)
    return as_png(drawn) if file.suffix == ".png" else drawn.encode()


def write_files(files: Mapping[Path, bytes]) -> None:
    """All of them, or where one cannot be written none. Raises UserError."""
    begun = []
    try:
        for file in files:
            is_there = file.exists()
            file.open("ab").close()
            begun += [] if is_there else [file]
        for file, data in files.items():
            file.write_bytes(data)
    except OSError as refused:
        for each in begun:
            each.unlink(missing_ok=True)
        none = "so nothing is written, " if len(files) > 1 else ""
        raise UserError(f"{file} cannot be written ({refused.strerror}): {none}give it another place") from refused


def draw(trace: Trace, run: int | None, wishes: Sequence[Snapshot], paint: Paint, demo: bool = False) -> None:
    """Each picture, saved: all of them, or where one cannot be drawn none. Raises UserError."""
    drawn = {}
    for wish in wishes:
        playback = Playback(trace, run if wish.run is None else wish.run, first=None)
        _check_head(playback, wish)
        if wish.token is not None and not 1 <= wish.token <= playback.length:
            raise UserError(_beyond(playback, wish.token) + ", so no picture is written" * (len(wishes) > 1))
        drawn[wish.file] = asyncio.run(picture(ReplayApp(playback, paint=paint, demo=demo), wish))
    write_files(drawn)


def _beyond(playback: Playback, token: int) -> str:
    """The sentence that a run has no such token, and which one of the file has it."""
    trace, run = playback.trace, playback.run
    sentence = f"token={token} is not in run {run}: it has {playback.length} tokens, counted from 1"
    others = [other for other in trace.runs if other != run]
    longer = [other for other in others if 1 <= token <= len(LazySteps(trace, other))]
    if longer:
        return f"{sentence}; take one of them, or --run {longer[-1]}, which has it"
    return f"{sentence}; take one of them{', or another --run' if others else ''}"


def _check_head(playback: Playback, wish: Snapshot) -> None:
    """Raises UserError for a layer or a head that the model has not got."""
    card = playback.log.card
    for name, wanted, most in (
        ("layer", wish.layer, card.n_layers if card else 0), ("head", wish.head, card.n_heads if card else 0)
    ):  # fmt: skip
        if wanted is not None and not (1 <= wanted <= most or (name == "head" and wanted == MEAN)):
            raise UserError(f"{name}={wanted} is not in the model of this recording: it has {most} of them")


async def picture(app: ReplayApp, wish: Snapshot) -> bytes:
    """The picture of a whole recording. Raises UserError."""
    async with on_stage(app, wish.size) as pilot:
        app.come_to(following=wish.token is None, cursor=None if wish.token is None else wish.token - 1)
        changes: dict[str, Any] = {"second": wish.lane == 2}
        if wish.tint == ATTENTION:
            changes["attention_tint"] = True
        elif wish.tint:
            changes["tint"] = BY_NAME[wish.tint]
        if wish.layer is not None:
            changes["layer"] = wish.layer
        if wish.head is not None:
            changes["head"] = None if wish.head == MEAN else wish.head
        if wish.pane in SHOWN_BY_KEY:
            await app.run_action(f"pane('{wish.pane}')")
        elif wish.pane:
            app.focus_on(wish.pane)
        await pilot.pause()
        if wish.zoom:
            await app.run_action("zoom")
            await pilot.pause()
        if wish.page:
            app.open_page(wish.page)
            await pilot.pause()
        if wish.page == "probes":
            changes["row"] = answered_row(app.frame)
        app.come_to(**changes)
        return encode(wish.file, screen(app), app.frame.paint.theme.dark)


@asynccontextmanager
async def on_stage(app: Viewer, size: tuple[int, int]) -> AsyncIterator[Pilot[Any]]:
    """The app running without a terminal, laid out for this size."""
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield pilot
