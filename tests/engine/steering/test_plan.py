"""Steering as a value: schedules, conditions, and what is equal to what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.engine.steering.plan import REMEMBERED, OffsetCache, Offsets, SteeringPlan, same_offsets
from tui_entropy.records.settings import Vector

POINTS = st.dictionaries(st.integers(1, 10**6), st.floats(-9, 9), min_size=1, max_size=8).map(
    lambda points: tuple(sorted(points.items()))
)


@given(POINTS, st.integers(1, 10**6))
def test_a_strength_lies_on_the_line_between_points_and_is_that_of_the_end_beyond_them(schedule, step):
    steps, factors = zip(*schedule, strict=True)
    vector = Vector("v", "v", strength=2.0, schedule=schedule)
    assert vector.strength_at(step) == pytest.approx(2 * np.interp(step, steps, factors), abs=1e-9)


def test_without_points_it_is_the_same_throughout():
    assert Vector("v", "v", strength=3.0).strength_at(1) == Vector("v", "v", strength=3.0).strength_at(10**6) == 3.0


WARM, COLD = Vector("warm", "a", (1,), 2.0, True, schedule=((1, 0.0), (5, 1.0))), Vector("cold", "b", (1,), 1.0, True)


def strengths(plan: SteeringPlan, step: int, met=()) -> dict[str, float]:
    return {vector.name: vector.strength for vector in plan.at(step, met)}


def test_what_acts_at_a_step_has_the_strength_that_it_has_then():
    plan = SteeringPlan((WARM, COLD, Vector("off", "c", (1,))))
    assert [strengths(plan, step) for step in (1, 3, 5, 99)] == [
        {"cold": 1.0}, {"warm": 1.0, "cold": 1.0}, {"warm": 2.0, "cold": 1.0}, {"warm": 2.0, "cold": 1.0}
    ]  # fmt: skip


def test_a_vector_with_a_condition_acts_behind_a_token_that_met_it():
    careful = Vector("careful", "d", (1,), 1.0, True, condition="entropy > 3 bits")
    plan = SteeringPlan((careful, COLD))
    assert plan.conditions == {"entropy > 3 bits"}
    assert strengths(plan, 4) == {"cold": 1.0}
    assert strengths(plan, 4, {"entropy > 3 bits"}) == {"careful": 1.0, "cold": 1.0}
    assert SteeringPlan((Vector("careful", "d", (1,), 1.0, False, condition="flip"),)).conditions == frozenset()


DIRECTIONS = {name: ControlVector(name, {1: np.full(4, n, np.float32)}) for n, name in enumerate(("warm", "cold"), 1)}


def test_offsets_are_equal_where_the_same_acts_whoever_made_them_and_whenever():
    cache, plan = OffsetCache(), SteeringPlan((WARM, COLD))
    first = cache.of(plan.at(9, ()), DIRECTIONS)
    assert first is cache.of(SteeringPlan((WARM, COLD)).at(77, ()), DIRECTIONS)
    torch.testing.assert_close(first[1], torch.full((4,), 4.0))
    for step in range(REMEMBERED + 9):
        cache.of(SteeringPlan((Vector("warm", "a", (1,), 1 + step, True),)).at(1, ()), DIRECTIONS)
    again = cache.of(plan.at(9, ()), DIRECTIONS)
    assert again is not first and again == first and hash(again) == hash(first) and same_offsets(again, first)
    other = cache.of(plan.at(3, ()), DIRECTIONS)
    assert other != first and not same_offsets(other, first)


def test_nothing_is_the_same_as_nothing_and_what_has_no_value_as_itself():
    plain = {1: torch.ones(4)}
    assert same_offsets({}, Offsets((), {})) and same_offsets({}, {}) and same_offsets(plain, plain)
    assert not same_offsets(plain, {1: torch.ones(4)}) and not same_offsets({}, plain)
