"""Conditions on numbers of which only bounds are known: what is said of them is certain."""

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_steps import with_numbers
from msgspec.structs import replace
from scripted import step

from tui_entropy.breakpoints.interval import Interval
from tui_entropy.breakpoints.parser import parse
from tui_entropy.records.step import Bounds, Step

numbers = st.floats(-100, 100).map(lambda value: round(value, 3))
intervals = st.tuples(numbers, numbers).map(lambda ends: Interval(min(ends), max(ends)))
shares = st.floats(0, 1)
COMPARED = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)


def within(interval: Interval, share: float) -> float:
    return min(max(interval.low + share * (interval.high - interval.low), interval.low), interval.high)


def ends(one: Interval | float) -> list[float]:
    return [one.low, (one.low + one.high) / 2, one.high] if isinstance(one, Interval) else [one]


@pytest.mark.parametrize("compare", COMPARED)
@given(a=st.one_of(intervals, numbers), b=st.one_of(intervals, numbers), at=shares, beside=shares)
def test_a_comparison_is_decided_just_where_all_numbers_between_agree(compare, a, b, at, beside):
    if not isinstance(a, Interval) and not isinstance(b, Interval):
        return
    said = compare(a, b)
    x = within(a, at) if isinstance(a, Interval) else a
    y = within(b, beside) if isinstance(b, Interval) else b
    if said is not None:
        assert compare(x, y) is said
    else:  # some agree and some do not: their ends are enough to see it, and for equality a common point
        seen = {compare(one, other) for one in ends(a) for other in ends(b)}
        common = max(ends(a)[0], ends(b)[0])
        assert len(seen | {compare(common, common)}) == 2 or compare in (operator.eq, operator.ne)


@pytest.mark.parametrize("act", [operator.add, operator.sub, operator.mul, operator.truediv])
@given(a=intervals, b=st.one_of(intervals, numbers), at=shares, beside=shares)
def test_arithmetic_holds_whatever_comes_of_numbers_between(act, a, b, at, beside):
    if act is operator.truediv and not b:
        return
    x, y = within(a, at), within(b, beside) if isinstance(b, Interval) else b
    made = act(a, b)
    slack = 1e-9 * max(abs(made.low), abs(made.high), 1)
    assert made.low - slack <= act(x, y) <= made.high + slack
    if not isinstance(b, Interval):
        turned = act(b, a) if act is not operator.truediv or a else None
        if turned is not None:
            slack = 1e-9 * max(abs(turned.low), abs(turned.high), 1)
            assert turned.low - slack <= act(y, x) <= turned.high + slack


def bounded(low: float, high: float) -> Step:
    """Nats of the entropy."""
    return replace(with_numbers(step(2), entropy=None), bounds=(Bounds("entropy", low, high),))


@pytest.mark.parametrize(
    ("expression", "met"),
    [
        ("entropy > 2 nats", True),
        ("entropy > 2.5 nats", False),
        ("entropy < 2.5 nats", False),
        ("not entropy > 2.5 nats", False),
        ("entropy < 3.5 nats", True),
        ("entropy >= 2.1 nats and entropy <= 3.4 nats", True),
        ("entropy == 2.5 nats", False),
        ("entropy != 2.5 nats", False),
        ("entropy != 4 nats", True),
        ("entropy * 2 > 4 nats", True),
        ("1 nats - entropy < 0 nats", True),
        ("entropy / entropy > 0.5", True),
        ("entropy % 2 nats < 5 nats", False),
        ("entropy > 2.5 nats or step == 3", True),
        ("-entropy < -2 nats", True),
    ],
)
def test_a_condition_is_met_only_where_it_is_so_for_the_whole_interval(expression, met):
    assert parse(expression).holds(bounded(2.1, 3.4), "") is met


def test_a_number_that_is_known_is_asked_as_it_is_and_one_of_which_nothing_is_known_meets_nothing():
    known = replace(with_numbers(step(2), entropy=2.0), bounds=(Bounds("entropy", 3, 4), Bounds("surprisal", 1, 2)))
    assert parse("entropy == 2 nats").holds(known, "")
    unknown = with_numbers(step(2), entropy=None, surprisal=None)
    for expression in ("entropy > 0 nats", "entropy <= 0 nats", "logprob < 0 nats"):
        assert not parse(expression).holds(unknown, "")
    assert not math.isfinite(unknown.entropy)


def test_the_log_probability_has_the_bounds_of_the_surprisal():
    at = replace(with_numbers(step(2), surprisal=None), bounds=(Bounds("surprisal", 1.0, 2.0),))
    assert parse("logprob < -0.9 nats and logprob > -2.1 nats").holds(at, "")
    assert not parse("logprob < -1.5 nats").holds(at, "") and not parse("logprob > -1.5 nats").holds(at, "")
