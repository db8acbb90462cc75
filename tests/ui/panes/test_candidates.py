"""The table of candidates: its columns, its bar, and the row of all the others."""

import math

import made
import pytest
from drawn_rows import rows
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tui_entropy.records.step import Candidate, Stage
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.panes.candidates import Candidates

PLAIN = Paint(color="mono", ascii=True)
SHARES = st.floats(0, 1)


def log_of(*shares: tuple[float, float, str | None], **fields: object) -> object:
    """One step with candidates of these probabilities: model, final, and the stage that cut it."""
    log = made.log(0)
    candidates = tuple(
        Candidate(100 + n, b" word", math.log(model), final, cut) for n, (model, final, cut) in enumerate(shares)
    )
    log.append(made.step(0, candidates=candidates, **fields))
    return log


@pytest.mark.parametrize(("size", "least"), [((46, 15), 8), ((83, 26), 20)])
def test_eight_tokens_and_more_have_a_row_where_the_screen_has_36_rows(size, least):
    shown = rows(Candidates(), made.log(30), *size)
    assert sum("·" in row[:8] for row in shown[1:]) >= least
    assert all(row.strip() for row in shown[: size[1] - 1])


def test_the_rest_is_one_row_with_its_share_of_both_distributions():
    log = log_of(*[(0.1, 0.11, None)] * 8, stages=(Stage("top_k", 40, 0.9, 1.0),))
    (others,) = (row for row in rows(Candidates(), log, 60, 20) if "others" in row)
    assert f"{made.card().vocab - 8} others" in others and others.split()[-2:] == ["20.0", "12.0"]


def test_the_rest_has_nothing_of_what_is_drawn_from_where_every_survivor_has_a_row():
    log = log_of(*[(0.1, 1 / 8 - 1e-9, None)] * 8, stages=(Stage("top_k", 8, 0.8, 1.0),))
    (others,) = (row for row in rows(Candidates(), log, 60, 20) if "others" in row)
    assert others.split()[-2:] == ["20.0", "0.0"]


def test_the_share_of_the_rest_is_unknown_where_one_of_the_others_is():
    log = log_of(*[(0.1, 0.1, None)] * 7, (0.1, math.nan, None))
    (others,) = (row for row in rows(Candidates(), log, 60, 20) if "others" in row)
    assert others.split()[-2:] == ["20.0", "?"]


def test_a_written_token_further_down_has_a_row_and_is_none_of_the_others():
    log = log_of(*[(0.1, 0.1, None)] * 8, token_id=7, rank=412.0, surprisal=-math.log(0.05), final_prob=0.0)
    shown = rows(Candidates(), log, 60, 20)
    (others,) = (row for row in shown if "others" in row)
    assert any("412" in row for row in shown) and others.split()[-2] == "15.0"


def test_a_stage_that_cut_a_token_stands_where_its_final_probability_would():
    log = log_of((0.6, 1.0, None), (0.4, 0.0, "top_p"), stages=(Stage("top_p", 1, 0.6, 0.0),))
    shown = rows(Candidates(), log, 60, 20)
    assert shown[1].rstrip().endswith("60.0   100.0") and shown[2].rstrip().endswith("40.0   top-p")


@given(SHARES, SHARES, st.integers(1, 40))
def test_the_bar_is_solid_as_far_as_both_reach_and_tells_which_goes_further(model, final, width):
    text = "".join(part for part, _ in PLAIN.shared_bar(model, final, width))
    assert len(text) == width and list(text.rstrip()) == sorted(text.rstrip(), key="#+-".index)
    assert model == final or text.count("#") == round(min(model, final) * width)
    assert ("+" in text) <= (final > model) and ("-" in text) <= (model > final)
    reach = round(max(model, final) * width)
    assert len(text.rstrip()) == (max(reach, 1) if max(model, final) > 0 else 0)


@given(SHARES, SHARES, st.integers(1, 40))
def test_in_colour_the_bar_ends_within_an_eighth_of_a_cell_of_the_longer_share(model, final, width):
    paint = Paint()
    parts = paint.shared_bar(model, final, width)
    text = "".join(part for part, _ in parts)
    assert len(text) == width
    eighths = 0
    for part, style in parts:  # where the two meet a cell is full
        meet = style.bgcolor != paint.final.bgcolor
        eighths += sum(8 if meet else " ▏▎▍▌▋▊▉█".index(glyph) for glyph in part)
    assert max(model, final) * width * 8 - 8 <= eighths <= max(max(model, final) * width * 8 + 1, 1)


def test_an_unknown_share_is_drawn_as_unknown():
    assert "?" in Paint().shared_bar(math.nan, 0.5, 8)[0][0]
    assert Paint().shared_bar(0.5, math.nan, 8) == [("████    ", Paint().model)]


def test_columns_without_room_are_left_out_whole():
    log = made.log(9)
    assert "final %" in rows(Candidates(), log, 46, 12)[0]
    for width in range(12, 60):
        first = rows(Candidates(), log, width, 12)[1]
        step = log.steps[8]
        model = f"{100 * math.exp(step.candidates[0].logprob):.1f}"
        final = f"{100 * step.candidates[0].final_prob:.1f}"
        assert (final in first) <= (model in first) and len(first) <= width
        assert ("█" in first) <= (final in first)


def test_the_others_of_a_whole_vocabulary_have_no_row():
    log = log_of(*[(0.125, 0.125, None)] * 8)
    log.card = replace(log.card, vocab=8)
    assert not any("others" in row for row in rows(Candidates(), log, 60, 20))
