"""What the terminal was asked, and how long it may still answer."""

from __future__ import annotations

import re
import time
from threading import Thread

import pytest

from tui_entropy.ui.terminal.questions import (
    ANSWER_TIMEOUT_S,
    ANSWERS,
    CURSOR,
    MAX_ANSWER_WAIT_S,
    MIN_ANSWER_WAIT_S,
    Questions,
)

SAID = {CURSOR: "\x1b[12;40R", "\x1b[?2026$p": "\x1b[?2026;2$y", "\x1b[?2048$p": "\x1b[?2048;0$y",
        "\x1b[?2048h": "\x1b[48;36;120;576;960t"}  # fmt: skip


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("question", ANSWERS)
def test_an_answer_is_heard_wherever_it_is_cut_and_between_keys(clock, question):
    said = "ab\x1b[A" + SAID[question] + "c\x1b"
    for cut in range(len(said) + 1):
        questions = Questions(clock)
        questions.asked(question)
        clock.now += 0.3
        questions.heard(said[:cut])
        questions.heard(said[cut:])
        assert questions.round_trip == pytest.approx(0.3)
        questions.heard(said)  # an answer that nobody asked for
        assert questions.round_trip == pytest.approx(0.3)


def test_keys_and_answers_to_other_questions_are_no_answer(clock):
    questions = Questions(clock)
    questions.asked(CURSOR)
    questions.heard("R\x1b[A\x1b[1;2D\x1b[<0;3;4M\x1b[?2026;2$y[1;1R")
    assert questions.round_trip is None


def patience(questions: Questions) -> float:
    """Right after the last that was sent."""
    return questions.patience(questions._clock())


def test_an_open_answer_is_waited_for_twice_as_long_as_it_usually_takes_within_bounds(clock):
    for took, waited in ((0.01, MIN_ANSWER_WAIT_S), (0.2, 0.4), (0.8, MAX_ANSWER_WAIT_S)):
        questions = Questions(clock)
        questions.asked(CURSOR)
        assert patience(questions) == MAX_ANSWER_WAIT_S  # nothing is known
        clock.now += took
        questions.heard(SAID[CURSOR])
        questions.asked(CURSOR)
        assert patience(questions) == pytest.approx(waited)


def test_one_that_is_slower_than_usual_is_given_twice_what_it_took_so_far(clock):
    questions = Questions(clock)
    questions.asked(CURSOR)
    clock.now += 0.01
    questions.heard(SAID[CURSOR])
    questions.asked(CURSOR)
    clock.now += 0.3
    assert patience(questions) == pytest.approx(0.6)
    clock.now += ANSWER_TIMEOUT_S
    assert patience(questions) <= MIN_ANSWER_WAIT_S  # lost


def test_with_nothing_open_it_is_as_long_as_a_report_of_the_mouse_may_be_under_way(clock):
    questions = Questions(clock)
    assert patience(questions) == pytest.approx(MIN_ANSWER_WAIT_S)
    questions.asked(CURSOR)
    clock.now += 0.02
    questions.heard(SAID[CURSOR])
    assert patience(questions) == pytest.approx(0.02)


def test_the_wait_ends_with_the_answer():
    questions = Questions()
    questions.asked(CURSOR)
    began = time.monotonic()
    Thread(target=lambda: (time.sleep(0.1), questions.heard(SAID[CURSOR]))).start()
    questions.settle()
    assert time.monotonic() - began >= 0.1
    assert questions.round_trip is not None


def test_every_question_has_a_pattern_of_its_own():
    for question, said in SAID.items():
        assert [other for other, pattern in ANSWERS.items() if re.fullmatch(pattern, said)] == [question]
