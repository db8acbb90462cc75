"""Levels that hold still: never more than one step off, and then only within the margin."""

from __future__ import annotations

from dataclasses import replace

import made
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.records.events import Paused
from tui_entropy.ui.drawing.hysteresis import MARGIN, Hysteresis
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.panes.heads import HeadGrid
from tui_entropy.ui.views.frame import Frame


@given(st.integers(2, 16), st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_what_is_shown_is_at_most_one_step_off_and_the_level_within_its_margin(steps, course):
    levels, before = Hysteresis(), None
    levels.follow("a run", steps)
    for level in course:
        exact = min(int(level * steps), steps - 1)
        step = min(int(levels.shown_level("a cell", level) * steps), steps - 1)
        assert abs(step - exact) <= 1
        assert step - MARGIN <= level * steps <= step + 1 + MARGIN
        assert step in (before, exact)
        before = step


@given(st.floats(0.1, 0.9), st.lists(st.floats(-0.02, 0.02), max_size=20))
def test_what_trembles_within_the_margin_does_not_change_its_step(level, noise):
    levels = Hysteresis()
    levels.follow("a run", 8)
    first = int(levels.shown_level("a cell", level) * 8)
    for off in noise:
        assert int(levels.shown_level("a cell", level + off) * 8) == first


def test_of_another_run_nothing_is_held():
    levels = Hysteresis()
    for run in (1, 2):
        levels.follow(run, 8)
        assert levels.shown_level("a cell", 0.49) == 0.49
        assert int(levels.shown_level("a cell", 0.51) * 8) == 3


def rows(frame: Frame, view: HeadGrid) -> list[object]:
    return [*view.draw(frame, 100, 40)]


def test_a_grid_at_rest_looks_the_same_whatever_was_shown_before():
    log, view, paint = made.log(5), HeadGrid(), Paint()
    shares = made.step(5).head_entropy
    for n, scale in enumerate((1.0, 1.02, 0.98, 1.01), 5):
        entropies = made.grid([[scale * value for value in row] for row in shares.rows()])
        log.append(made.step(n, position=60, head_entropy=entropies, visible_keys=(60,) * made.LAYERS))
        frame = Frame(log, paint, cursor=n, layer=29)
        live = rows(frame, view)
    assert live != rows(frame, HeadGrid())
    for still in (replace(frame, cursor=7, following=False), replace(frame, played="a recording")):
        assert rows(still, view) == rows(still, HeadGrid())
    rows(frame, view)
    log.append(Paused(1, "asked"))
    assert rows(frame, view) == rows(frame, HeadGrid())
