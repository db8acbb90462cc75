"""Coming back to an engine: how soon the screen is complete, from its record and over a forwarded socket."""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, Settings, in_turns, spread
from places import FAKE_ENGINE
from terminal import Terminal
from watchers import Watcher

from tui_entropy.records.commands import Load, Write
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.transport import client

WIDTH, HEIGHT = 200, 60
TOKENS = 20_000
ENGINE = (sys.executable, str(FAKE_ENGINE), "--rate", "100000")


def attach(settings: Settings) -> Iterator[Figure]:
    """Attaching to a long run: from the start of the process until every pane shows the newest step."""
    tokens = 500 if settings.quick else TOKENS
    with tempfile.TemporaryDirectory(prefix="tui-entropy-bench-") as folder:
        for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
            os.environ[name] = f"{folder}/{name}"
        load = Load(ModelSpec("scripted"), trace=f"{folder}/run.tui", keep=600)
        write = Write("a b c", None, False, tokens, Knobs())
        engine = client.select_engine(client.serve(ENGINE, load, write, lambda _: None))
        try:
            _finish(engine.socket)
            forwarded = Path(folder) / "forwarded.sock"
            forwarded.symlink_to(engine.socket)
            contestants = {
                "record": lambda: _complete(tokens),
                "link": lambda: _complete(tokens, "--socket", str(forwarded)),
            }
            rounds = 2 if settings.quick else 7
            times = in_turns(contestants, rounds)
        finally:
            client.stop(engine)
    name, link = f"attached to a run of {tokens} tokens", times["link"]
    yield Figure(
        f"{name}, screen complete", statistics.median(times["record"]), "s", "<= 1", spread(times["record"], "s")
    )
    yield Figure(
        "the same with a forwarded socket, all over the link", statistics.median(link), "s", "", spread(link, "s")
    )


def _finish(socket: Path) -> None:
    """Wait until the text is written. Looking in every now and then does not slow it down."""
    while Watcher(socket, None).standing.state != "ended":
        time.sleep(0.5)


def _complete(tokens: int, *arguments: str) -> float:
    """Seconds until stream and candidates show the last step."""
    last = re.compile(rf"step {tokens} of {tokens}.*next token · step {tokens}\b", re.DOTALL)
    command = [str(Path(sys.prefix) / "bin" / "tui-entropy"), "attach", *arguments]
    with Terminal(command, WIDTH, HEIGHT) as terminal:
        seconds = terminal.wait_for(last, 120) - terminal.started
        terminal.press("ctrl+d")
        terminal.wait()
    return seconds
