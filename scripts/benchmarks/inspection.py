"""What it takes to follow a token back: attention maps, rollout and flow."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from engine import finished, milliseconds, session_behind
from figures import Figure, Settings, in_turns, ratio, spread

from tui_entropy.engine.decomposition.block_parts import watching_blocks
from tui_entropy.engine.session.session import Session
from tui_entropy.records.bounds import MOST_KEYS

KEYS, QUERIES, LONG, PLACES = 4096, 64, 2048, 64


def followed(settings: Settings) -> Iterator[Figure]:
    """An attention map, the flow of one token, and the peak memory of rollout."""
    rounds = 3 if settings.quick else 9
    with session_behind(settings, PLACES + 1) as session:
        yield from _flow(session, rounds)
    with session_behind(settings, KEYS + 1) as session:
        times = [_map(session) for _ in range(rounds + 1)][1:]
        detail = spread(times, "ms")
        yield Figure(f"attention map {QUERIES} x {KEYS} of one head", statistics.median(times), "ms", "<= 50", detail)
    yield _rollout_peak(settings)


def _map(session: Session) -> float:
    """In as many asks as it takes: one has a bound of keys."""
    options = {"layer": 15, "head": 1, "n_queries": QUERIES, "n_keys": MOST_KEYS}
    return sum(milliseconds(session, "attention", options | {"first_key": n}) for n in range(0, KEYS, MOST_KEYS))


def _flow(session: Session, rounds: int) -> Iterator[Figure]:
    """With the pass that tells its parts taken off: the same positions read once more take turns with it."""
    architecture = session.state.loaded.architecture
    sequence = session.state.run_of(1).sequence

    def replay() -> float:
        began = finished(sequence.ids.device)
        last = sequence.n_tokens - 1
        with watching_blocks(architecture, PLACES), session.branches.rewinder.replay(sequence, last - PLACES, last):
            pass
        return 1e3 * (finished(sequence.ids.device) - began)

    for by, goal in (("norm", "<= 100"), ("kl", ""), ("routes", "")):
        calls = {"flow": partial(milliseconds, session, "flow", {"by": by}), "pass": replay}
        for call in calls.values():
            call()
        times = in_turns(calls, rounds)
        after = statistics.median(whole - one for whole, one in zip(times["flow"], times["pass"], strict=True))
        detail = f"with it {spread(times['flow'], 'ms')}, the pass {spread(times['pass'], 'ms')}"
        yield Figure(
            f"flow of one token by {by}, {architecture.n_layers} layers x {PLACES}, after the pass",
            after,
            "ms",
            goal,
            detail,
        )


def _rollout_peak(settings: Settings) -> Figure:
    """Each in a process of its own, which reads the text and then asks or does not."""
    calls = {name: partial(_in_a_child, name, settings) for name in ("plain", "rollout")}
    peaks = in_turns(calls, 1 if settings.quick else 3)
    detail = f"{spread(peaks['rollout'], 'MB')}, the text read {spread(peaks['plain'], 'MB')}"
    value = ratio(peaks["rollout"], peaks["plain"])
    return Figure(f"peak memory of rollout over {LONG} tokens / reading them", value, "x", "<= 1.15", detail)


def _in_a_child(name: str, settings: Settings) -> float:
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}  # as in reading.py
    command = [sys.executable, __file__, name, settings.model, settings.device]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=env)
    return float(json.loads(done.stdout.splitlines()[-1]))


def peak(name: str, settings: Settings) -> float:
    """MB of the whole process."""
    with session_behind(settings, LONG) as session:
        if name == "rollout":
            milliseconds(session, "attention-rollout", {})
    if session.state.loaded.model.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e3


if __name__ == "__main__":
    which, model, device = sys.argv[1:]
    print(json.dumps(peak(which, Settings(False, model, device, 1))))
