"""When more data may be sent to the terminal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.ui.terminal.pacing import MAX_UNANSWERED, PROBE_DELAY_S, SLOW_CHUNK_BYTES, Pacer


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(pacer: Pacer) -> bool:
    """Whether data that is painted now has a question behind it."""
    pacer.wanted = True
    return pacer.ask()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_data_waits_for_the_answer(clock):
    pacer = Pacer(clock)
    assert pacer.wait() == 0 and not pacer.ask()
    assert asked(pacer)
    assert pacer.wait() == pytest.approx(PROBE_DELAY_S) and not asked(pacer)
    clock.now += 0.05
    heard = []
    pacer.on_answer = lambda: heard.append(pacer.wait())
    pacer.answered()
    assert heard == [0]
    assert pacer.round_trip == pytest.approx(0.05)


def test_over_a_slow_link_data_goes_in_parts_and_what_a_key_changes_whole(clock):
    pacer = Pacer(clock)
    rooms = []
    for seconds in (0.001, 2.0):
        asked(pacer)
        clock.now += seconds
        pacer.answered()
        pacer.wanted = True
        rooms.append(pacer.room)
    assert rooms == [math.inf, SLOW_CHUNK_BYTES]
    pacer.wanted = False
    assert pacer.room == math.inf


def test_an_answer_that_nobody_asked_for_is_none(clock):
    pacer = Pacer(clock)
    pacer.answered()
    assert pacer.round_trip is None and pacer.gauge() == ""


def test_a_slow_link_is_given_four_round_trips(clock):
    pacer = Pacer(clock)
    asked(pacer)
    clock.now += 0.2
    pacer.answered()
    asked(pacer)
    assert pacer.wait() == pytest.approx(0.8)


def test_a_terminal_that_never_answers_is_not_asked_for_ever(clock):
    pacer = Pacer(clock)
    for _ in range(MAX_UNANSWERED):
        assert asked(pacer) and pacer.wait() > 0
        clock.now += 10
        assert pacer.wait() == 0
    assert not asked(pacer) and pacer.wait() == 0


def test_one_lost_answer_is_forgiven(clock):
    pacer = Pacer(clock)
    for _ in range(5 * MAX_UNANSWERED):
        asked(pacer)
        clock.now += 10
        assert pacer.wait() == 0
        assert asked(pacer)
        pacer.answered()


@given(st.lists(st.sampled_from(["ask", "answer", "short", "long"]), max_size=60))
def test_it_never_stalls(happens):
    clock = Clock()
    pacer = Pacer(clock)
    for what in happens:
        match what:
            case "ask":
                asked(pacer)
            case "answer":
                pacer.answered()
            case _:
                clock.now += 0.01 if what == "short" else 3.0
    clock.now += pacer.wait()
    assert pacer.wait() == 0


def test_rates_are_of_the_newest_seconds(clock):
    pacer = Pacer(clock)
    for _ in range(20):
        clock.now += 0.5
        pacer.sent(1024, frame=True)
    frames, kib = pacer.rates
    assert frames == pytest.approx(2, abs=0.3) and kib == pytest.approx(2, abs=0.3)
    clock.now += 60
    assert pacer.rates == (0, 0)


def test_the_gauge_is_made_anew_once_a_second(clock):
    pacer = Pacer(clock)
    asked(pacer)
    clock.now += 0.05
    pacer.answered()
    first = pacer.gauge()
    assert first.startswith("link 50 ms")
    pacer.sent(50_000, frame=True)
    clock.now += 0.5
    assert pacer.gauge() == first
    clock.now += 0.6
    assert pacer.gauge() != first
