"""Panels in a terminal: each kind as it is drawn, and what holds whatever they hold."""

import math

import made
import made_panels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_entropy.records.arrays import Grid
from tui_entropy.records.probes.panels import (
    OF_ROW,
    UNIT,
    Axis,
    Bars,
    Column,
    Edge,
    Graph,
    Heatmap,
    Node,
    Note,
    Table,
    TintedText,
    Tokens,
)
from tui_entropy.ui.drawing.glyphs import cells
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.views.panels import Canvas, drawn
from tui_entropy.ui.views.wording import token_at

MONO = Paint(color="mono")
PAINTS = [Paint(), Paint(color="16"), MONO, Paint(color="mono", ascii=True)]


def lines(panels, width=80, bits=True, paint=MONO):
    canvas = Canvas(paint, width, bits, lambda position: f"t{position}")
    return [paint.row(row, width).text.rstrip() for row in drawn(panels, canvas)]


HEATMAP, BARS, TABLE, GRAPH, NOTE, TEXT = made_panels.panels()


def test_a_heat_map_has_a_name_for_each_row_and_column_and_a_mark_where_nothing_is_known():
    title, first, second, names = lines([HEATMAP])
    assert title.startswith("word") and title.endswith("100 %")
    assert first == f"word a {'':5}{'▒' * 5}" and second == f"b      {'█' * 5}?" and names == "word   word d"


def test_a_heat_map_with_tokens_has_them_in_its_cells_and_colour_says_the_number():
    title, names, first, second = lines([made_panels.token_map()])
    assert title.startswith("word") and title.endswith("100 %")
    assert (
        first.split() == ["2", "word", "·a"]
        and second.split() == ["1", "b⏎", "c"]
        and names.split() == ["layer", "t3", "t4"]
    )
    paint = Paint()
    _, _, row, below = drawn([made_panels.token_map()], Canvas(paint, 80, True, str))
    assert (
        row[1][1] == paint.tint(0.0) and row[2][1] == paint.tint(0.5) != row[1][1] and below[1][1] == paint.tint(1.0)
    )


@pytest.mark.parametrize("width", [44, 80, 120])
def test_of_a_heat_map_with_tokens_the_last_columns_are_shown_that_have_room(width):
    tokens = tuple(Tokens((n,), f"token {n}".encode()) for n in range(30))
    wide = Heatmap(
        "", Grid.of([[0.5] * 30]), Axis("layer", ("1",)), Axis("token", positions=tuple(range(30))), tokens=tokens
    )
    title, names, row = lines([wide], width=width)
    n = row.count("token")
    assert (
        0 < n < 30 and f"the last {n} of 30" in title and names.split()[-1] == "t29" and row.rstrip().endswith("29")
    )


def test_tokens_of_another_number_than_cells_are_none():
    with pytest.raises(ValueError, match="tokens for 1 cells"):
        Heatmap("", Grid.of([[0.5, 1.0]]), Axis("", ("r",)), Axis("", ("a", "b")), tokens=(Tokens((1,), b"x"),))


def test_bars_are_in_the_unit_that_a_person_chose():
    assert [row.split()[:2] for row in lines([BARS], bits=True)[1:]] == [["word", "1.00"], ["y", "?"], ["z", "-1.44"]]
    assert [row.split()[:2] for row in lines([BARS], bits=False)[1:]] == [
        ["word", "0.69"],
        ["y", "?"],
        ["z", "-1.00"],
    ]
    assert "bits" in lines([BARS])[0] and "nats" in lines([BARS], bits=False)[0]


def test_a_table_has_heads_with_units_and_numbers_at_the_right():
    title, head, first, second = lines([TABLE])
    assert title == "word"
    assert head.split() == ["word", "in", "nats", "bits", "share", "%", "whole", "any"]
    assert first.split() == ["word", "1.00", "25.0", "7", "yes"] and second.split() == [
        "word",
        "?",
        "100.0",
        "-1",
        "?",
    ]


def test_numbers_of_a_row_may_have_the_unit_that_the_row_tells():
    columns = Column("metric"), Column("mean", OF_ROW), Column("unit", UNIT)
    told = Table("", columns, (("entropy", math.log(2), "nats"), ("margin", 3.0, "logits"), ("none", None, "")))
    (_, head, *rows), (*_, nats, _, _) = lines([told], bits=True), lines([told], bits=False)
    assert head.split() == ["metric", "mean", "unit"]
    assert [row.split() for row in rows] == [["entropy", "1.00", "bits"], ["margin", "3.00", "logits"], ["none", "?"]]
    assert nats.split() == ["entropy", "0.69", "nats"]


def test_a_graph_has_its_heaviest_edge_first():
    assert [row.split()[:4] for row in lines([GRAPH])[1:]] == [
        ["word", "→", "word", "-50.0"],
        ["word", "→", "end", "25.0"],
    ]


def test_a_note_is_wrapped():
    assert lines([NOTE], width=12) == ["word", "word and", "more of it"]


def test_a_tinted_text_has_its_tokens_one_behind_the_other_and_underlines_those_below_0():
    title, text = lines([TEXT])
    assert title.startswith("word") and "bits" in title and "underlined below 0" in title and text == "t0t1t2"
    (_, row) = drawn([TEXT], Canvas(Paint(), 80, True, lambda position: f"t{position}"))
    assert [bool(style.underline) for _, style in row] == [False, True, False]
    half, whole, unknown = (style.bgcolor or style.color for _, style in row)
    assert half != whole and unknown not in (half, whole)
    assert [row for row in lines([TEXT], width=4)[1:]] == ["t0t1", "t2"]


def test_a_bar_below_0_is_as_long_as_one_above():
    both = Bars("", (1.0, -1.0), Axis("", ("a", "b")))
    (_, above, below) = drawn([both], Canvas(Paint(), 80))
    assert above[-1][0] == below[-1][0] and above[-1][1] != below[-1][1]


def test_a_step_is_a_table_of_its_candidates():
    rows = lines([made.step(3)])
    assert rows[0] == "step 4: candidates" and rows[1].split()[:3] == ["token", "model", "p"]
    assert len(rows) == 2 + len(made.step(3).candidates) and "top_p" in rows[-1]


def test_a_token_that_comes_after_that_of_its_row_is_not_unknown_but_left_blank():
    queries = Axis("query", positions=(1, 2))
    seen = Heatmap(
        "rows", Grid.of([[0.5, 0.5, math.nan], [math.nan, 0.2, 0.3]]), queries, Axis("key", positions=(0, 1, 2))
    )
    first, second = lines([seen])[1:3]
    assert "?" not in first and second.count("?") == 1


def test_columns_of_which_nothing_is_known_at_the_end_are_left_out():
    known = Heatmap("", Grid.of([[1.0, math.nan, math.nan]]), Axis("", ("r",)), Axis("", ("a", "b", "c")))
    assert "b" not in lines([known])[-1] and "a" in lines([known])[-1]


def test_columns_without_room_for_their_tokens_are_told_by_position():
    keys = Axis("key", positions=tuple(range(95, 115)))
    wide = Heatmap("seen", Grid.of([[0.5] * 20]), Axis("query", positions=(120,)), keys, "share")
    _, row, names = lines([wide], width=26)
    assert cells(row) == 6 + 20
    assert names == "query 95 98 101 105 109"  # each begins under its column
    assert "columns by position" in lines([wide], width=60)[0]
    assert lines([wide], width=120)[2].split()[:3] == ["query", "t95", "t96"]


def test_of_a_wide_heat_map_the_last_columns_are_shown_and_how_many_there_are():
    wide = Heatmap(
        "", Grid.of([[n / 200 for n in range(200)]]), Axis("", ("r",)), Axis("", tuple(map(str, range(200))))
    )
    assert "the last 78 of 200" in lines([wide])[0]


def test_a_long_text_in_a_table_is_cut_and_what_stands_behind_it_is_there():
    told = Table("", (Column("text"), Column("number")), (("long " * 40, 7),))
    row = lines([told], width=60)[2]
    assert "…" in row and row.endswith(" 7") and cells(row) <= 60


def test_columns_that_have_no_room_at_all_are_counted():
    many = Table("", tuple(Column(f"column {n}") for n in range(30)), (tuple(range(30)),))
    title, head, _ = lines([many])
    shown = head.count("column")
    assert 0 < shown < 30 and f"{30 - shown} more columns in a wider terminal" in title


@pytest.mark.parametrize("paint", PAINTS, ids=["truecolor", "16", "mono", "ascii"])
@pytest.mark.parametrize("width", [1, 7, 20, 80, 300])
def test_nothing_of_a_panel_is_obeyed_by_a_terminal_or_wider_than_it(paint, width):
    panels = *made_panels.panels(made_panels.HOSTILE), made_panels.token_map(made_panels.HOSTILE)
    for row in drawn(panels, Canvas(paint, width, True, lambda position: "x")):
        text = paint.row(row, width).text
        assert cells(text) <= width and text.isprintable() and (text.isascii() or not paint.ascii)
        assert not any("\u202e" in part or "\x1b" in part for part, _ in row)


WORDS = st.text(max_size=12)
NUMBERS = st.floats(width=32) | st.none()
CELLS = st.booleans() | st.integers() | st.floats() | WORDS | st.none() | st.builds(
    Tokens, st.lists(st.integers(0, 9), max_size=3).map(tuple), st.binary(max_size=9)
)  # fmt: skip
UNITS = st.sampled_from(["nats", "share", UNIT, OF_ROW]) | WORDS
TOPS = st.floats(1e-6, 1e6)


@st.composite
def any_panel(draw):
    n, m = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    names = [Axis(draw(WORDS), tuple(draw(st.lists(WORDS, min_size=size, max_size=size)))) for size in (n, m)]
    match draw(st.sampled_from(["heatmap", "bars", "text", "table", "graph", "note"])):
        case "heatmap" if n and m:
            values = draw(st.lists(st.floats(width=32), min_size=n * m, max_size=n * m))
            grid = Grid.of([values[at * m : at * m + m] for at in range(n)])
            return Heatmap(draw(WORDS), grid, *names, draw(WORDS), draw(TOPS))
        case "bars":
            return Bars(
                draw(WORDS), tuple(draw(st.lists(NUMBERS, min_size=n, max_size=n))), names[0], "nats", draw(TOPS)
            )
        case "text":
            values = tuple(draw(st.lists(NUMBERS, min_size=n, max_size=n)))
            return TintedText(draw(WORDS), values, tuple(range(n)), draw(WORDS), draw(TOPS))
        case "table":
            rows = draw(st.lists(st.tuples(*[CELLS] * m), max_size=4))
            return Table(draw(WORDS), tuple(Column(draw(WORDS), draw(UNITS)) for _ in range(m)), tuple(rows))
        case "graph" if n:
            edges = st.builds(Edge, st.integers(0, n - 1), st.integers(0, n - 1), st.floats(width=32))
            nodes = tuple(Node(draw(WORDS), at) for at in range(n))
            return Graph(draw(WORDS), nodes, tuple(draw(st.lists(edges, max_size=4))), "share", draw(TOPS))
    return Note(draw(WORDS), draw(WORDS))


@settings(max_examples=150, deadline=None)
@given(st.lists(any_panel(), max_size=3), st.integers(1, 100), st.sampled_from(PAINTS))
def test_any_panel_can_be_drawn(panels, width, paint):
    for row in drawn(panels, Canvas(paint, width)):
        text = paint.row(row, width).text
        assert cells(text) <= width and text.isprintable()


@pytest.mark.parametrize(
    "made_of",
    [
        lambda: Heatmap("", Grid.of([[1.0]]), Axis("", ("a",)), Axis("", ("b", "c"))),
        lambda: Heatmap("", Grid.of([[1.0]]), Axis("", ("a",)), Axis("", ("b",)), top=0.0),
        lambda: Bars("", (1.0,), Axis("", ())),
        lambda: Bars("", (1.0,), Axis("", ("a",)), top=math.nan),
        lambda: TintedText("", (1.0,), (1, 2)),
        lambda: TintedText("", (1.0,), (1,), top=0.0),
        lambda: Table("", (Column("a"),), ((1, 2),)),
        lambda: Graph("", (Node("a"),), (Edge(0, 1, 1.0),)),
        lambda: Axis("", ("a",), (1,)),
    ],
)
def test_a_panel_whose_parts_do_not_fit_cannot_be_made(made_of):
    with pytest.raises(ValueError):
        made_of()


def test_a_token_before_the_text_is_none():
    log = made.log(4)
    n = len(log.started.prompt_tokens)
    assert [token_at(log, at, False) for at in (-n - 1, -1, n + 4)] == ["?", "?", "?"]


def test_a_flow_has_a_row_for_each_layer_and_lines_to_where_it_came_from():
    title, head, top, *between = lines([made_panels.diagram()])
    assert title.startswith("word") and title.endswith("100 % of the flow")
    assert head.split() == ["layer", "t1", "t2", "t3", "t4", "res", "att", "ff", "other"]
    assert top.split() == ["2", "word", "100"] and top.index("word") == head.index("t4")
    joined, middle, lower, bottom = between
    assert joined.split() == ["╭━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┤", "50", "20", "30"]
    assert joined.index("╭") == head.index("t1") + 1 and joined.index("┤") == head.index("t4") + 1
    assert middle.split() == ["1", "·a", "30", "b⏎", "60", "10"]  # the rest flows through what is not shown
    assert lower.split() == ["┃", "╭────────────┬━━━━━━━━━━━━┤", "80", "?", "10"]
    assert bottom.split() == ["word", "c", "30", "d", "10", "e", "20", "f", "30", "10"]


def test_a_flow_where_there_is_less_room_leaves_out_the_tokens_that_carry_least():
    head = lines([made_panels.diagram()], width=46)[1]
    assert head.split()[:4] == ["layer", "t1", "…t4", "res"]
    plain = lines([made_panels.diagram()], paint=Paint(color="mono", ascii=True))
    assert all(line.isascii() for line in plain) and ".======" in plain[3]
