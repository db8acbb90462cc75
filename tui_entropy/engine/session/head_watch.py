"""What the heads look at wherever they are, told from time to time while a text is written."""

from __future__ import annotations

from time import perf_counter

from tui_entropy.engine.instruments.head_patterns import MIN_QUERIES, head_patterns
from tui_entropy.engine.sequence.view import SequenceView
from tui_entropy.engine.session.state import SessionState
from tui_entropy.records.probes.ask import ProbeAnswer, Value
from tui_entropy.records.probes.head_patterns import HEAD_PATTERNS, MAX_QUERIES

EVERY = 128
"""Positions of a text between two times that it is told, of which each is measured once."""


class HeadWatch:
    """The answer of the probe of head patterns, whose question nobody asks."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._told: tuple[int, int] = (0, -1)
        """Run and position that it was told of last."""

    def recall(self, run: int, position: int) -> None:
        """It was told of there last."""
        self._told = run, position

    def tell(self, sequence: SequenceView, run: int, position: int) -> None:
        """Emit the patterns before the token at a position: at the first one with rows enough, and at multiples of
        EVERY."""
        fresh = self._told[0] != run or position < self._told[1]
        attention = self._state.instruments.attention
        if not attention.keep or position < MIN_QUERIES + 2 or not (fresh or position % EVERY == 0):
            return
        self._told, began = (run, position), perf_counter()
        with self._state.instruments.aside():
            self._state.instruments.look_at(sequence)
            found = head_patterns(attention, sequence.ids[:position], MAX_QUERIES)
        if found is not None:
            options: dict[str, Value] = {"n_queries": MAX_QUERIES}
            seconds = perf_counter() - began
            self._state.emit(ProbeAnswer(HEAD_PATTERNS, run, position, options, found.panels, None, seconds))
