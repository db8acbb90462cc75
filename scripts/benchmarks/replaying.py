"""A recording of 100,000 tokens: how soon its screen is whole, and what a move of the cursor costs."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, Settings, percentile, spread
from recordings import lengthened, recorded, session
from terminal import Terminal

from tui_entropy.trace import Trace
from tui_entropy.ui.pictures import on_stage, screen
from tui_entropy.ui.playback import Playback
from tui_entropy.ui.replay import ReplayApp

COMMAND = [str(Path(sys.prefix) / "bin" / "tui-entropy"), "replay"]
SIZES = ((120, 36), (200, 60))
TOKENS = 100_000


def replay(settings: Settings) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="tui-entropy-bench-") as folder:
        few = recorded(Path(folder) / "short.tui", *session(64))
        many = lengthened(recorded(Path(folder) / "long.tui", *session(64)), TOKENS)
        detail = f"{many.stat().st_size / TOKENS / 1e3:.3g} KB a token"
        for size in SIZES:
            rounds = range(2 if settings.quick else 8)
            short = [opened(few, 64, size) for _ in rounds]
            seconds = [opened(many, TOKENS, size) for _ in rounds]
            name = f"replay --all to the whole screen at {size[0]}x{size[1]}, {TOKENS} tokens"
            yield Figure(name, statistics.median(seconds), "s", "<= 1", f"64 tokens: {spread(short, 's')}; {detail}")
        for size in SIZES:
            waits = asyncio.run(moves(many, size, 60 if settings.quick else 300))
            name = f"all views after a move of the cursor at {size[0]}x{size[1]}"
            yield Figure(f"{name}, median", statistics.median(waits), "ms", "<= 33")
            yield Figure(f"{name}, 99th percentile", percentile(waits, 0.99), "ms", "<= 33")


def opened(file: Path, tokens: int, size: tuple[int, int]) -> float:
    """Seconds from the start of the process until the newest token and its heads are on the screen."""

    def whole(text: str) -> bool:
        return f"step {tokens} of {tokens}" in text and "layer 30 mean" in text

    with Terminal([*COMMAND, str(file), "--all"], *size) as terminal:
        seconds = terminal.wait_for(whole) - terminal.started
        terminal.press("q")
        terminal.wait()
    return seconds


async def moves(file: Path, size: tuple[int, int], count: int) -> list[float]:
    """Milliseconds in which every view has drawn another step, and the screen is put together."""
    app = ReplayApp(Playback(Trace.open(file), first=None))
    waits = []
    async with on_stage(app, size):
        for start in (TOKENS - 1, TOKENS // 2):
            app.go_to(start)
            screen(app)
            for _ in range(count // 2):
                began = time.perf_counter()
                app.action_move(-1)
                screen(app)
                waits.append(1e3 * (time.perf_counter() - began))
    return waits
