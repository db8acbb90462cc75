"""The terminal that the other tests trust."""

import os
import re
import sys
import time

import pytest
from slow_link import Link
from terminal import Screen, Terminal

pytestmark = pytest.mark.pty

APP = """
from textual.app import App
from textual.widgets import Static

class Small(App):
    BINDINGS = [("q", "quit", "Quit"), ("x", "say('pressed')", "Say")]
    def compose(self):
        yield Static("hello")
    def on_resize(self, event):
        self.query_one(Static).update(f"{event.size.width}x{event.size.height}")
    def action_say(self, word):
        self.query_one(Static).update(word)
    def on_paste(self, event):
        self.query_one(Static).update(f"pasted {event.text}")

Small().run()
"""

ASK = """
import os, select, sys, tty
tty.setraw(0)
os.write(1, {question!r})
said = b""
while select.select([0], [], [], 0.5)[0]:
    said += os.read(0, 100)
print(ascii(said))
"""


@pytest.fixture
def small():
    with Terminal([sys.executable, "-c", APP], 80, 24) as terminal:
        terminal.wait_for("80x24")
        yield terminal


def test_keys_pastes_and_sizes_reach_the_program(small):
    small.press("x")
    small.wait_for("pressed")
    small.paste("a\nb")
    small.wait_for("pasted a")
    small.resize(100, 30)
    small.wait_for("100x30")


def test_a_program_that_quits_leaves_nothing_changed(small):
    assert {"alternate screen", "mouse", "hidden cursor", "termios"} <= small.left_changed()
    small.press("q")
    assert small.wait() == 0
    assert small.left_changed() == set()


def test_a_program_that_dies_leaves_the_terminal_as_it_was_using_it(small):
    small.process.kill()
    assert small.wait() == -9
    assert {"alternate screen", "mouse", "hidden cursor", "termios"} <= small.left_changed()


def test_time_is_told_of_the_press_and_of_the_answer(small):
    before = time.perf_counter()
    pressed = small.press("x")
    assert before <= pressed < small.wait_for("pressed") <= time.perf_counter()


def test_a_screen_at_rest_sends_nothing(small):
    small.settle()
    received = small.received
    time.sleep(0.5)
    assert received > 0 and small.received == received


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (b"\x1b[c", r"\x1b[?62;22c"),
        (b"\x1b[?2026$p", r"\x1b[?2026;2$y"),
        (b"\x1b[?1004h\x1b[?1004$p\x1b[?1004l", r"\x1b[?1004;1$y"),
        (b"\x1b[?4711$p", r"\x1b[?4711;0$y"),
        (b"\x1b[6n", r"\x1b[1;1R"),
        (b"\x1b[18t", r"\x1b[8;24;80t"),
        (b"\x1b]11;?\x07", r"\x1b]11;rgb:0000/0000/0000"),
        (b"nothing to answer", "b''"),
    ],
)
def test_it_answers_what_a_terminal_answers(question, answer):
    with Terminal([sys.executable, "-c", ASK.format(question=question)], 80, 24) as terminal:
        terminal.wait()
        assert answer in terminal.text


def test_what_never_comes_is_reported_with_the_screen():
    with (
        Terminal([sys.executable, "-c", "print('only this')"]) as terminal,
        pytest.raises(AssertionError, match="only this"),
    ):
        terminal.wait_for(re.compile("something else"), timeout=5)


def test_nothing_is_left_running():
    with Terminal(["sleep", "60"]) as terminal:
        assert terminal.process.poll() is None
    assert terminal.process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(terminal.process.pid, 0)


def test_where_the_bytes_are_cut_does_not_matter():
    drawing = (
        "\x1b[>13u\x1b[2J\x1b[2;3H\x1b[38;2;1;2;3m日本é\x1b[0m|\x1bP+q544e\x1b\\\x1b]0;title\x07\x1b[<uend".encode()
    )
    for cut in range(len(drawing) + 1):
        screen = Screen(20, 3)
        screen.feed(drawing[:cut])
        screen.feed(drawing[cut:])
        assert screen.text == "\n  日本é|end\n"


def test_a_synchronised_update_counts_when_it_is_whole():
    code = "import sys, time; w = lambda s: (sys.stdout.write(s), sys.stdout.flush()); w('\\x1b[?2026hhalf'); "
    with Terminal([sys.executable, "-c", code + "time.sleep(0.5); w('\\x1b[?2026l')"]) as terminal:
        assert terminal.wait_for("half") - terminal.chunks[0].at > 0.4


def test_a_link_takes_in_a_window_and_passes_it_on_at_its_rate_and_delay():
    program = "import os, time; os.write(1, b'x' * 20000); os.write(1, b'end'); time.sleep(1)"
    with Terminal([sys.executable, "-c", program], link=Link(rate=20_000, round_trip=0.2, window=5000)) as terminal:
        ended = terminal.wait_for("end", 20) - terminal.started
        first, last = terminal.chunks[0].at, terminal.chunks[-1].at
    assert 1.0 <= ended < 10 and last - first > 0.8


WAIT = """
import os, time, tty
tty.setraw(0)
asked = time.time()
os.write(1, b"\\x1b[6n")
os.read(0, 100)
print("took", round(time.time() - asked, 2))
"""


def test_an_answer_takes_a_round_trip():
    with Terminal([sys.executable, "-c", WAIT], link=Link(round_trip=0.3)) as terminal:
        terminal.wait_for("took", 20)
        took = float(re.search(r"took ([\d.]+)", terminal.text)[1])
    assert 0.28 <= took < 2
