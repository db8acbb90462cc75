"""Nothing that a terminal would obey, and nothing that cannot be seen, comes through."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_entropy.ui.drawing.glyphs import fitted, visible, visible_bytes

NASTY = ["\x1b[2J\x1b]52;c;AAAA\x07", "\x9b31m", "a\u202eb\u2066c", "x\u200by\u200dz", "\r\b\x7f", "\ud800", "\ue000",
         "\u2028", "\U000e0041", "\ufe0f"]  # fmt: skip


def harmless(text: str) -> bool:
    return all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for char in text)


@given(st.text(st.characters(codec=None)) | st.sampled_from(NASTY), st.booleans())
def test_no_control_or_format_character_survives_in_a_table(text, ascii):
    assert harmless(visible(text, ascii, in_table=True))


@given(st.text(st.characters(codec=None)), st.booleans())
def test_a_stream_keeps_newlines_and_nothing_else_that_controls(text, ascii):
    shown = visible(text, ascii)
    assert shown.count("\n") == text.count("\n")
    assert harmless(shown.replace("\n", ""))


@given(st.binary(max_size=30), st.booleans())
def test_any_bytes_can_stand_in_a_table(data, ascii):
    shown = visible_bytes(data, ascii)
    assert harmless(shown)
    assert bool(shown) == bool(data)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b" Paris", "·Paris"),
        (b"  ", "··"),
        (b"a b", "a b"),
        (b"\n", "⏎"),
        (b"\t\x1b[0m", "⇥␛[0m"),
        (b"\xf0\x9f", "‹F0 9F›"),
        (b" \xf0\x9f", "·‹F0 9F›"),
        ("日本".encode(), "日本"),
        ("\u0301".encode(), "◌\u0301"),
        ("\u202e".encode(), "‹202E›"),
        (b"[/bold]", "[/bold]"),
    ],
)
def test_a_token_in_a_table(data, shown):
    assert visible_bytes(data) == shown


def test_plain_ascii_spells_controls_in_ascii():
    assert visible_bytes(b" \x1b\n\xff", ascii=True) == "_<001B>\\n<FF>"


@given(st.text(), st.integers(0, 20))
def test_a_fitted_text_is_as_wide_as_was_asked(text, width):
    assert cell_len(fitted(visible(text, in_table=True), width)) == width
