"""What it takes to say which parts of a model, and which tokens of a text, a token came of."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from functools import partial

import torch
from engine import finished, milliseconds, prompt_ids, session_behind, told, write_behind
from figures import Figure, Settings, in_turns, ratio, spread

from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.session.session import Session
from tui_entropy.records.probes.panels import Note, Table

LENGTH, SPLIT_LENGTH = 64, 512
N_PROMPTS = 20
GRADIENTS = ("saliency", "input-x-gradient")
GAP = re.compile(r"gap ([\d.]+) %")


def attributed(settings: Settings) -> Iterator[Figure]:
    """Direct logit attribution in decode steps, gradients in passes over the text, and integrated gradients of many
    prompts with what they miss."""
    rounds = 5 if settings.quick else 15
    with session_behind(settings, SPLIT_LENGTH) as session:
        yield from _direct(session, rounds)
    with session_behind(settings, LENGTH) as session:
        yield from _gradients(session, rounds)
        yield from _integrated(session, 4 if settings.quick else N_PROMPTS)


def _direct(session: Session, rounds: int) -> Iterator[Figure]:
    """With the step that tells its parts taken off: the same step, read once more, takes turns with it."""
    sequence = session.state.run_of(1).sequence
    last = sequence.n_tokens - 1

    def again() -> float:
        began = finished(sequence.ids.device)
        with torch.inference_mode(), session.branches.rewinder.replay(sequence, last - 1, last):
            pass
        return 1e3 * (finished(sequence.ids.device) - began)

    calls = {
        "step": again,
        "parts": partial(milliseconds, session, "logit-attribution", {}),
        "split": partial(milliseconds, session, "logit-attribution", {"sources": True}),
    }
    for call in calls.values():
        call()
    times = in_turns(calls, rounds)
    step = times["step"]
    for name, what, goal in (
        ("parts", "direct logit attribution, beyond the step / step", "<= 0.1"),
        ("split", f"head x source split at {SPLIT_LENGTH} tokens, beyond the step / step", "<= 1"),
    ):
        detail = f"with it {spread(times[name], 'ms')}, the step {spread(step, 'ms')}"
        yield Figure(what, ratio(times[name], step) - 1, "x", goal, detail)
    total = told(session, "logit-attribution", {})[1][0]
    assert isinstance(total, Table)
    rows = {str(row[0]): float(row[1]) for row in total.rows}  # type: ignore[arg-type]
    logit = rows["logit"]
    detail = f"{rows['remainder']:.3g} of a logit of {logit:.4g}"
    yield Figure(
        "remainder of direct logit attribution / logit", abs(rows["remainder"] / logit), "x", "<= 1e-4", detail
    )


def _gradients(session: Session, rounds: int) -> Iterator[Figure]:
    loaded, ids = session.state.loaded, session.state.run_of(1).sequence.ids[None]

    @torch.inference_mode()
    def plain() -> float:
        began = finished(ids.device)
        with session.state.instruments.nobody_looking(loaded):
            forward(loaded, None, ids)
        return 1e3 * (finished(ids.device) - began)

    calls = {name: partial(milliseconds, session, "attribution", {"method": name}) for name in GRADIENTS}
    calls["pass"] = plain
    for call in calls.values():
        call()
    times = in_turns(calls, rounds)
    for name in GRADIENTS:
        detail = f"{spread(times[name], 'ms')}, a forward pass {spread(times['pass'], 'ms')}"
        yield Figure(
            f"{name} of {LENGTH} tokens / forward pass", ratio(times[name], times["pass"]), "x", "<= 3", detail
        )


def _integrated(session: Session, n_prompts: int) -> Iterator[Figure]:
    ids = prompt_ids(session.state.loaded, LENGTH * n_prompts)
    gaps, seconds = [], []
    for nth in range(n_prompts):
        write_behind(session, ids[LENGTH * nth : LENGTH * (nth + 1)])
        last = max(session.state.runs)
        taken, panels = told(session, "attribution", {"method": "integrated-gradients"}, last)
        note = next(panel for panel in panels if isinstance(panel, Note))
        gaps.append(float(GAP.search(note.text)[1]))  # type: ignore[index]
        seconds.append(taken / 1e3)
    of = f"{n_prompts} prompts of {LENGTH} tokens"
    yield Figure(f"integrated gradients, median gap of {of}", statistics.median(gaps), "%", "<= 5", spread(gaps, "%"))
    yield Figure(f"integrated gradients, the longest of {of}", max(seconds), "s", "<= 60", spread(seconds, "s"))
