"""Stretch: the part of a text that one run wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tui_entropy.state.run_view import RunView

MAX_MISSING_STEPS = 256
"""Steps in a row that may be missing from a damaged file; they are unknown, as seq 0 does not occur."""


class Stretch(NamedTuple):
    """Steps that one run wrote, of those that a text is made of."""

    run: int
    first: int
    last: int
    """The first that is no longer one of them."""


def lineage_of(runs: Mapping[int, RunView], number: int) -> tuple[Stretch, ...]:
    """The stretches that the steps of a run are made of, root first, as far as runs are known. Root and run are among
    them also where they wrote none."""
    stretches: list[Stretch] = []
    last = len(runs[number].steps)
    while True:
        started = runs[number].started
        parent = runs.get(started.parent) if started.parent is not None else None
        shares = parent is not None and parent.started.prompt_tokens == started.prompt_tokens
        first = min(started.shared, last) if shares else 0
        if first < last or not stretches or not shares:
            stretches.append(Stretch(number, first, last))
        if not shares or started.parent is None:
            return tuple(reversed(stretches))
        number, last = started.parent, first
