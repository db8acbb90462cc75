"""The terminal shows the same whether everything is sent or only what changed."""

from __future__ import annotations

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import Screen

from tui_entropy.ui.terminal.cell_diff import Differ, styled

WIDTH, HEIGHT = 24, 6


def shown(*streams: str) -> list[list[object]]:
    """Every cell as it is seen after these."""
    screen = Screen(WIDTH, HEIGHT)
    for data in streams:
        screen.feed(data.encode())
    return screen.looks


def at(y: int, x: int, text: str, codes: str = "") -> str:
    return f"\x1b[{y + 1};{x + 1}H" + (f"\x1b[{codes}m{text}\x1b[0m" if codes else text)


colours = st.sampled_from(["", "31", "97", "38;5;17", "38;2;1;2;3", "38;2;18;18;18"])
grounds = st.sampled_from(["", "44", "107", "48;5;240", "48;2;9;8;7", "48;2;255;175;95"])
attributes = st.sampled_from(["", "1", "2", "3", "4", "7", "9", "1;4"])
styles = st.tuples(attributes, colours, grounds).map(lambda parts: ";".join(filter(None, parts)))
words = st.lists(st.sampled_from([*"ab  xyz·█▁─é東京ｶ", "e\u0301", "  "]), min_size=1, max_size=6).map("".join)
links = st.booleans()


@st.composite
def frames(draw: st.DrawFn) -> str:
    """What Textual may send: stretches of styled text, each of them at a place."""
    parts = []
    for _ in range(draw(st.integers(1, 8))):
        text, codes = draw(words), draw(styles)
        whole = at(draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 13)), text, codes)
        if draw(links):
            head, rest = whole.split("H", 1)
            whole = f"{head}H\x1b]8;id=1;http://there\x1b\\{rest}\x1b]8;;\x1b\\"
        parts.append(whole)
    return "".join(parts)


@given(st.lists(frames(), min_size=1, max_size=6))
def test_only_what_changed_leads_to_the_same_screen(sent):
    differ = Differ()
    assert shown(*map(differ.frame, sent)) == shown(*sent)


@given(st.lists(frames(), min_size=1, max_size=4))
def test_nothing_changed_sends_nothing(sent):
    differ = Differ()
    whole = repainted(sent)
    differ.frame(whole)
    assert differ.frame(whole) == ""


def repainted(sent: list[str]) -> str:
    """One frame that paints what these lead to."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.Stream(screen)
    for data in sent:
        stream.feed(data)
    return "".join(at(y, 0, "".join(screen.buffer[y][x].data for x in range(WIDTH))) + "\n" for y in range(HEIGHT))


@given(st.lists(frames(), min_size=2, max_size=5), st.data())
def test_what_was_forgotten_is_sent_again(sent, data):
    differ = Differ()
    cut = data.draw(st.integers(1, len(sent) - 1))
    for frame in sent[:cut]:
        differ.frame(frame)
    differ.forget()
    assert shown(*map(differ.frame, sent[cut:])) == shown(*sent[cut:])


def test_one_cell_costs_a_move_and_a_cell():
    differ = Differ()
    differ.frame(at(2, 3, "entropy 0.52 bits", "38;2;10;20;30;48;2;1;1;1"))
    sent = differ.frame(at(2, 3, "entropy 0.57 bits", "38;2;10;20;30;48;2;1;1;1"))
    assert sent == "\x1b[3;15H\x1b[38;2;10;20;30;48;2;1;1;1m7\x1b[m"


def test_of_a_style_only_what_changes_is_sent():
    differ = Differ()
    sent = differ.frame(at(0, 0, "a", "38;2;1;1;1;48;5;7") + at(0, 1, "b", "38;2;1;1;1;48;5;8"))
    assert sent == "\x1b[1H\x1b[38;2;1;1;1;48;5;7ma\x1b[48;5;8mb\x1b[m"
    assert differ.frame(at(1, 0, "a", "1;31") + at(1, 1, "b", "31")) == "\x1b[2H\x1b[1;31ma\x1b[0;31mb\x1b[m"


def test_the_colour_of_letters_is_nothing_on_a_space_but_a_line_is():
    differ = Differ()
    differ.frame(at(0, 0, "   ", "31;44"))
    assert differ.frame(at(0, 0, "   ", "32;44")) == ""
    assert differ.frame(at(0, 0, "   ", "4;32;44")) != ""


def test_ink_that_does_not_show_on_a_space_stays_for_what_follows():
    row = at(0, 0, "a", "1;31;44") + at(0, 1, " ", "32;45") + at(0, 2, "b", "1;31;45")
    assert Differ().frame(row) == "\x1b[1H\x1b[1;31;44ma\x1b[45m b\x1b[m"
    lined = at(0, 0, "a", "4;31;44") + at(0, 1, " ", "45")
    assert Differ().frame(lined) == "\x1b[1H\x1b[4;31;44ma\x1b[0;45m \x1b[m"


def test_a_small_gap_is_sent_again_and_a_large_one_moved_over():
    differ = Differ()
    differ.frame(at(0, 0, "abcdefghijklmnop"))
    assert differ.frame(at(0, 0, "Abc" + "d" + "Efghijklmno" + "P")) == "\x1b[1HAbcdE\x1b[10CP"


def test_a_small_gap_in_other_styles_is_moved_over():
    differ = Differ()
    differ.frame(at(0, 0, "a", "31") + at(0, 1, "b", "32") + at(0, 2, "c", "31"))
    assert differ.frame(at(0, 0, "A", "31") + at(0, 2, "C", "31")) == "\x1b[1H\x1b[31mA\x1b[CC\x1b[m"
    differ.frame(at(1, 0, "a", "31") + at(1, 1, "b", "32") + at(1, 2, "c", "31"))
    row = [("A", styled("31")), ("b", styled("32")), ("C", styled("31"))]
    assert differ.lines([(1, 0, row)]) == "\x1b[2H\x1b[31mA\x1b[CC\x1b[m"


def test_a_colour_of_24_bits_goes_by_its_number_where_every_terminal_has_it_under_that():
    assert Differ().frame(at(0, 0, "a", "38;2;18;18;18;48;2;255;175;95")) == "\x1b[1H\x1b[38;5;233;48;5;215ma\x1b[m"
    for rgb in ("18;18;19", "0;0;95"):  # 17 is among those that palettes redefine
        assert rgb in Differ().frame(at(0, 0, "a", f"38;2;{rgb}"))


def test_a_wide_character_is_sent_whole_and_half_of_it_is_none():
    differ = Differ()
    differ.frame(at(0, 0, "東京"))
    assert differ.frame(at(0, 0, "東都")) == "\x1b[1;3H都"
    differ.frame(at(0, 1, "x"))
    assert differ.frame(at(0, 0, "東"[:0] + "a")) == "\x1b[1Ha"
    assert "東" in differ.frame(at(0, 0, "東"))


@pytest.mark.parametrize("text", ["👩\u200d🚀", "❤\ufe0f", "👍🏽", "🇫🇷"])
def test_where_terminals_disagree_about_width_the_next_part_is_placed_anew(text):
    differ = Differ()
    sent = differ.frame(at(0, 0, text, "31") + at(0, 2, "x", "32"))
    assert sent.count("H") == 2


def test_what_leaves_the_cells_alone_goes_through_and_what_is_unknown_forgets():
    differ = Differ()
    frame = at(0, 3, "abc")
    differ.frame(frame)
    for harmless in ("\x1b[?25l", "\x1b[?2026$p", "\x1b[6n", "\x1b]52;c;YWJj\x07", "\x1b]2;title\x1b\\", "\x1b[>1u"):
        assert differ.frame(harmless) == harmless
        assert differ.frame(frame) == ""
    for unknown in ("\x1b[2J", "\x1b[?1049h", "\x1b[3;1r", "\x1b(0", "\x9b2J", "a\tb", "\x1b[5X"):
        assert differ.frame(unknown) == unknown
        assert differ.frame(frame) == frame
