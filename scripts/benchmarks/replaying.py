"""A recording of 100,000 tokens: how soon its screen is whole, and what a move of the cursor costs."""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, Settings, percentile, spread
from recordings import RATE, lengthened, recorded, session
from screen import cpu, shown
from terminal import Chunk, Terminal

from tui_entropy.trace.playback import SPEEDS, Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.capture.snapshot import on_stage, screen

COMMAND = [str(Path(sys.prefix) / "bin" / "tui-entropy"), "replay"]
SIZES = ((120, 36), (200, 60))
TOKENS = 100_000
PLAYED = re.compile(rf"(\d+)/{TOKENS}\b")
"""How far the status line says that it has come."""


def replay(settings: Settings) -> Iterator[Figure]:
    """A long recording: how soon all of it is on the screen, what the cursor costs, and how fast it can be played."""
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
        yield from _rate(many, 4 if settings.quick else 15)


def opened(file: Path, tokens: int, size: tuple[int, int]) -> float:
    """Seconds from the start of the process until the newest token and its heads are on the screen."""

    def whole(text: str) -> bool:
        return f"step {tokens} of {tokens}" in text and "layer 30 mean" in text

    with Terminal([*COMMAND, str(file), "--all"], *size) as terminal:
        seconds = terminal.wait_for(whole) - terminal.started
        terminal.press("q")
        terminal.wait()
    return seconds


def _rate(file: Path, seconds: float) -> Iterator[Figure]:
    """The fastest there is, and on the screen the highest rung of the speeds."""
    playback = Playback(Trace.open(file), speed=1e9)
    began = time.process_time()
    while not playback.at_end:
        playback.advance()
    rate = TOKENS / (time.process_time() - began)
    yield Figure("tokens of a recording taken in, per second of CPU", rate, "tok/s", ">= 1000")
    width, height = SIZES[1]
    with Terminal([*COMMAND, str(file), "--speed", f"{SPEEDS[-1]:g}"], width, height) as terminal:
        terminal.wait_for(PLAYED)
        before, spent, began = len(terminal.chunks), cpu(terminal), time.perf_counter()
        time.sleep(seconds)
        spent, took, chunks = cpu(terminal) - spent, time.perf_counter() - began, list(terminal.chunks)
    tokens = _played(chunks) - _played(chunks[:before])
    name = f"replay at {width}x{height}, x{SPEEDS[-1]:g}"
    yield Figure(name, tokens / took, "tok/s", ">= 1000", f"recorded at {RATE:g} tok/s")
    yield Figure(f"CPU of the screen process, {name}", 100 * spent / took, "%", "<= 50")


def _played(chunks: list[Chunk]) -> int:
    found = PLAYED.search(shown(chunks, SIZES[1]))
    assert found
    return int(found[1])


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
                app.actions["move"](-1)
                screen(app)
                waits.append(1e3 * (time.perf_counter() - began))
    return waits
