"""Steps are kept small, and come back as they went in."""

import math

import pytest
from msgspec.structs import replace
from scripted import step

from tui_entropy.metrics.registry import BY_NAME, METRICS
from tui_entropy.records.arrays import Grid
from tui_entropy.state.step_store import OPEN, StepStore


def filled(n: int) -> StepStore:
    steps = StepStore()
    for index in range(n):
        steps.append(step(index))
    return steps


def test_every_step_comes_back_as_it_went_in_however_long_ago():
    steps = filled(3 * OPEN)
    assert len(steps) == 3 * OPEN
    assert all(steps[i] == step(i) for i in (0, 1, OPEN, 3 * OPEN - 1))
    assert steps[-1] == step(3 * OPEN - 1) and steps[5:8] == [step(5), step(6), step(7)]
    with pytest.raises(IndexError):
        steps[3 * OPEN]


def test_what_is_read_along_the_text_is_what_the_steps_say():
    steps = filled(10)
    for metric in METRICS:
        assert list(steps.values(metric, 2, 6)) == [metric.read(step(i)) for i in range(2, 6)]
    assert steps.texts == [" Paris"] * 10 and list(steps.at) == [step(i).at for i in range(10)]


def test_norms_and_strays_are_kept_along_the_text():
    steps = filled(10)
    assert list(steps.norms(2)) == [25.0] * 10 and list(steps.norms(3, 4, 6)) == [26.0, 26.0]
    assert steps.strays == [step(i).strays for i in range(10)]
    assert len(StepStore().norms(1)) == 0


def test_unknown_stays_unknown():
    steps = StepStore()
    steps.append(replace(step(0), head_entropy=Grid.of([[math.nan]] * 3), visible_keys=(None,) * 3))
    assert list(steps.values(BY_NAME["head entropy"])) == [None]
