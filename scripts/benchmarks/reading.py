"""How a prompt is read: the time it takes, and the memory at its peak."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from engine import finished, generate, loaded_model, ours, prompt_ids
from figures import Figure, Settings, in_turns, ratio, spread

from tui_entropy.engine.models.loaded import Loaded

CONTESTANTS: dict[str, Callable[[Loaded, list[int], int], object]] = {
    "ours": ours,
    "ours, scored": partial(ours, score_prompt=True),
    "generate": generate,
}
LENGTHS = (1024, 4096, 8192)


def prefill(settings: Settings) -> Iterator[Figure]:
    """Seconds to the first token of a long prompt and peak memory meanwhile, against plain generate's first token."""
    loaded = loaded_model(settings)
    lengths = [min(length, loaded.card.context - 1) for length in LENGTHS[: 1 if settings.quick else None]]
    for length in dict.fromkeys(lengths):
        yield from _times(loaded, length, settings.rounds)
    del loaded
    for length in dict.fromkeys(lengths):
        yield from _peaks(length, settings)


def _times(loaded: Loaded, length: int, rounds: int) -> Iterator[Figure]:
    """One after the other in this process."""
    ids = prompt_ids(loaded, length)
    for read in CONTESTANTS.values():
        read(loaded, ids, 1)  # whoever is first pays for touching the memory
    times = in_turns({name: partial(_seconds, read, loaded, ids) for name, read in CONTESTANTS.items()}, rounds)
    plain = times.pop("generate")
    for name, mine in times.items():
        goal = "<= 1.05" if name == "ours" else "<="
        detail = f"{spread(mine, 's')}, generate {spread(plain, 's')}{_full(loaded.card.context, length)}"
        yield Figure(f"first token of a prompt of {length}, {name} / generate", ratio(mine, plain), "x", goal, detail)
    yield Figure(f"prompt of {length} read", length / statistics.median(times["ours"]), "tok/s", "")


def _seconds(read: Callable[[Loaded, list[int], int], object], loaded: Loaded, ids: list[int]) -> float:
    began = finished(loaded.model.device)
    read(loaded, ids, 1)
    return finished(loaded.model.device) - began


def _full(context: int, length: int) -> str:
    return f"; with its first token all {context} that the model was made for" if length == context - 1 else ""


def _peaks(length: int, settings: Settings) -> Iterator[Figure]:
    """Each contestant in a process of its own."""
    calls = {name: partial(_in_a_child, name, length, settings) for name in CONTESTANTS}
    peaks = in_turns(calls, 1 if settings.quick else min(settings.rounds, 3))
    plain = peaks.pop("generate")
    for name, mine in peaks.items():
        detail = f"{spread(mine, 'MB')}, generate {spread(plain, 'MB')}"
        value, goal = ratio(mine, plain), "<= 1.10" if length >= 4096 else "<="
        yield Figure(f"peak memory of a prompt of {length}, {name} / generate", value, "x", goal, detail)


def _in_a_child(contestant: str, length: int, settings: Settings) -> float:
    command = [sys.executable, __file__, contestant, str(length), settings.model, settings.device]
    # glibc gives a freed megabyte back at once, so that the peak is what was in use and not what malloc had kept:
    # without this, the same forward pass peaks anywhere between 290 and 540 MB.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=env)
    return float(json.loads(done.stdout.splitlines()[-1]))


def peak(contestant: str, length: int, settings: Settings) -> float:
    """MB above what the loaded model takes, reading a prompt and taking one token from it."""
    loaded, read = loaded_model(settings), CONTESTANTS[contestant]
    ids = prompt_ids(loaded, length)
    read(loaded, ids[:64], 1)  # so that every weight has been touched
    if loaded.model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        read(loaded, ids, 1)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _resident("VmRSS")
    read(loaded, ids, 1)
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    """MB, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1e3


if __name__ == "__main__":
    which, n, model, device = sys.argv[1:]
    print(json.dumps(peak(which, int(n), Settings(False, model, device, 1))))
