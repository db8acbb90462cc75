"""The screen of results: what keys do, what is drawn, and that text of a model is only drawn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspectors import screen_text

from tui_entropy.records.corpus.results import (
    Curve,
    CurveChart,
    Listing,
    Opening,
    Results,
    Row,
    SteeredModel,
    TextResult,
)
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.panels import Column, Tokens
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.results.app import ResultsApp
from tui_entropy.ui.results.curves import LABEL, LEAST, chart_rows
from tui_entropy.ui.views.panels import Canvas

HOSTILE = "\x1b]0;x\x07[red]a[/red]\n\x9b2J"
MODELS = SteeredModel(ModelSpec("a")), SteeredModel(ModelSpec("b"))
TEXT = TextResult("one", (5, 6, 7), "a b c")
LINE = CurveChart("accuracy", "confidence", Column("right", "share"), (Curve("line", (0.0, 1.0), (0.0, 1.0)),))


def results(**changes):
    tokens = tuple(
        Row((Tokens((6,), HOSTILE.encode()), 0.5 * n), opens=(Opening(0, n), Opening(0, n, 1))) for n in (1, 2)
    )
    inside = Listing("tokens", (Column("token"), Column("p", "share")), tokens, "a note on them")
    rows = (Row(("first", 1.0), inside, chart=1), Row(("second", 2.0)))
    other = CurveChart(
        "another", "layer", Column("entropy", "nats"), (Curve(HOSTILE, (0.0, 1.0, 2.0), (1.0, None, 3.0)),)
    )
    listing = Listing("sets", (Column("name"), Column("nll", "nats")), rows)
    return Results(**({"title": f"of {HOSTILE}", "models": MODELS, "texts": (TEXT,), "charts": (LINE, other),
                       "listing": listing} | changes))  # fmt: skip


async def test_rows_open_and_lead_back_and_at_last_into_the_inspector():
    app = ResultsApp(results())
    async with app.run_test(size=(120, 36)) as pilot:
        assert "first" in screen_text(app) and "another" in screen_text(app)
        await pilot.press("enter", "down")
        assert "tokens" in screen_text(app) and "a note on them" in screen_text(app)
        await pilot.press("escape")
        assert app.state.opened == () and app.state.row == 0
        await pilot.press("down", "enter")
        assert "nothing to open" in screen_text(app)
        await pilot.press("up")
        assert "nothing to open" not in screen_text(app)
        await pilot.press("right", "end", "enter")
    assert app.opening == Opening(0, 2)
    again = ResultsApp(results(), state=app.state)
    async with again.run_test(size=(120, 36)) as pilot:
        assert again.state.opened == (0,) and again.state.row == 1
        await pilot.press("2")
    assert again.opening == Opening(0, 2, 1)


async def test_unit_and_curves_and_leaving():
    app = ResultsApp(results())
    async with app.run_test(size=(120, 36)) as pilot:
        assert "nll bits" in screen_text(app) and "1.44" in screen_text(app)
        await pilot.press("u", "c")
        assert "nll nats" in screen_text(app) and "accuracy" in screen_text(app)
        await pilot.press("c", "C", "q")
    assert app.opening is None and app.return_code == 0


async def test_a_click_chooses_a_row_and_another_opens_it():
    app = ResultsApp(results())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.click("#rows", offset=(5, 3))
        assert app.state.row == 1
        await pilot.click("#rows", offset=(5, 2))
        await pilot.click("#rows", offset=(5, 2))
        assert app.state.opened == (0,)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60), (20, 5), (3, 2)])
@pytest.mark.parametrize(
    "paint", [Paint(), Paint(color="16"), Paint(color="mono", ascii=True)], ids=["truecolour", "sixteen", "ascii"]
)
async def test_every_size_and_way_of_drawing_shows_no_control_of_a_text(size, paint):
    app = ResultsApp(results(), paint)
    async with app.run_test(size=size) as pilot:
        await pilot.press("enter")
        shown = screen_text(app)
        assert "\x1b" not in shown and "\x9b" not in shown and "\x07" not in shown
        if paint.ascii and size[0] > 20:
            assert shown.isascii()


async def test_nothing_at_all_can_be_shown():
    app = ResultsApp(results(charts=(), listing=Listing("none", (Column("a"),), ())))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("enter", "down", "c", "escape", "pagedown", "u")
        assert "empty" in screen_text(app)


KEYS = st.lists(
    st.sampled_from(
        ["up", "down", "enter", "escape", "c", "C", "u", "home", "end", "pageup", "pagedown", "left", "x"]
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(KEYS)
async def test_any_keys_leave_a_screen_that_stands(keys):
    app = ResultsApp(results())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*keys)
        assert app.opening is not None or app.is_running
    assert app.failure is None


def test_a_curve_is_drawn_from_corner_to_corner():
    rows = ["".join(text for text, _ in row) for row in chart_rows(LINE, Canvas(Paint(ascii=True), 60, True), 20)]
    assert len(rows) == 20 and "accuracy" in rows[0]
    marks = [row.find("*") for row in rows[2:-2]]
    assert marks[0] == 59 and marks[-1] == LABEL and marks == sorted(marks, reverse=True)
    assert rows[2].startswith(" 100.0 ") and rows[-3].startswith("   0.0 ")


def test_a_band_lies_between_its_bounds_and_a_gap_parts_a_line():
    x = tuple(map(float, range(5)))
    chart = CurveChart(
        "t", "x", Column("y"), 
        (Curve("", x, (5.0, 5.0, None, 5.0, 5.0)), Curve("", x, (0.0, 0.0, 0.0, 0.0, 10.0), 0)),
        low=(4.0,) * 5, high=(6.0,) * 5,
    )  # fmt: skip
    rows = ["".join(text for text, _ in row) for row in chart_rows(chart, Canvas(Paint(ascii=True), 68, True), 24)][
        2:-2
    ]
    shaded = [n for n, row in enumerate(rows) if ":" in row]
    assert shaded and min(shaded) >= 6 and max(shaded) <= 12
    line = next(row for row in rows if row.count("*") > 20)
    assert " " in line[LABEL:].strip().replace(":", " ").strip("*")


@pytest.mark.parametrize("size", [(LEAST[0] - 1, 30), (60, LEAST[1] - 1)])
def test_without_room_nothing_is_drawn(size):
    assert chart_rows(LINE, Canvas(Paint(), size[0], True), size[1]) == []


@pytest.mark.parametrize("opening", [Opening(1, 0), Opening(0, 3), Opening(0, 0, 2), Opening(-1, 0)])
def test_results_that_open_what_is_not_there_cannot_be_made(opening):
    with pytest.raises(ValueError, match="opens a"):
        results(listing=Listing("x", (Column("a"),), (Row(("a",), opens=(opening,)),)))


def test_a_few_huge_values_do_not_press_the_others_to_the_ground():
    x = tuple(map(float, range(30)))
    chart = CurveChart("t", "x", Column("y"), (Curve("", x, (1e46, *[2.0 + n % 2 for n in range(29)])),))
    rows = ["".join(text for text, _ in row) for row in chart_rows(chart, Canvas(Paint(ascii=True), 60, True), 24)]
    assert "up to 1.0e+46" in rows[1] and rows[2].split()[0] == "4.50"
    assert sum("*" in row for row in rows[2:-2]) > 5
