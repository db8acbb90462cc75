"""Every metric there is, in the order of tables and of the numbers of a step.

To add one: a `Metric` in the file of its family. It then has a place in `Step.numbers` if it is computed, a column in
traces, a key in JSON lines, a name in breakpoints, a row on the page of numbers, in the README and in doctor, and is
among the scores of a prompt if it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tui_entropy.metrics.attention import ATTENTION
from tui_entropy.metrics.comparison import COMPARISON
from tui_entropy.metrics.lens import LENS
from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.model import MODEL
from tui_entropy.metrics.recent import RECENT
from tui_entropy.metrics.residual import RESIDUAL
from tui_entropy.metrics.timing import TIMING
from tui_entropy.records.step import NAMED, Step


def _number(place: int) -> Callable[[Step], float | None]:
    return lambda step: step.numbers[place]


def placed(metrics: Iterable[Metric]) -> Iterator[Metric]:
    """The same, each that is computed with its place among the numbers of a step."""
    place = 0
    for metric in metrics:
        if metric.compute is None:
            yield metric
        else:
            yield replace(metric, read=_number(place))
            place += 1


METRICS = tuple(placed((*MODEL, *ATTENTION, *RESIDUAL, *LENS, *RECENT, *COMPARISON, *TIMING)))
BY_NAME = {metric.name: metric for metric in METRICS}
BY_FIELD = {metric.field: metric for metric in METRICS}
COMPUTED = tuple(metric for metric in METRICS if metric.compute is not None)
"""What `Step.numbers` has, in its order."""
assert tuple(metric.field for metric in COMPUTED[: len(NAMED)]) == NAMED


def numbers(**named: float | None) -> tuple[float | None, ...]:
    """For `Step.numbers`: by the field names of COMPUTED; those that are left out are unknown."""
    assert named.keys() <= BY_FIELD.keys()
    return tuple(named.get(metric.field) for metric in COMPUTED)


SCORES = tuple(metric.field for metric in METRICS if metric.on_prompt)
"""What is told of every token of the prompt."""
SCORE_COLUMNS = {metric.field: metric.column for metric in METRICS if metric.on_prompt}
"""The same -> its name in files."""
ATTENTION_COLUMNS = "attention_spread_nats2", "attention_disagreement", "attention_interaction_logits"
BLOCK_COLUMNS = "block_mean", "block_std", "block_norm_l2"
"""What ATTENTION and BLOCKS of records/step.py are called in files, where each is a number for every layer."""
