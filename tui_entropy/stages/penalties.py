"""Penalties on what was there before. Repetition follows transformers; frequency and presence follow OpenAI and vLLM
(written tokens only), or with a window llama.cpp (the newest tokens, prompt included)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tui_entropy.stages.inputs import ExactPast, ExactRow, Past, Row
from tui_entropy.stages.stage import Knob, Stage, rungs

WINDOW = Knob(
    "penalty_last_n", "last-n", "Newest tokens, prompt included, that penalties and DRY look at. 0 is no limit.",
    0, 0, high=10**7, rungs=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 0),
    needs=("repetition_penalty", "frequency_penalty", "presence_penalty", "dry_multiplier"),
)  # fmt: skip
"""0 is no such window: then repetition and DRY see everything, frequency and presence what was written."""


def _counts(row: Row, token_ids: Any) -> Any:
    """(n,) float32: how often each token of the row is among these ids."""
    return row.sums(token_ids, row.scores.new_ones(len(token_ids)))


def _repetition(row: Row, past: Past, penalty: float, last_n: int) -> Any:
    scores = row.scores
    penalised = (scores * penalty).where(scores < 0, scores / penalty)
    return penalised.where(_counts(row, past.seen(last_n)) > 0, scores)


def _check_repetition(row: ExactRow, past: ExactPast, penalty: float, last_n: int) -> Any:
    changed = row.scores.copy()
    for token in set(past.newest(last_n)):
        changed[token] *= penalty if row.scores[token] < 0 else 1 / penalty
    return changed


def _written(row: Row, past: Past, last_n: int) -> Any:
    """(n,) how often each token is among those that frequency and presence penalty look at."""
    return _counts(row, past.seen(last_n) if last_n else past.written)


def _taken_off(row: ExactRow, penalty: float, token_ids: Iterable[int]) -> Any:
    """The scores without the penalty, for each of these ids once."""
    changed = row.scores.copy()
    for token in token_ids:
        changed[token] -= penalty
    return changed


def _window(past: ExactPast, last_n: int) -> tuple[int, ...]:
    return past.newest(last_n) if last_n else past.written


PENALTIES = (
    Stage(
        (Knob(
            "repetition_penalty", "repeat", "Scales down tokens of prompt and written text. 1 is off.", 1.0, 1.0,
            high=100, above=True, rungs=rungs(0.8, 2.0, 0.05), cost=0.7,
        ),),
        places=(1, 1, 1), rescore=_repetition, check=_check_repetition, example={"repetition_penalty": 1.4},
        also=(WINDOW.name,),
    ),
    Stage(
        (Knob(
            "frequency_penalty", "frequency", "Taken off for each time a token was written. 0 is off.", 0.0, 0.0,
            low=-100, high=100, rungs=rungs(-2.0, 2.0, 0.1), cost=0.7,
        ),),
        places=(2, 2, 2), example={"frequency_penalty": -3.0}, also=(WINDOW.name,),
        rescore=lambda row, past, penalty, last_n: row.scores - penalty * _written(row, past, last_n),
        check=lambda row, past, penalty, last_n: _taken_off(row, penalty, _window(past, last_n)),
    ),
    Stage(
        (Knob(
            "presence_penalty", "presence", "Taken off once if a token was written. 0 is off.", 0.0, 0.0,
            low=-100, high=100, rungs=rungs(-2.0, 2.0, 0.1), cost=0.7,
        ), WINDOW),
        places=(3, 3, 3), example={"presence_penalty": -4.0},
        rescore=lambda row, past, penalty, last_n: row.scores - penalty * (_written(row, past, last_n) > 0),
        check=lambda row, past, penalty, last_n: _taken_off(row, penalty, set(_window(past, last_n))),
    ),
)  # fmt: skip
