import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_entropy.ui.drawing.paint import Paint

DARK = Paint()
PLAIN = Paint(color="mono", ascii=True)
levels = st.floats(0, 1)


@given(levels, st.integers(1, 40), st.sampled_from([DARK, PLAIN]))
def test_a_bar_has_the_width_asked_for_and_shows_any_share(share, width, paint):
    bar = paint.bar(share, width)
    assert cell_len(bar) == width
    assert (bar.strip() == "") == (share == 0)


@given(levels, levels, st.sampled_from([DARK, PLAIN]))
def test_a_bar_never_shrinks_as_its_share_grows(one, other, paint):
    low, high = sorted((one, other))
    assert len(paint.bar(low, 12).rstrip()) <= len(paint.bar(high, 12).rstrip())


@given(levels, st.integers(1, 5))
def test_a_column_is_filled_from_the_bottom(level, rows):
    column = [DARK.spark(level, row, rows) for row in range(rows)]
    heights = [0 if glyph == " " else DARK.sparks.index(glyph) + 1 for glyph in column]
    assert sum(heights) == max(round(level * rows * 8), 1)
    assert heights == sorted(heights, reverse=True)


def test_without_colour_every_level_of_a_grid_has_its_own_glyph():
    cells = [PLAIN.cell((n + 0.5) / 8) for n in range(8)]
    assert len({text for text, _ in cells}) == 8
    assert all(style.color is None and style.bgcolor is None for _, style in cells)


def test_without_colour_high_levels_of_text_differ_by_weight_or_line():
    low, middle, high, top = (PLAIN.tint(level) for level in (0.1, 0.5, 0.8, 1.0))
    assert not low.bold and middle.bold and high.underline and top.bold and top.underline


def test_unknown_is_drawn_as_unknown():
    for paint in (DARK, PLAIN):
        assert "?" in paint.cell(None)[0] and paint.spark(None) == "?"
        assert paint.tint(None) == paint.base


def test_in_plain_ascii_everything_drawn_is_ascii():
    parts = [PLAIN.spark(0.5), PLAIN.shade(0.5), PLAIN.bar(0.5, 4), PLAIN.pin, PLAIN.drawn, PLAIN.between, PLAIN.line]
    parts += [text for text, _ in PLAIN.legend("entropy", "0", "6 bits", text=True)]
    assert "".join(parts).isascii()


@given(st.lists(st.text(max_size=12), max_size=5), st.integers(0, 30), st.sampled_from(["", "end"]))
def test_a_row_is_never_too_wide(texts, width, right):
    strip = DARK.row([(text, DARK.base) for text in texts], width, [(right, DARK.dim)] if right else [])
    assert strip.cell_length <= width


def test_a_title_leaves_out_what_does_not_fit_whole():
    assert DARK.whole([("heads", DARK.title)], ["entropy / ln n", "step 3"], 16).text == "heads · step 3"


@pytest.mark.parametrize("color", ["truecolor", "256", "16", "mono"])
def test_every_kind_of_terminal_has_every_style(color):
    paint = Paint(color=color)
    assert paint.base is not paint.cursor
    assert paint.tint(0.0) != paint.tint(1.0)
    assert paint.cursor != paint.tint(1.0)
