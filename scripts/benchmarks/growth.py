"""What every further token takes in memory, in the engine's process and the screen's, beyond what it is kept as."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from figures import Figure, Settings

TOKENS = 20_000
MARKS = (4_000, 8_000, 12_000, 16_000, TOKENS)
"""Tokens at which memory is read: from the first on everything that is bounded has reached its bound."""
RATE = 500.0
GOAL = "<= 1024"
"""Bytes per token: the numbers that later steps are judged by and that going back needs, and the heap's own loss. The
default model's keys and values take 46 KB, its log 7 KB."""
Held = dict[int, float]
"""Tokens -> bytes."""


def growth(settings: Settings) -> Iterator[Figure]:
    """Bytes per token that the two processes grow by over 20,000 tokens, beyond the cache and the log."""
    marks = [mark // 4 for mark in MARKS] if settings.quick else list(MARKS)
    engine, cache = of_the_engine(marks)
    yield from _figures("engine", "cache", slope(engine), cache)
    log = {int(tokens): held for tokens, held in json.loads(_in_a_child(marks)).items()}
    yield from _figures("screen", "log", slope(of_the_screen(settings, marks)), slope(log))


def _figures(process: str, kept: str, grows: float, accounted: float) -> Iterator[Figure]:
    detail = f"{grows:.5g} grown by, {accounted:.5g} for the {kept}"
    name = f"memory of the {process} process beyond its {kept}"
    yield Figure(name, grows - accounted, "B per token", GOAL, detail)


def slope(held: Held) -> float:
    """Bytes per token: the median over all pairs of readings, so that no single jump decides (Theil-Sen)."""
    readings = sorted(held.items())
    return statistics.median(
        (b - a) / (n - m) for at, (m, a) in enumerate(readings) for n, b in readings[at + 1 :] if n > m
    )


def resident(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss)


def of_the_engine(marks: list[int]) -> tuple[Held, float]:
    """The real worker with a tiny model, which writes with the default knobs and is recorded, nobody attached; and
    what its keys and values take per token."""
    import small
    import tiny

    from tui_entropy.records.commands import Load, Write
    from tui_entropy.records.model import ModelSpec
    from tui_entropy.records.sampling import Knobs
    from tui_entropy.transport import client, discovery

    with tempfile.TemporaryDirectory(prefix="tui-entropy-bench-") as folder:
        for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            os.environ[name] = f"{folder}/{name}"
        model = tiny.llama(max_position_embeddings=2 * marks[-1])
        model.save_pretrained(f"{folder}/tiny")
        small.tokenizer(tiny.VOCAB).save_pretrained(f"{folder}/tiny")
        load = Load(ModelSpec(f"{folder}/tiny", device="cpu"), trace=f"{folder}/run.tui", keep=86_400)
        write = Write("The sea", None, False, marks[-1] + 100, Knobs(banned=(model.config.eos_token_id,)))
        engine = client.select_engine(client.serve(discovery.ENGINE, load, write, lambda _: None))
        assert engine.standing is not None
        pid = engine.standing.pid
        try:
            held = _read(marks, lambda: _written(engine.socket), lambda: resident(pid))
        finally:
            client.stop(engine)
    shape = tiny.SHAPE
    width = shape["num_key_value_heads"] * shape["head_dim"]
    return held, 2 * 4 * shape["num_hidden_layers"] * width


def _written(socket: Path) -> int:
    from tui_entropy.transport import discovery

    standing = discovery.ask(socket)
    return standing.tokens if standing else 0


def of_the_screen(settings: Settings, marks: list[int]) -> Held:
    from screen import CONTEXT, inspector, n_tokens

    with inspector(settings, RATE, max_tokens=marks[-1] + 100) as terminal:
        terminal.wait_for(CONTEXT)
        return _read(marks, lambda: n_tokens(terminal.text), lambda: resident(terminal.process.pid))


def _read(marks: list[int], tokens: Callable[[], int], size: Callable[[], float]) -> Held:
    """The size whenever so many tokens have come."""
    held: Held = {}
    for mark in marks:
        end = time.monotonic() + 600
        while (now := tokens()) < mark:
            assert time.monotonic() < end, f"only {now} tokens have come"
            time.sleep(0.5)
        held[now] = size()
    return held


def _in_a_child(marks: list[int]) -> str:
    command = [sys.executable, __file__, *map(str, marks)]
    paths = os.pathsep.join(sys.path)
    return subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, env=os.environ | {"PYTHONPATH": paths}
    ).stdout


def of_the_log(marks: list[int]) -> Held:
    """A process that only takes the same events in."""
    import fake_engine
    import msgspec

    from tui_entropy.records.commands import Write
    from tui_entropy.records.events import Event
    from tui_entropy.records.sampling import Knobs
    from tui_entropy.state.session_view import SessionView

    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Event)
    log, held = SessionView(), {}
    log.append(fake_engine.started(Write("a b c", None, False, marks[-1], Knobs())))
    for index in range(marks[-1]):
        log.append(decoder.decode(encoder.encode(fake_engine.step(index))))
        if index + 1 in marks:
            held[index + 1] = resident(os.getpid())
    return held


if __name__ == "__main__":
    print(json.dumps(of_the_log([int(mark) for mark in sys.argv[1:]])))
