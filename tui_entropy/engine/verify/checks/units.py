"""Units: of every series by the way it is had a second time, against what the screen and files call it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.verify.checks.lanes import OF_LANES
from tui_entropy.engine.verify.checks.steps import ways
from tui_entropy.metrics.registry import BY_NAME, METRICS

UNIT_NAMES = {
    "nats": ("nats", "bits", "_nats"),
    "nats²": ("nats²", "bits²", "_nats2"),
    "logits": ("logits", "logits", "_logits"),
    "L2": ("L2", "L2", "_l2"),
    "s": ("s", "s", "_seconds"),
    "sd": ("sd", "sd", ""),
}
"""Unit -> what it is called where information is in nats, where it is in bits, and at the end of a name in a file.
Others are plain numbers, counts and shares, and have none."""
NONE = ("", "", "")
OF_TIME = "forward pass", "sampling"


def units(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """A number in the wrong unit is a wrong number."""
    known = {name: way.unit for name, way in ways().items()}
    known |= {name: "nats" if power else "tokens" for name, power in OF_LANES.items()} | dict.fromkeys(OF_TIME, "s")
    wrong = 0
    for metric in METRICS:
        in_nats, in_bits, ending = UNIT_NAMES.get(known.get(metric.name, "none is known"), NONE)
        called = metric.unit(bits=False), metric.unit(bits=True), _ending(metric.column)
        wrong += metric.name not in known or called != (in_nats, in_bits, ending)
    against = "names on screen and in files, against the unit of each second way"
    proves = [f"unit {name}" for name in BY_NAME]
    yield Check("units", "logits", against, "series", float(wrong), 0.0, proves=tuple(proves))


def _ending(column: str) -> str:
    """The unit at the end of a column's name; empty where it has none."""
    return next((ending for _, _, ending in UNIT_NAMES.values() if ending and column.endswith(ending)), "")
