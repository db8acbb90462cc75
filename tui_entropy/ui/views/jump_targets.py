"""Jump targets: the steps that one pair of keys goes through. Those above the hot threshold of the tint by default,
after a search its matches."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.state.step_store import StepStore
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.tint_scale import hottest_of, middles, scale_of

MATCHES = "matches"
SHORT = 4096
"""Tokens of a text that is counted without being asked."""
QUERY = 24
"""Cells of a query in a title."""


@dataclass(frozen=True)
class JumpState:
    """What a person chose to jump to."""

    kind: str = "hot tokens"
    """A key of KINDS."""
    query: str = ""
    """What was searched last; empty for nothing."""


class Matches:
    """Where a query is found in a text that grows at its end. A query without capitals matches them too."""

    def __init__(self, query: str) -> None:
        flags = re.NOFLAG if any(letter.isupper() for letter in query) else re.IGNORECASE
        self._pattern, self._overlap = re.compile(re.escape(query), flags), len(query) - 1
        self._text, self._from = "", 0
        self._ends = array("l")
        """Of the text of each step."""
        self.spans: list[tuple[int, int]] = []
        """(first, last) step of each match, ascending; matches do not overlap."""

    def update(self, texts: Sequence[str]) -> None:
        """The text as it is now. Only what has come since is searched."""
        if len(texts) < len(self._ends):
            self._text, self._from, self._ends, self.spans = "", 0, array("l"), []
        new, end = texts[len(self._ends) :], len(self._text)
        for text in new:
            self._ends.append(end := end + len(text))
        self._text += "".join(new)
        for match in self._pattern.finditer(self._text, self._from):
            self._from = match.end()
            self.spans.append((bisect_right(self._ends, match.start()), bisect_left(self._ends, match.end())))
        self._from = max(self._from, len(self._text) - self._overlap)

    def holds(self, step: int) -> bool:
        """Whether a step is part of a match."""
        at = bisect_right(self.spans, (step, len(self._ends)))
        return at > 0 and step <= self.spans[at - 1][1]


class _Scan(NamedTuple):
    """The targets among the first n steps."""

    key: Hashable
    n: int
    targets: list[int]


_scans: WeakKeyDictionary[StepStore, dict[str, _Scan]] = WeakKeyDictionary()
_searches: WeakKeyDictionary[StepStore, tuple[str, Matches]] = WeakKeyDictionary()


def _scanned(steps: StepStore, kind: str, key: Hashable, found: Callable[[int, int], Iterable[int]]) -> Sequence[int]:
    """The targets of a kind among all steps; `found` tells those from one step up to another. While the key stays the
    same only new steps are looked at."""
    known, n = _scans.setdefault(steps, {}), len(steps)
    scan = known.get(kind)
    if scan is None or scan.key != key or scan.n > n:
        scan = _Scan(key, 0, [])
    if scan.n < n or kind not in known:
        known[kind] = scan = _Scan(key, n, [*scan.targets, *found(scan.n, n)])
    return scan.targets


def _hot(frame: Frame) -> Sequence[int]:
    steps, scale = frame.log.steps, scale_of(frame)

    def found(first: int, last: int) -> Iterable[int]:
        values = enumerate(middles(steps, scale.metric, first, last), first)
        return (at for at, value in values if scale.is_hot(value))

    return _scanned(steps, "hot tokens", scale, found)


def _flagged(metric: Metric, kind: str, frame: Frame) -> Sequence[int]:
    """The steps where a metric that counts is not 0."""
    steps = frame.log.steps

    def found(first: int, last: int) -> Iterable[int]:
        return (at for at, value in enumerate(steps.values(metric, first, last), first) if value)

    return _scanned(steps, kind, None, found)


def _matched(frame: Frame) -> Sequence[int]:
    found = matches(frame)
    return list(dict.fromkeys(first for first, _ in found.spans)) if found else ()


KINDS: dict[str, Callable[[Frame], Sequence[int]]] = {
    "hot tokens": _hot,
    "flips": partial(_flagged, BY_NAME["flip"], "flips"),
    "tokens by the lane": partial(_flagged, BY_NAME["by lane"], "tokens by the lane"),
    "breakpoint hits": lambda frame: frame.log.run.breakpoint_hits,
    "changes": lambda frame: sorted({mark.index for mark in frame.log.marks}),
    MATCHES: _matched,
}
"""What can be jumped to -> the steps of the text of a frame, ascending."""


def matches(frame: Frame) -> Matches | None:
    """The matches of the search in the text of a frame; None where nothing is searched."""
    state, steps = frame.of(JumpState), frame.log.steps
    if state.kind != MATCHES or not state.query:
        return None
    known = _searches.get(steps)
    if known is None or known[0] != state.query:
        _searches[steps] = known = state.query, Matches(state.query)
    known[1].update(steps.texts)
    return known[1]


def targets(frame: Frame) -> Sequence[int]:
    """The steps that can be jumped to in the text of a frame, ascending; the cursor can stand on each."""
    found = KINDS[frame.of(JumpState).kind](frame)
    return found[: bisect_right(found, frame.last)]


def has_targets(frame: Frame) -> bool:
    """Whether there are any, without looking at all of a long text: the largest value of its end is a hot one."""
    if frame.of(JumpState).kind != JumpState.kind:
        return bool(targets(frame))
    hottest = hottest_of(frame, frame.tint)
    return hottest is not None and scale_of(frame).is_hot(hottest)


def is_counted(frame: Frame) -> bool:
    """Whether how many there are can be told at once: of a long recording not before somebody jumps, since all of it
    must be read for that."""
    known = _scans.get(frame.log.steps, {})
    return len(frame.log.steps) <= SHORT or frame.of(JumpState).kind in known


def choices(frame: Frame) -> list[str]:
    """The kinds of which there are any, with the one that is chosen and the one by default."""
    state = frame.of(JumpState)
    kept = (JumpState.kind, state.kind)
    searched = [MATCHES] if state.query else []
    return [kind for kind in KINDS if kind in (*kept, *searched) or (kind != MATCHES and KINDS[kind](frame))]


def next_target(frame: Frame, by: int) -> int | None:
    """The one after the cursor (before it where `by` is negative), beyond the end again from the other; None where
    there is none."""
    found, cursor = targets(frame), -1 if frame.cursor is None else frame.cursor
    if not found:
        return None
    at = bisect_right(found, cursor) if by > 0 else bisect_left(found, cursor) - 1
    return found[at % len(found)]


def count(frame: Frame) -> str:
    """How many there are, and which of them the cursor is on: '3 of 17 hot tokens', '5 'the''."""
    state, found = frame.of(JumpState), targets(frame)
    what = state.kind
    if what == MATCHES:
        query = visible(state.query, frame.paint.ascii, in_table=True)
        what = f"'{fitted(query, min(cells(query), QUERY), frame.paint.ascii)}'"
    at = f"{bisect_right(found, frame.cursor)} of " if frame.cursor is not None and on_target(frame) else ""
    return f"{at}{len(found) or 'no'} {what}"


def on_target(frame: Frame) -> bool:
    """Whether the cursor stands on one."""
    found, cursor = targets(frame), frame.cursor
    at = 0 if cursor is None else bisect_right(found, cursor)
    return at > 0 and found[at - 1] == cursor
