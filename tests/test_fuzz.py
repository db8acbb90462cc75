"""Random actions on the program in a terminal: nothing fails, hangs, or sends what no terminal should get."""

import pytest
from fuzzing.actions import ALL, NOT_PRESSED, Action, code, keys, made
from fuzzing.play import Answers, Case, cases, play, shrunk
from fuzzing.play import Fault as FuzzFault
from fuzzing.scanner import Scanner

from tui_entropy.ui.keys.keymap import KEYS

pytestmark = pytest.mark.pty

BOUND = 20.0
"""Seconds for an answer, on a machine that does other work too. `scripts/fuzz` asks for one within a second."""


def fuzz(kind: str, seed: int, actions: int, session: int = 250) -> Answers:
    answers = Answers()
    source = cases(kind, seed, actions, session)
    case = next(source)
    while True:
        try:
            played = play(case, BOUND, answers)
        except FuzzFault as fault:
            fewer, shrunk_fault = shrunk(case, BOUND, tries=20)
            pytest.fail(f"{fault}\n{case.command}\nshrunk: {shrunk_fault}\n{fewer.command}")
        try:
            case = source.send(played)
        except StopIteration:
            return answers


@pytest.mark.parametrize(("kind", "actions"), [("fake", 500), ("replay", 200), ("watching", 200)])
def test_random_actions_neither_end_nor_stop_the_program_nor_get_raw_bytes_to_the_terminal(kind, actions):
    assert len(fuzz(kind, 1, actions).seconds) > actions / 2


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(("kind", "actions"), [("fake", 4000), ("real", 2000), ("replay", 2000), ("watching", 2000)])
def test_ten_thousand_of_them(kind, actions):
    fuzz(kind, 2, actions)


def test_every_key_of_the_table_can_be_sent_and_the_same_seed_makes_the_same_actions():
    assert all(code(key) for key in ALL)
    assert {name for key in KEYS for name in key.keys.split(",")} - {"q", "ctrl+d", "ctrl+q", *NOT_PRESSED} <= set(
        ALL
    )
    actions = made("seed", 300, (80, 24))
    assert actions == made("seed", 300, (80, 24)) != made("another", 300, (80, 24))
    assert [Action.parsed(str(action)) for action in actions] == actions
    assert all(action.data or action.kind in ("wait", "size", "kill", "keys") for action in actions)
    assert keys("q", ",", "é").data == "q,é".encode()


@pytest.mark.parametrize(
    ("sent", "wrong"),
    [
        ("\x1b[?1049h\x1b[3;1H\x1b[38;2;1;2;3mtext\x1b[0m\x1b[?1049l\r\nbye\n", False),
        ("\x1b]52;c;aGVsbG8=\x07", False),
        ("\x1b]0;title\x07", True),
        ("a\x07", True),
        ("\x1b[2;1Hback\u202etext", True),
        ("\x9b31m", True),
        ("\x1b[?1049ha\nb", True),
        ("\x1bc", True),
        ("\x1b[5i", True),
    ],
)
def test_the_scanner_names_what_our_driver_does_not_send_wherever_it_is_cut(sent, wrong):
    data = sent.encode() + b"."
    for cut in range(len(data)):
        scanner = Scanner()
        assert bool(scanner.faults(data[:cut]) + scanner.faults(data[cut:])) == wrong, cut


def test_a_failing_sequence_is_shrunk_to_what_makes_it_fail(monkeypatch):
    def played(case, bound):
        if {"keys:a", "keys:q"} <= set(map(str, case.actions)):
            raise FuzzFault("both")

    monkeypatch.setattr("fuzzing.play.play", played)
    actions = [keys(key) for key in "bcdaefghqijkl"]
    fewer, fault = shrunk(Case("fake", (80, 24), "text", tuple(actions)), 1.0)
    assert (list(map(str, fewer.actions)), fault) == (["keys:a", "keys:q"], "both")
    assert fewer.command.endswith("--play keys:a keys:q")
