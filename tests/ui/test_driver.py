"""The way to the terminal: when more data may be sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.ui.driver import DEAF, PATIENCE, Pacer


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_data_waits_for_the_answer(clock):
    pacer = Pacer(clock)
    assert pacer.waits == 0 and pacer.ask()
    assert pacer.waits == pytest.approx(PATIENCE) and not pacer.ask()
    clock.now += 0.05
    assert pacer.answered() and pacer.waits == 0
    assert pacer.round_trip == pytest.approx(0.05)


def test_an_answer_that_nobody_asked_for_is_none(clock):
    assert not Pacer(clock).answered()


def test_a_slow_link_is_given_four_round_trips(clock):
    pacer = Pacer(clock)
    pacer.ask()
    clock.now += 0.2
    pacer.answered()
    pacer.ask()
    assert pacer.waits == pytest.approx(0.8)


def test_a_terminal_that_never_answers_is_not_asked_for_ever(clock):
    pacer = Pacer(clock)
    for _ in range(DEAF):
        assert pacer.ask() and pacer.waits > 0
        clock.now += 10
        assert pacer.waits == 0
    assert not pacer.ask() and pacer.waits == 0


def test_one_lost_answer_is_forgiven(clock):
    pacer = Pacer(clock)
    for _ in range(5 * DEAF):
        pacer.ask()
        clock.now += 10
        assert pacer.waits == 0
        assert pacer.ask()
        assert pacer.answered()


@given(st.lists(st.sampled_from(["ask", "answer", "short", "long"]), max_size=60))
def test_it_never_stalls(happens):
    clock = Clock()
    pacer = Pacer(clock)
    for what in happens:
        match what:
            case "ask":
                pacer.ask()
            case "answer":
                pacer.answered()
            case _:
                clock.now += 0.01 if what == "short" else 3.0
    clock.now += pacer.waits
    assert pacer.waits == 0


def test_rates_are_of_the_newest_seconds(clock):
    pacer = Pacer(clock)
    for _ in range(20):
        clock.now += 0.5
        pacer.sent(1024, frame=True)
    frames, kib = pacer.rates
    assert frames == pytest.approx(2, abs=0.3) and kib == pytest.approx(2, abs=0.3)
    clock.now += 60
    assert pacer.rates == (0, 0)
