"""Temperature, plain or dynamic; below GREEDY_BELOW the best score alone is left."""

from __future__ import annotations

import math
from typing import Any

from tui_entropy.stages.inputs import ExactPast, ExactRow, Past, Row
from tui_entropy.stages.stage import GREEDY_BELOW, Knob, Stage, on_device, rungs


def _divided(row: Row, past: Past, temperature: Any, reach: Any, exponent: Any) -> Any:
    """Divide by the temperature as set, or within `reach` of it, rising with H / ln n (0 is certainty).

    Source: llama.cpp, llama_sampler_temp_ext.
    """
    if not on_device(reach) and reach == 0:
        return row.scores / temperature
    low, high = temperature - reach, temperature + reach
    low = low.clamp(min=0) if on_device(low) else max(low, 0.0)
    ceiling = row.survivors.log()
    share = (row.entropy / ceiling).where(ceiling > 0, 0).clamp(0, 1)
    return row.scores / (low + (high - low) * share**exponent).clamp(min=GREEDY_BELOW)


def _check(row: ExactRow, past: ExactPast, temperature: float, reach: float, exponent: float) -> Any:
    if temperature < 1e-3:
        greedy = row.ids == row.scores.argmax()
        return greedy, row.nearest(row.scores[~greedy], row.scores.max())
    if reach > 0:
        n = row.survivors
        share = min(max(row.entropy / math.log(n), 0.0), 1.0) if n > 1 else 0.0
        least, most = max(temperature - reach, 0.0), temperature + reach
        temperature = max(least + (most - least) * share**exponent, 1e-3)
    return row.scores / temperature


TEMPERATURE = (
    Stage(
        (
            Knob(
                "temperature", "T", "Divides the scores: higher is more even. 0 is greedy.",
                0.7, 1.0, high=100, rungs=(*rungs(0.0, 2.0, 0.1), 2.5, 3.0, 4.0, 5.0),
            ),
            Knob(
                "dynatemp_range", "T±", "The temperature moves this far either way with the entropy. 0 is off.",
                0.0, 0.0, high=100, rungs=rungs(0.0, 2.0, 0.1), cost=1, after="penalty_last_n",
            ),
            Knob(
                "dynatemp_exponent", "T-exponent",
                "How the temperature follows the entropy: above 1 late, below 1 early.",
                1.0, high=100, above=True, rungs=rungs(0.25, 4.0, 0.25), needs=("dynatemp_range",),
                after="dynatemp_range",
            ),
        ),
        places=(5, 11, 5), in_graph=True, example={"temperature": 0.3, "dynatemp_range": 0.5},
        rescore=_divided, keep=lambda row, past, *values: row.best(row.scores), check=_check,
        acts=lambda temperature, reach, exponent: temperature != 1.0 or reach > 0,
        check_acts=lambda temperature, reach, exponent: (temperature, reach) != (1, 0),
    ),
)  # fmt: skip
