"""The attention rows that steps carry, against the rows of an eager pass over the text."""

from __future__ import annotations

import numpy as np
import torch

from tui_entropy.engine.verify.evidence.compare import EAGER_PASS, Tally, allowed
from tui_entropy.engine.verify.evidence.written import Seen, Text
from tui_entropy.engine.verify.second.belief import Floats
from tui_entropy.records.quantised_rows import N_KEYS, TopKeys, error_bound

ROW = "recorded rows"
COMPARED = "keys, weights and rest of every head and of the mean of heads, against eager rows; 1 is a level of 255"


def compare_recorded_rows(text: Text, dtype: torch.dtype, tally: Tally) -> None:
    """Every row of every proposal."""
    assert text.plainly is not None
    tally.row(ROW, "heads", COMPARED, "of bound", ["step.attention_rows"])
    tally.rests_on[ROW] = EAGER_PASS
    if text.plainly.missing:
        tally.skipped[ROW] = text.plainly.missing
        return
    for seen in text.seen:
        for block in range(len(seen.step.visible_keys)):
            _block(seen, block, allowed(dtype, 1), tally)


def _block(seen: Seen, block: int, rounding: float, tally: Tally) -> None:
    """The rows of one block (0-based); those of a block without attention are unknown."""
    assert seen.plainly is not None and seen.step.attention_rows is not None
    read, at = seen.step.attention_rows.row, seen.step.position - 1
    if block not in seen.plainly.weights:
        tally.share(ROW, read(block + 1, None) is None, True, 0.0)
        return
    weights = seen.plainly.weights[block][:, at, : at + 1]
    _row(read(block + 1, None), weights.mean(0), rounding, tally)
    for head, row in enumerate(weights, 1):
        _row(read(block + 1, head), row, rounding, tally)


def _row(found: TopKeys | None, expected: Floats, rounding: float, tally: Tally) -> None:
    """One row. expected: (keys up to the query,) weights in float64. Rounding to levels moves the root of a weight by
    half a level at most; weights below half a level are in no key and not in the rest."""
    if found is None or not all(key < len(expected) for key in found.keys):
        tally.share(ROW, False, True, 0.0)
        return
    named = np.zeros(len(expected), bool)
    named[list(found.keys)] = True
    for weight, wanted in zip(found.weights, expected[named], strict=True):
        tally.share(ROW, weight, wanted, 2 * error_bound(wanted + rounding) + rounding)
    n_named, others = len(found.keys), expected[~named]
    least = float(expected[named].min()) if n_named == N_KEYS else error_bound(0)
    tally.share(ROW, float(max(others.max(initial=0.0) - least, 0.0)), 0.0, 4 * rounding)
    rest = float(others.sum())
    unnamed = (N_KEYS - n_named) * error_bound(0)
    tally.share(ROW, found.rest, rest, 2 * (error_bound(rest + rounding) + unnamed + rounding))
