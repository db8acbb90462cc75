"""What went into a trace and what comes out of it."""

import math
import re

from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.step import Step
from tui_entropy.state.run_view import RunView
from tui_entropy.state.session_view import SessionView


def known(log: SessionView) -> dict[str, object]:
    """Every field, the steps as records."""
    fields = {name: getattr(log, name) for name in SessionView.__slots__ if name not in ("run", "runs", "twin")}
    run_fields = {name: getattr(log.run, name) for name in RunView.__slots__}
    scores = {name: [None if math.isnan(v) else v for v in column] for name, column in log.prompt_scores.items()}
    return fields | run_fields | {"runs": list(log.runs), "steps": list(log.steps), "prompt_scores": scores}


def comparable(*made: Step) -> str:
    """NaN is told, and is not the same as itself; SQLite knows one zero."""
    return re.sub(r"-0\.0\b", "0.0", repr(made))


def whole(log: SessionView) -> dict[int, dict[str, object]]:
    """Every field of every run, the steps as records and as columns, and where the screen is."""
    contents: dict[int, dict[str, object]] = {0: known(log) | {"twin": log.twin and log.twin.started.run}}
    for run, one in log.runs.items():
        scores = {name: [None if math.isnan(v) else v for v in column] for name, column in one.prompt_scores.items()}
        steps = one.steps
        columns = steps.texts, steps.ids, steps.at, steps.strays, *(list(steps.values(metric)) for metric in METRICS)
        fields = {name: getattr(one, name) for name in RunView.__slots__}
        contents[run] = fields | {"steps": list(steps), "prompt_scores": scores, "columns": columns}
        contents[run]["norms"] = [steps.norms(block) for block in (1, 2, 3)]
    return contents
