"""Figures of scripts/bench: whether a goal is reached, what is kept of them, and what got slower since."""

import json
import math
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from places import ROOT

FILE = ROOT / "scripts" / "benchmarks" / "figures.py"


@pytest.fixture(scope="module")
def bench():
    spec = spec_from_file_location("figures", FILE)
    sys.modules["figures"] = module = module_from_spec(spec)  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules["figures"]


ABOUT = {"machine": "a shed", "load": "0.1", "torch": "2"}


def compared(bench, before, after, about=ABOUT):
    """What is said of figures as they were and as they are."""
    kept = bench.kept({"scripts/bench decode --quick": before}, ABOUT | {"load": "7"})
    return bench.slower({"scripts/bench decode": after}, about, kept)


@pytest.mark.parametrize(
    ("value", "goal", "reached"),
    [
        (0.97, ">= 0.97", True),
        (0.96, ">= 0.97", False),
        (0, "<= 0", True),
        (151, "<= 150", False),
        (5, "", None),
        (5, "<=", None),
        (math.nan, ">= 1", False),
    ],
)
def test_a_goal_is_reached_at_its_bound(bench, value, goal, reached):
    assert bench.Figure("f", value, "ms", goal).reached is reached


def test_what_is_kept_can_be_compared_with_itself(bench):
    figures = [bench.Figure("speed", 20.0, "tok/s", ">= 10"), bench.Figure("skipped", math.nan, "", "")]
    assert compared(bench, figures, figures) == []


def test_what_got_slower_comes_first_and_the_worst_of_it_before_the_rest(bench):
    def figures(speed, wait, size):
        return [
            bench.Figure("speed", speed, "tok/s", ""),
            bench.Figure("wait", wait, "ms", "<= 10"),
            bench.Figure("size", size, "KB", ""),
        ]

    assert compared(bench, figures(20.0, 5.0, 8.0), figures(10.0, 20.0, 4.0)) == [
        "WORSE 4.00 x: wait: 5 -> 20 ms",
        "WORSE 2.00 x: speed: 20 -> 10 tok/s",
        "better 2.00 x: size: 8 -> 4 KB",
    ]


def test_a_ratio_of_times_is_better_where_it_is_less(bench):
    before, after = (bench.Figure("ours / theirs", value, "x", "<=") for value in (1.0, 2.0))
    assert compared(bench, [before], [after]) == ["WORSE 2.00 x: ours / theirs: 1 -> 2 x"]


def test_noise_is_not_told(bench):
    before, after = (bench.Figure("speed", value, "tok/s", "") for value in (20.0, 18.0))
    assert compared(bench, [before], [after]) == []


def test_bytes_where_there_were_none_are_told(bench):
    before, after = (bench.Figure("idle", value, "bytes/s", "<= 0") for value in (0.0, 500.0))
    assert compared(bench, [before], [after]) == ["WORSE beyond measure: idle: 0 -> 500 bytes/s"]
    assert compared(bench, [after], [before]) == ["better beyond measure: idle: 500 -> 0 bytes/s"]


def test_numbers_below_nothing_have_no_ratio(bench):
    before, after = (bench.Figure("an option adds", value, "ms", "") for value in (-0.1, 0.4))
    assert compared(bench, [before], [after]) == []


def test_another_machine_is_told_and_another_load_is_not(bench):
    figures = [bench.Figure("speed", 20.0, "tok/s", "")]
    notes = compared(bench, figures, figures, ABOUT | {"machine": "a palace"})
    assert notes == ["the baseline had another machine: a shed"]


def test_a_section_is_the_same_whatever_its_options_and_another_one_is_not(bench):
    was, now = (bench.Figure("speed", value, "tok/s", "") for value in (20.0, 10.0))
    kept = bench.kept({"scripts/bench decode --rounds 9": [was]}, ABOUT)
    assert len(bench.slower({"scripts/bench decode": [now]}, ABOUT, kept)) == 1
    assert bench.slower({"scripts/bench steering": [now]}, ABOUT, kept) == []


def test_the_table_has_every_figure_with_its_command_and_goal(bench):
    figures = [bench.Figure("speed", 20.0, "tok/s", ">= 10", "theirs 5")]
    assert bench.table({"scripts/bench decode": figures}, ABOUT).splitlines() == [
        "machine a shed, load 0.1, torch 2",
        "",
        "`scripts/bench decode`",
        "",
        "| figure | measured | goal | compared with |",
        "|---|---|---|---|",
        "| speed | 20 tok/s | >= 10 | theirs 5 |",
    ]


def test_what_is_kept_is_json_with_all_that_a_figure_says(bench):
    figure = bench.Figure("speed", 20.0, "tok/s", ">= 10", "theirs 5")
    kept = json.loads(bench.kept({"scripts/bench decode": [figure]}, ABOUT))
    figure_row = {"name": "speed", "value": 20.0, "unit": "tok/s", "goal": ">= 10", "detail": "theirs 5"}
    assert kept == {"about": ABOUT, "sections": {"scripts/bench decode": [figure_row]}}


def test_contestants_take_turns_in_an_order_that_favours_none(bench):
    order = []
    calls = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    assert bench.in_turns(calls, 2) == {"a": [1, 6], "b": [2, 5], "c": [3, 4]}


def test_a_ratio_is_the_median_of_those_of_the_rounds(bench):
    assert bench.ratio([1.0, 20.0, 3.0], [1.0, 10.0, 2.0]) == 1.5
