"""What recording costs: the loop, the disk, and the time to open what was recorded."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from engine import loaded_model, prompt_ids
from figures import Figure, Settings, spread
from msgspec.structs import replace

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.events import Ready, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import PromptToken, Step
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.writer import Recorder

STRETCH = 8
"""Steps that are recorded, and then as many that are not: several transactions' worth."""
LONG = 100_000


def trace(settings: Settings) -> Iterator[Figure]:
    """What recording takes of the decode speed, bytes a token in the file, and the time to open a long one."""
    loaded = loaded_model(settings)
    pairs = 4 if settings.quick else 32
    with tempfile.TemporaryDirectory() as folder:
        steps, slowdown, detail = _taking_turns(loaded, Path(folder) / "turns.tui", pairs)
        yield Figure("decode speed, recorded / not recorded", 1 / slowdown, "x", ">= 0.97", detail)
        yield from _sizes(loaded, steps, Path(folder))
        yield from _opening(Path(folder) / "plain.tui", settings)


def _taking_turns(loaded: Loaded, path: Path, pairs: int) -> tuple[list[Step], float, str]:
    """One text, of which every other stretch is recorded, attention rows with it. The order within a pair changes,
    so that drift favours none. Returns the recorded steps, as those of one text."""
    context = TokenSequence(loaded, prompt_ids(loaded, 64), (2 * pairs + 1) * STRETCH)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    steps: list[Step] = []
    with closing(Recorder(path)) as recorder, open_instruments(loaded, record="shown") as instruments:
        instruments.attention.recording.select(1, 1)
        recorder.take(_started())
        writing = decode(loaded, instruments, context, lambda: Controls(Knobs(), {}))
        for stretch in range(-1, 2 * pairs):
            on = stretch % 4 in (0, 3)
            instruments.attention.recording.wanted = "shown" if on else "off"
            began = time.perf_counter()
            for _ in range(STRETCH):
                step = next(event for event in writing if isinstance(event, Step))
                if on:
                    recorder.take(step)
                    steps.append(replace(step, index=len(steps)))
            if on:
                recorder.flush()
            if stretch >= 0:  # the first one warms up
                seconds[on].append((time.perf_counter() - began) / STRETCH * 1000)
    ratios = [on / off for on, off in zip(seconds[True], seconds[False], strict=True)]
    detail = f"{spread(seconds[True], 'ms')} a step, without {spread(seconds[False], 'ms')}"
    return steps, statistics.median(ratios), detail


def _sizes(loaded: Loaded, steps: list[Step], folder: Path) -> Iterator[Figure]:
    with closing(Recorder(folder / "plain.tui")) as recorder:
        for event in (Ready(loaded.card), _started()):
            recorder.take(event)
        recorder.flush()
        began = time.process_time()
        for step in steps:
            recorder.take(step)
        recorder.flush()
        worked = (time.process_time() - began) / len(steps)
    size = (folder / "plain.tui").stat().st_size / len(steps)
    yield Figure(f"bytes a token, text of {len(steps)}", size, "bytes", "<= 6656", "everything in the file counted")
    rows = [len(step.attention_rows.data) for step in steps if step.attention_rows is not None]
    yield Figure("of these attention rows", statistics.median(rows), "bytes", "<= 2560", f"at most {max(rows)}")
    yield Figure("work of recording a step, on its thread", worked * 1e6, "us", "")
    with closing(Recorder(folder / "timed.tui")) as recorder:
        times = [_seconds(lambda step=step: recorder.take(step)) for step in steps]  # type: ignore[misc]
    yield Figure(
        "what the loop waits for", statistics.median(times) * 1e6, "us", "", f"at most {max(times) * 1e6:.0f}"
    )


def _opening(path: Path, settings: Settings) -> Iterator[Figure]:
    trace = Trace.open(path)
    steps, card = list(trace.steps(1)), trace.card
    trace.close()
    assert card is not None
    long = path.with_name("long.tui")
    with closing(Recorder(long)) as recorder:
        recorder.take(Ready(card))
        recorder.take(_started())
        n = LONG // 10 if settings.quick else LONG
        for index in range(n):
            recorder.take(replace(steps[index % len(steps)], index=index))
            if index % 1000 == 0:
                recorder.flush()
    opening = [_seconds(lambda: Trace.open(long).log()) for _ in range(settings.rounds)]
    log = Trace.open(long).log()
    name = f"open {n} tokens ({long.stat().st_size / 1e6:.0f} MB)"
    yield Figure(name, statistics.median(opening), "s", "<= 1", spread(opening, "s"))
    reading = [_seconds(lambda at=at: log.steps[at]) for at in range(0, n, n // 100)]  # type: ignore[misc]
    yield Figure("read one step anywhere in it", statistics.median(reading) * 1000, "ms", "", spread(reading, "s"))


def _started() -> Started:
    return Started(1, "The sea", None, False, (PromptToken(1, b"The sea", "The sea"),), Knobs(), (), LONG)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
