"""What can be copied: the text, a step as a row, its candidates, and the command that makes a run again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.knobs import KNOBS, shown
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.stages.registry import ORDERS
from tui_entropy.state.run_view import RunView
from tui_entropy.ui.protocol.remark import Remark
from tui_entropy.ui.views.frame import Frame


def text(frame: Frame) -> str:
    """The text that was written."""
    return "".join(frame.log.steps.texts)


def row(frame: Frame) -> str:
    """The step under the cursor: names and values, two lines of tab-separated values. Empty before the first step."""
    step = frame.step
    if step is None:
        return ""
    known = [(metric, metric.read(step)) for metric in METRICS]
    values = [
        (f"{metric.name} {metric.unit(frame.bits)}".strip(), f"{metric.shown(value, frame.bits):.6g}")
        for metric, value in known
        if value is not None and math.isfinite(value)
    ]
    first = [("step", str(step.index + 1)), ("id", str(step.token_id)), ("token", _field(step.token_bytes))]
    return _table(zip(*first, *values, strict=True))


def candidates(frame: Frame) -> str:
    """Those of the step under the cursor, a line of tab-separated values each under their names."""
    step = frame.seen
    if step is None:
        return ""
    names = ("rank", "id", "token", "model probability", "final probability", "cut by")
    rows = (
        (str(n), str(one.token_id), _field(one.token_bytes), f"{math.exp(one.logprob):.6g}",
         f"{one.final_prob:.6g}", one.cut or "")
        for n, one in enumerate(step.candidates, 1)
    )  # fmt: skip
    return _table((names, *rows))


def command(frame: Frame, model: str = "") -> str:
    """The command line that writes the run that is looked at once more, as it began: what was changed while it was
    written is no part of it. Of a branch it is the run that it goes back to. Empty before the first run.

    model: as it was asked for; empty for what a recording says of it.
    """
    log, card = frame.log, frame.log.card
    if log.started is None or card is None:
        return ""
    started = first_run(frame).started
    named = card.source if "/" in card.source else card.name
    words = ["tui-entropy", "run", "--model", model or card.requested or named, "--device", card.device]
    words += ["--dtype", card.dtype] + (["--products", card.products] if card.products else [])
    words += [f"--prompt={started.prompt}", "--chat" if started.chat else "--raw"]
    words += [] if started.system is None else [f"--system={started.system}"]
    words += ["--max-tokens", str(started.max_tokens)]
    usual = Knobs()
    for knob in KNOBS:
        if getattr(started.knobs, knob.name) != getattr(usual, knob.name):
            words.append(f"{knob.option}={_value(started.knobs, knob.name)}")
    for vector in started.vectors:
        if vector.on and vector.part:
            words.append(f"--ablate={vector.name}={vector.strength!r}")
        elif vector.on and vector.source != BUILT_IN:
            words += ["--vector", _vector(vector)]
    return shlex.join(words)


def left_out(frame: Frame) -> list[str]:
    """What the command does not do, in words."""
    run, first = frame.log.run, first_run(frame)
    changed = len(run.knob_changes) + len(run.vector_changes) > 2
    return [
        *([f"it is run {first.started.run}, which this one branches from"] if run is not first else []),
        *(["without what was changed on the way"] if changed else []),
        *(["built-in vectors are to be switched on"] * any(
            vector.on and vector.source == BUILT_IN for vector in first.started.vectors
        )),
    ]  # fmt: skip


def first_run(frame: Frame) -> RunView:
    """The run that the present one goes back to, itself where it is no branch."""
    run, runs = frame.log.run, frame.log.runs
    while run.started.parent in runs and run.started.shared:
        run = runs[run.started.parent or 0]
    return run


BUILT_IN = "built in"


def _value(knobs: Knobs, name: str) -> str:
    """As the option of a knob is given."""
    value = getattr(knobs, name)
    if name == "order":
        return next((known for known, order in ORDERS.items() if order == value), ",".join(value))
    return repr(value) if isinstance(value, float) else shown(knobs, name)


def _vector(vector: Vector) -> str:
    """As --vector has it."""
    blocks = f":{vector.first}-{vector.last}" if vector.first is not None and vector.last is not None else ""
    points = ",".join(f"{step}={factor!r}" for step, factor in vector.schedule)
    condition = f" if {vector.condition}" if vector.condition else ""
    return f"{vector.source}:{vector.strength!r}{blocks}{f'@{points}' if points else ''}{condition}"


def _field(data: bytes) -> str:
    """A token in a table: what would end its field escaped."""
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    return data.decode("utf-8", "backslashreplace").translate(escapes)


def _table(rows: Iterable[Iterable[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


class Copy(NamedTuple):
    """Something that can be copied."""

    about: str
    text: Callable[[Frame, str], str]
    """Of a frame, and the model as it was asked for."""
    left_out: Callable[[Frame], list[str]] = lambda frame: []


COPIES = {
    "t": Copy("the text that was written", lambda frame, model: text(frame)),
    "r": Copy("this token's row", lambda frame, model: row(frame)),
    "c": Copy("the candidates", lambda frame, model: candidates(frame)),
    "m": Copy("the command that makes this run again", command, left_out),
}
"""By the letter that a person types."""


def remark(typed: str) -> Remark:
    """What can be typed, and whether what was is none of it."""
    known = ", ".join(f"{letter} {copy.about}" for letter, copy in COPIES.items())
    return Remark(known, 0 if typed and typed not in COPIES else None)
