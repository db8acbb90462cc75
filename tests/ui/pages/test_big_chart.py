"""The chart on the whole screen: one axis for all, peaks that thinning keeps, marks, bounds and the cursor."""

import re

import made
import pytest
from drawn_rows import rows
from made_frames import PAINTS, frame_of
from made_steps import with_numbers
from msgspec.structs import replace

from tui_entropy.metrics.metric import LN2
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.step import Bounds
from tui_entropy.state.run_view import Mark
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.pages.big_chart import LABEL, BigChart

ENTROPY = BY_NAME["entropy"]
ALONE = {"chart_series": (ENTROPY,), "tint": ENTROPY}


def text_of(values, **fields):
    """A log of steps with these entropies in bits; None for one that is unknown."""
    log = made.log(0)
    for n, bits in enumerate(values):
        log.append(with_numbers(made.step(n), entropy=None if bits is None else bits * LN2, **fields))
    return log


def picture(log, width=120, height=30, **fields):
    """(rows of the first series below its title, all rows), without the numbers of the scale."""
    drawn = rows(BigChart(), log, width, height, **(ALONE | fields))
    foot = next(y for y, row in enumerate(drawn) if "└" in row or "+-" in row)
    return [row[LABEL:].ljust(width - LABEL) for row in drawn[2:foot]], drawn


def test_of_a_long_text_the_largest_value_of_each_place_shows():
    log = text_of(9.0 if n == 137 else 1.0 for n in range(1000))
    curve, drawn = picture(log)
    top = next(row for row in curve if row.strip())
    peaks = [column for column in range(len(top)) if 0x2800 <= ord(top[column]) <= 0x28FF]
    assert peaks and all(abs(column - 137 * 112 / 1000) < 2 for column in peaks)
    assert "9.00" in top and "peak 9.00 at step 138" in drawn[1]
    assert "8.93 steps a column, the largest shows" in drawn[0]


def test_of_a_short_text_every_step_is_equally_wide():
    curve, drawn = picture(text_of([8.0, 0.0, 8.0, 0.0]))
    columns = [column for column in range(112) if curve[0][column] not in " ."]
    assert {column // 8 for column in columns} >= {0, 2} and "a column" not in drawn[0]


def test_all_series_stand_on_one_axis_and_pins_below_it():
    log = made.log(40)
    log.run.marks.append(Mark(20, "top-k 5"))
    drawn = rows(BigChart(), log, 120, 30, cursor=10)
    walls = {row.index("│") for row in drawn if re.match(r" *\d* │", row)}
    assert walls == {LABEL - 1}
    foot = next(y for y, row in enumerate(drawn) if "└" in row)
    axis, numbers, pins = drawn[foot : foot + 3]
    assert axis.index("└") == LABEL - 1 and "top-k 5" in pins
    pinned = [column for column, glyph in enumerate(pins) if glyph == "┴"]
    assert 20 in [(column - LABEL) // (112 // 40) for column in pinned]
    assert all(row[column] != " " for row in drawn[2:10] for column in pinned), "a line up from each pin"
    assert "11" in numbers.split()


def test_what_is_unknown_parts_the_line_and_bounds_are_shaded():
    log = text_of([8.0, 8.0, None, 8.0, 8.0])
    curve, _ = picture(log, 50)
    wide = 8
    assert not any(row[2 * wide + wide // 2] not in " " for row in curve)
    bounded = replace(log.steps[2], bounds=(Bounds("entropy", 2 * LN2, 6 * LN2),))
    other = made.log(0)
    for n, step in enumerate(log.steps):
        other.append(bounded if n == 2 else step)
    shaded = "".join(row[2 * wide + wide // 2] for row in picture(other, 50)[0])
    assert shaded.strip() and set(shaded.strip()) <= {"░", "█"} and shaded.index("░") > 0


def test_more_series_than_there_is_room_for_are_counted():
    names = ("entropy", "varentropy", "surprisal", "final_entropy", "prob_margin")
    charted = tuple(BY_NAME[name] for name in names if name in BY_NAME)
    drawn = rows(BigChart(), made.log(20), 120, 14, chart_series=charted)
    shown = sum(any(row.startswith(f"{metric.name} (") for row in drawn) for metric in charted)
    assert f"{shown} of {len(charted)} series" in drawn[0] and 0 < shown < len(charted)


@pytest.mark.parametrize("paint", PAINTS, ids=lambda paint: paint.color)
def test_the_cursor_stands_over_every_row_of_every_series(paint):
    view = BigChart()
    at = LABEL + 5 * 2 + 1
    strips = view.draw(frame_of(made.log(40), cursor=5, paint=paint), 90, 30)
    marked = [strip for strip in strips if strip.crop(at, at + 1).text.strip() or any(
        segment.style and segment.style.bgcolor == paint.column.bgcolor and paint.rich
        for segment in strip.crop(at, at + 1)
    )]  # fmt: skip
    assert len(marked) >= 20


def test_a_line_is_not_worked_out_again_for_a_cursor_that_moves(monkeypatch):
    import tui_entropy.ui.pages.big_chart as page

    calls = []
    drawn_line = page.drawn_line
    monkeypatch.setattr(page, "drawn_line", lambda *given: calls.append(given) or drawn_line(*given))
    view, log = BigChart(), made.log(40)
    for cursor in (3, 4, 5):
        view.draw(frame_of(log, cursor=cursor), 90, 30)
    assert len(calls) == 2  # entropy and varentropy
    log.append(made.step(40))
    view.draw(frame_of(log), 90, 30)
    assert len(calls) == 4
    view.draw(frame_of(log, bits=False, paint=Paint(ascii=True)), 90, 30)
    assert len(calls) == 6


def test_another_unit_has_another_scale_and_so_another_line():
    log, view = text_of([3.1, 2.0, 3.0, 1.0]), BigChart()
    shown = {}
    for bits in (True, False):
        again, fresh = (each.draw(frame_of(log, bits=bits, **ALONE), 90, 30) for each in (view, BigChart()))
        assert again == fresh
        shown[bits] = [strip.text for strip in again[2:-3]]
    assert shown[True] != shown[False]
