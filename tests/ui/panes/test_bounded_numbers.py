"""A number of which only bounds are known, as the chart, the text, the page of numbers and a held-up step show it."""

import made
import pytest
from drawn_rows import rows
from made_frames import frame_of
from made_steps import with_numbers
from msgspec.structs import replace

from tui_entropy.metrics.metric import LN2
from tui_entropy.metrics.registry import BY_NAME, METRICS
from tui_entropy.records.events import Proposed
from tui_entropy.records.source import Capabilities
from tui_entropy.records.step import Bounds, Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.pages.numbers import Numbers, NumbersState
from tui_entropy.ui.panes.chart import Chart
from tui_entropy.ui.views.jump_targets import has_targets, targets
from tui_entropy.ui.views.tint_scale import middle, scale_of

ENTROPY = BY_NAME["entropy"]


def step(index: int, low: float | None = None, high: float = 0.0) -> Step:
    """Of an entropy of 1 bit, or between two of them."""
    made_step = with_numbers(made.step(index), entropy=LN2 if low is None else None)
    bounds = () if low is None else (Bounds("entropy", low * LN2, high * LN2),)
    return replace(made_step, bounds=bounds)


def log(*steps: Step) -> SessionView:
    view = made.log(0)
    for one in steps:
        view.append(one)
    return view


def columns(view: SessionView, n: int, height: int = 7, **fields: object) -> list[str]:
    """The spark of the entropy, each column from its top to its foot."""
    drawn = rows(Chart(), view, 100, height, chart_series=(ENTROPY,), tint=ENTROPY, **fields)
    at = next(y for y, row in enumerate(drawn) if row.startswith("entropy"))
    high = min(height - 2, 4)
    return ["".join(row[14 + column] for row in drawn[at : at + high]) for column in range(n)]


def test_the_chart_shades_from_the_lower_bound_to_the_upper_one():
    exact, half, all_of_it, narrow, none = columns(
        log(step(0), step(1, 4, 8), step(2, 0, 8), step(3, 2, 2.01), step(4, 0, 0)), 5
    )
    assert len(half) == 4 and half == "░░██" and all_of_it == "░░░░" and narrow == "  ░█" and none == "   ░"
    assert "░" not in exact


def test_the_chart_tells_the_bounds_beside_it_and_shades_what_is_held_up_too():
    view = log(step(0), step(1))
    view.append(Proposed(step(2, 1.5, 3.25)))
    drawn = rows(Chart(), view, 100, 7, chart_series=(ENTROPY,), tint=ENTROPY, cursor=2)
    assert "1.5…3.25 bits" in "\n".join(drawn)
    assert "░" in columns(view, 3, cursor=2)[2] and "░" not in "".join(columns(view, 2, cursor=2))


def test_the_page_of_numbers_has_them_in_the_unit_that_is_shown():
    view = log(step(0), step(1, 2.125, 3.4))

    def now(**fields: object) -> str:
        return next(row for row in rows(Numbers(), view, 120, 50, **fields)[1:] if " entropy " in row)

    assert " 2.12…3.4 bits" in now() and " 1.47…2.36 nats" in now(bits=False)
    assert "2.1...3.4" in now(paint=Paint(ascii=True)) and "…" not in now(cursor=0)
    assert all(len(row) <= 120 for row in rows(Numbers(), log(step(0, 1e-7, 12345.678)), 120, 50))


def test_a_text_is_tinted_by_the_middle_of_the_bounds():
    top = ENTROPY.ceiling / LN2
    view = log(step(0, 0, top), step(1, top / 2, top / 2), step(2, 0, 0), step(3))
    sizes = [middle(frame_of(view, tint=ENTROPY), index) / LN2 for index in range(4)]
    assert sizes == pytest.approx([top / 2, top / 2, 0.0, 1.0])
    lacking = log(with_numbers(made.step(0), entropy=None))
    assert middle(frame_of(lacking, tint=ENTROPY), 0) is None


def test_a_source_that_knows_few_numbers_has_a_page_of_those():
    view = log(step(0), step(1))
    view.capabilities = Capabilities(metrics=("entropy", "rank"))
    drawn = "\n".join(rows(Numbers(), view, 120, 60))
    assert [metric.name for metric in METRICS if f" {metric.name} " in drawn] == ["entropy", "rank"]
    page, frame = Numbers(), frame_of(view)
    chosen = []
    for _ in range(3):
        frame = frame_of(view, **page.moved(frame, 1))
        chosen.append(frame.of(NumbersState).chosen.name)
    assert chosen == ["rank", "rank", "rank"]


def test_in_a_chart_of_one_row_a_band_is_as_high_as_its_upper_bound_and_fainter():
    view = log(step(0), step(1, 4, 8), step(2, 0, 1), step(3, 0, 8))
    drawn = Chart().draw(frame_of(view, chart_series=(ENTROPY,), tint=ENTROPY, cursor=0), 80, 3)
    row = next(strip for strip in drawn if strip.text.startswith("entropy"))
    marks = row.text[14:18]
    assert marks[1] == marks[3] != marks[2] == marks[0] and "░" not in marks
    faint = []
    for segment in row:
        faint += [bool(segment.style and segment.style.dim)] * len(segment.text)
    assert faint[14:18] == [False, True, True, True]


def test_a_text_of_which_only_bounds_are_known_has_a_scale_and_hot_tokens_of_its_own():
    frame = frame_of(log(*(step(at, (at * 37 % 64) / 10, 7) for at in range(64))), tint=ENTROPY)
    hot = targets(frame)
    assert scale_of(frame).of_text and has_targets(frame)
    assert hot and all(at * 37 % 64 > 58 for at in hot)
