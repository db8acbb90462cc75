"""The real command in a pseudo-terminal: how soon it paints, how soon it answers, what it sends and what it takes."""

from __future__ import annotations

import atexit
import base64
import functools
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import psutil
from fake_engine import WORDS
from figures import Figure, Settings, in_turns, percentile, ratio, spread
from places import FAKE_ENGINE
from recordings import recorded
from slow_link import Link
from terminal import Chunk, Screen, Terminal

COMMAND = [str(Path(sys.prefix) / "bin" / "tui-entropy")]
WIDTH, HEIGHT = 200, 60
TITLE = "knobs"
"""Shown by the first painted screen, whatever state the engine is in."""
CONTEXT = re.compile(r"context (\d+)")
MINIMAL = "from textual.app import App\nfrom textual.widgets import Static\nclass A(App):\n def compose(self):\n  "
MINIMAL += "yield Static('painted')\n BINDINGS = [('q', 'quit', '')]\nA().run()"


@functools.cache
def state() -> str:
    """A folder, gone at the end: what the program remembers is not the user's while it is measured."""
    folder = tempfile.mkdtemp(prefix="tui-entropy-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def inspector(
    settings: Settings,
    rate: float | None = None,
    max_tokens: int = 8000,
    flags: Sequence[str] = (),
    size: tuple[int, int] = (WIDTH, HEIGHT),
    link: Link | None = None,
    server: str | None = None,
) -> Terminal:
    """The inspector. rate: tokens per second of an engine that only pretends; None for the real one. server: the
    address of one that writes, in place of a model."""
    model = ["--model", settings.model, "--device", settings.device] if server is None else ["--server", server]
    command = [*COMMAND, *model, "--max-tokens", str(max_tokens), *flags]
    fake = f"{sys.executable} {FAKE_ENGINE} --rate {rate}"
    env = {"XDG_STATE_HOME": state()} | ({} if rate is None else {"TUI_ENTROPY_ENGINE": fake})
    return Terminal(command, *size, env=env, link=link)


def n_tokens(text: str) -> int:
    """Tokens of the context, as the status line says."""
    found = CONTEXT.search(text)
    return int(found[1]) if found else 0


def writing(terminal: Terminal, tokens: int = 20, timeout: float = 180.0) -> None:
    """Wait until that many more tokens stand in the context than when writing began."""
    terminal.wait_for(CONTEXT, timeout)
    first = n_tokens(terminal.text)
    terminal.wait_for(lambda text: n_tokens(text) >= first + tokens, timeout)


def shown(chunks: list[Chunk], size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """The screen after these."""
    screen = Screen(*size)
    screen.feed(b"".join(chunk.data for chunk in chunks))
    return screen.text


def paint(settings: Settings) -> Iterator[Figure]:
    """From the start of the process to the first screen that shows something to read."""
    maps: list[str] = []

    def ours() -> float:
        with inspector(settings) as terminal:
            seconds = terminal.wait_for(TITLE) - terminal.started
            maps.append(Path(f"/proc/{terminal.process.pid}/maps").read_text())
            terminal.press("q")
            terminal.wait()
        return seconds

    def minimal() -> float:
        with Terminal([sys.executable, "-c", MINIMAL], WIDTH, HEIGHT) as terminal:
            seconds = terminal.wait_for("painted") - terminal.started
            terminal.press("q")
            terminal.wait()
        return seconds

    ours()  # warms the cache
    times = in_turns({"ours": ours, "minimal": minimal}, 3 if settings.quick else 12)
    yield Figure("first painted screen", statistics.median(times["ours"]), "s", "<= 0.5", spread(times["ours"], "s"))
    yield Figure(
        "first painted screen / smallest Textual app",
        ratio(times["ours"], times["minimal"]),
        "x",
        "<= 2",
        spread(times["minimal"], "s"),
    )
    with_torch = sum("libtorch" in each for each in maps)
    yield Figure("screen processes with torch in them", with_torch, f"of {len(maps)}", "<= 0")


def keys(settings: Settings) -> Iterator[Figure]:
    """From a key press to the screen that shows it, while tokens come in. The key is u, between bits and nats."""
    count = 20 if settings.quick else 200
    for name, rate in (("engine of 40 tok/s", 40.0), ("the real engine", None)):
        with inspector(settings, rate) as terminal:
            writing(terminal)
            presses = pressed(terminal, count)
            chunks = list(terminal.chunks)
        waits = [1e3 * wait for wait in answers(chunks, presses)]
        late = sum(wait == float("inf") for wait in waits)
        detail = f"{count} keys, {late} unanswered before the next; p90 {percentile(waits, 0.9):.3g} ms"
        yield Figure(f"key to screen, {name}, median", statistics.median(waits), "ms", "<= 6", detail)
        yield Figure(f"key to screen, {name}, 99th percentile", percentile(waits, 0.99), "ms", "<= 40")


def pressed(terminal: Terminal, count: int) -> list[float]:
    """When each key was pressed, out of step with every timer; not before there is a step whose unit can change."""
    terminal.wait_for(unit)
    dice, presses = random.Random(1), []
    for _ in range(count):
        time.sleep(dice.uniform(0.15, 0.25))
        presses.append(terminal.press("u"))
    time.sleep(0.3)
    return presses


def answers(chunks: list[Chunk], presses: list[float]) -> Iterator[float]:
    """Seconds from each press until the title of the text tells its number in the other unit; infinite if not before
    the next. Panes that cost more follow, over a slow link piece by piece.

    Worked out afterwards from the bytes and when they came, so that looking costs no time.
    """
    screen, upcoming, ends = Screen(WIDTH, HEIGHT), iter(chunks), [*presses[1:], float("inf")]
    chunk = next(upcoming, None)
    for pressed, end in zip(presses, ends, strict=True):
        while chunk is not None and chunk.at <= pressed:
            screen.feed(chunk.data)
            chunk = next(upcoming, None)
        before, wait = unit(screen.text), float("inf")
        while chunk is not None and chunk.at <= end:
            screen.feed(chunk.data)
            at, chunk = chunk.at, next(upcoming, None)
            if not screen.updating and unit(screen.text) != before:
                wait = at - pressed
                break
        yield wait


def unit(text: str) -> str:
    """Of the number in the title of the text."""
    found = re.search(r"\b(bits|nats)\s+· step", text)
    return found[1] if found else ""


GOALS = {("truecolor", WIDTH): "<= 0.8", ("256", WIDTH): "<= 0.8"}
"""KB per token."""
COMPRESSED = "<= 150"


def sent(settings: Settings) -> Iterator[Figure]:
    """Bytes to the terminal per token, with every view that there is room for."""
    sizes = [(WIDTH, HEIGHT)] if settings.quick else [(WIDTH, HEIGHT), (120, 36), (80, 24)]
    for size in sizes:
        for color in ("truecolor", "256") if settings.quick else ("truecolor", "256", "ascii"):
            flags = ["--ascii", "--color", "mono"] if color == "ascii" else ["--color", color]
            yield from _sent(settings, size, color, flags)
    if not settings.quick:
        yield from _sent(settings, (WIDTH, HEIGHT), "truecolor, --no-diff", ["--color", "truecolor", "--no-diff"])


def _sent(settings: Settings, size: tuple[int, int], color: str, flags: list[str]) -> Iterator[Figure]:
    with inspector(settings, 40.0, flags=flags, size=size) as terminal:
        writing(terminal, 120)
        before, began = list(terminal.chunks), time.perf_counter()
        spent = cpu(terminal)
        time.sleep(4 if settings.quick else 15)
        spent, after, seconds = cpu(terminal) - spent, list(terminal.chunks), time.perf_counter() - began
    chunks = after[len(before) :]
    received = sum(len(chunk.data) for chunk in chunks)
    tokens = n_tokens(shown(after, size)) - n_tokens(shown(before, size))
    pack = zlib.compressobj(6)
    packed = sum(len(pack.compress(chunk.data) + pack.flush(zlib.Z_SYNC_FLUSH)) for chunk in chunks)
    frames = sum(chunk.data.count(b"\x1b[?2026h") for chunk in chunks) / seconds
    detail = f"{tokens / seconds:.3g} tok/s, {received / seconds / 1024:.3g} KiB/s, {frames:.3g} frames/s"
    name = f"{size[0]}x{size[1]} {color}"
    yield Figure(name, received / tokens / 1e3, "KB per token", GOALS.get((color, size[0]), ""), detail)
    goal = COMPRESSED if (color, size[0]) in GOALS else ""
    detail = f"CPU of the screen {100 * spent / seconds:.3g} % of a core"
    yield Figure(f"{name}, as ssh -C packs it", packed / tokens, "B per token", goal, detail)


def cpu(terminal: Terminal) -> float:
    """Seconds that the screen's process has computed."""
    times = psutil.Process(terminal.process.pid).cpu_times()
    return times.user + times.system


def link(settings: Settings) -> Iterator[Figure]:
    """Key to screen through a slow link, every view at 200x60 and 40 tok/s."""
    slow = Link(rate=60e3, round_trip=0.05)
    for flags in (["--color", "256"], ["--color", "truecolor"]):
        with inspector(settings, 40.0, flags=flags, link=slow) as terminal:
            writing(terminal, 60, 60)
            presses = pressed(terminal, 20 if settings.quick else 100)
            chunks = list(terminal.chunks)
        waits = [1e3 * wait for wait in answers(chunks, presses)]
        goal = f"<= {1e3 * slow.round_trip + 30:.0f}"
        name = f"key to screen, 60 kB/s and 50 ms, {flags[1]}"
        late = sum(wait == float("inf") for wait in waits)
        detail = f"{len(waits)} keys, {late} unanswered before the next"
        yield Figure(f"{name}, median", statistics.median(waits), "ms", goal, detail)
        yield Figure(f"{name}, worst", max(waits), "ms", "<= 250")


REPAINTER = """
import sys
from pathlib import Path
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.terminal.driver import DiffingDriver
from tui_entropy.trace.playback import Playback
from tui_entropy.ui.actions.panes import PaneActions
from tui_entropy.ui.app.replay_app import ReplayApp
PaneActions.action_help = lambda self: self.app.refresh(layout=True)
ReplayApp(Playback(Trace.open(Path(sys.argv[1])), first=None), driver_class=DiffingDriver).run()
"""
"""A recording, of which the key for help paints all that is there once more."""


def redraw(settings: Settings) -> Iterator[Figure]:
    """Bytes of a full redraw in which nothing changed, and of what opens over the screen."""
    file = recorded(Path(state()) / "redrawn.tui")
    with Terminal([sys.executable, "-c", REPAINTER, str(file)], WIDTH, HEIGHT) as terminal:
        terminal.wait_for("step 40 of 40")
        yield Figure("bytes of a full redraw, nothing changed", _sent_for(terminal, "?"), "bytes", "<= 100")
        yield Figure("bytes of ctrl+l, which sends all again", _sent_for(terminal, "ctrl+l"), "bytes", "")
    with inspector(settings, 40.0) as terminal:
        writing(terminal, 40)
        terminal.press("space")
        terminal.wait_for("paused")
        for name, key in (("opening the help", "?"), ("closing it", "escape"), ("opening the palette", "ctrl+p")):
            yield Figure(f"bytes of {name}", _sent_for(terminal, key), "bytes", "")


def _sent_for(terminal: Terminal, key: str) -> int:
    terminal.settle(1.0)
    before = terminal.received
    terminal.press(key)
    time.sleep(1.5)
    terminal.settle(0.5)
    return terminal.received - before


def intake(settings: Settings) -> Iterator[Figure]:
    """What the screen takes in at 40 and 1,000 tok/s: its CPU per second and per token, and every token there."""
    seconds = 5 if settings.quick else 20
    for rate, share in ((40.0, 15), (1000.0, 50)):
        wanted = int(rate * (seconds + 2))
        with inspector(settings, rate, max_tokens=wanted) as terminal:
            terminal.wait_for(CONTEXT, 60)
            time.sleep(1)
            before, spent, began = len(terminal.chunks), cpu(terminal), time.perf_counter()
            time.sleep(seconds)
            spent, took, after = cpu(terminal) - spent, time.perf_counter() - began, list(terminal.chunks)
            terminal.wait_for("ended (token limit)", 120)  # which the engine says once it has sent so many
            terminal.settle()
            text = _copied(terminal)
        tokens = n_tokens(shown(after)) - n_tokens(shown(after[:before]))
        name, came = f"CPU of the screen process at {rate:.0f} tok/s", tokens / took
        goal, detail = f"<= {share}", f"{came:.4g} tok/s came"
        if came < 0.9 * rate:
            goal, detail = "", f"only {detail}: the engine was given no more of this machine"
        yield Figure(name, 100 * spent / took, "%", goal, detail)
        yield Figure(f"{name}, per token", 1e3 * spent / tokens, "ms", f"<= {10 * share / rate:g}", detail)
        there = zip_longest(text.split(" ")[1:], (WORDS[index % len(WORDS)] for index in range(wanted)))
        lost = sum(got != sent for got, sent in there)
        yield Figure(f"tokens lost or out of place at {rate:.0f} tok/s", lost, f"of {wanted}", "<= 0")


def _copied(terminal: Terminal) -> str:
    """The text that was written, as the screen hands it to the clipboard: all of its log and not only what shows."""
    before = len(terminal.chunks)
    terminal.press("y", "t")
    terminal.wait_for("sent to the clipboard", 60)
    sent = b"".join(chunk.data for chunk in terminal.chunks[before:])
    found = re.search(rb"\x1b\]52;c;([^\x07\x1b]*)", sent)
    assert found, "nothing came for the clipboard"
    return base64.b64decode(found[1]).decode()


def idle(settings: Settings) -> Iterator[Figure]:
    """What a paused screen sends and computes."""
    seconds = 3 if settings.quick else 20
    with inspector(settings, 40.0) as terminal:
        writing(terminal, 40)
        terminal.press("space")
        terminal.wait_for("paused")
        terminal.settle(1.0)
        spent, received = cpu(terminal), terminal.received
        time.sleep(seconds)
        spent, received = round(cpu(terminal) - spent, 2), terminal.received - received
    yield Figure("bytes to the terminal while paused", received / seconds, "bytes/s", "<= 0", f"over {seconds} s")
    yield Figure("CPU of the screen process while paused", 100 * spent / seconds, "%", "<= 0.5")


def memory(settings: Settings) -> Iterator[Figure]:
    """Resident memory of the screen process."""
    wanted, rate = 200 if settings.quick else 1000, 100.0
    with inspector(settings, rate) as terminal:
        writing(terminal, 1)
        time.sleep(wanted / rate)  # unwatched: working out the screen would take more time than there is
        resident, chunks = psutil.Process(terminal.process.pid).memory_info().rss, list(terminal.chunks)
    detail = f"{n_tokens(shown(chunks))} tokens of context"
    yield Figure(f"resident memory of the screen process, {wanted} tokens", resident / 1e6, "MB", "<= 60", detail)
