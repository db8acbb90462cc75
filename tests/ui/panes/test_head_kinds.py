"""Kinds of heads on the screen: their marks, the key that goes to them, and where they are known from."""

import made
import numpy as np
import pytest
from drawn_rows import rows
from inspectors import settled, up
from made_frames import frame_of
from rich.style import Style
from shown_logs import shown
from textual.strip import Strip

from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import VectorsChanged
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.head_patterns import HEAD_PATTERNS, PATTERNS, HeadPatterns
from tui_entropy.records.settings import scaled_part
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.head_choice import kinds_at
from tui_entropy.ui.panes.heads import HeadGrid

PLAIN = Paint(color="mono", ascii=True)
SHOWN = {"sink": (30, 1), "previous token": (17, 1), "same token": (12, 7), "duplicate token": (9, 1)}


def answer(position: int, places: dict[str, tuple[int, int]] = SHOWN) -> ProbeAnswer:
    grids = [np.zeros((made.LAYERS, made.HEADS), dtype=np.float32) for _ in PATTERNS]
    for pattern, grid in zip(PATTERNS, grids, strict=True):
        if pattern.name in places:
            layer, head = places[pattern.name]
            grid[layer - 1, head - 1] = 0.65
    return ProbeAnswer(HEAD_PATTERNS, 1, position, panels=HeadPatterns(tuple(map(Grid.of, grids))).panels)


def measured(position: int = 45) -> SessionView:
    log = made.log(30)
    log.append(answer(position))
    return log


@pytest.mark.parametrize("width", [47, 83])
def test_each_kind_has_its_mark_at_its_head_and_no_other_head_has_one(width):
    drawn = rows(HeadGrid(), measured(), width, 32)
    letters = "".join(drawn[1:-1]).replace("late", "").replace("early", "")
    assert sorted(letter for letter in letters if letter.isalpha() or letter == "·") == sorted("·psd")
    (row,) = (row for row in drawn[1:-1] if "p" in row)
    assert "17" in row


def test_a_kind_is_named_with_its_share_for_the_chosen_head():
    assert "layer 17 head 1 · previous token 65 %" in rows(HeadGrid(), measured(), 47, 17, layer=17, head=1)[-1]
    assert "previous" not in rows(HeadGrid(), measured(), 47, 17, layer=17, head=2)[-1]


def test_the_marks_are_told_in_the_title_where_there_is_room():
    assert "p previous token, s same token" in rows(HeadGrid(), measured(), 160, 17)[0]


def test_what_is_known_at_a_cursor_is_of_the_text_before_it_where_that_is_known():
    log = made.log(30)
    first = log.steps[0].position
    log.append(answer(first + 5, {"sink": (1, 1)}))
    log.append(answer(first + 20, {"sink": (2, 2)}))
    known = {cursor: set(kinds_at(frame_of(log, cursor=cursor))) for cursor in (0, 10, 25)}
    assert known == {0: {(1, 1)}, 10: {(1, 1)}, 25: {(2, 2)}}


@pytest.mark.parametrize("paint", [Paint(), Paint(color="16"), PLAIN])
@pytest.mark.parametrize("width", [47, 160])
def test_the_legend_shows_the_very_cells_of_the_grid(paint, width):
    strips = HeadGrid().draw(frame_of(made.log(30), paint=paint), width, 17)

    def cells_of(strip: Strip) -> set[tuple[str, Style | None]]:
        return {(cell, segment.style) for segment in strip for cell in segment.text}

    title = cells_of(strips[0])
    levels = {paint.cell((n + 0.5) / paint.n_ramp_steps) for n in range(paint.n_ramp_steps)}
    assert len(title & levels) >= 4  # of five or eight, of which the least may be a blank
    cells = set().union(*map(cells_of, strips[1:-1]))
    assert len(cells & levels) >= paint.n_ramp_steps // 2


def test_the_ends_of_the_layers_are_called_late_and_early():
    for width in (47, 60, 83, 120):
        drawn = rows(HeadGrid(), made.log(3), width, 32)
        assert drawn[1].lstrip().startswith("late") and sum("early" in row for row in drawn[1:-1]) == 1


async def test_a_key_goes_to_the_next_head_whose_kind_says_something_of_the_text():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, measured(), layer=9, head=1)
        seen = []
        for _ in range(4):
            await pilot.press("backslash")
            await settled(app, pilot)
            seen.append((app.frame.layer, app.frame.head))
        assert seen == [(12, 7), (17, 1), (9, 1), (12, 7)]  # no sink
        assert "layer 12 head 7, same token: 65 % of its weight is on the token itself" in app.frame.notice


def test_what_is_scaled_has_a_mark_from_where_it_was_set_on_and_the_chosen_head_its_factor():
    log = made.log(20, marks=False)
    log.append(
        VectorsChanged(1, 12, (scaled_part("17.2=0.5"), scaled_part("9.attention=0"), scaled_part("4.feed-forward")))
    )
    for seen, marks in ((11, {}), (15, {"17": 1, " 9": made.HEADS})):
        drawn = rows(HeadGrid(), log, 83, 32, cursor=seen, layer=1)
        found = {number: row.count("×") for number in ("17", " 9") for row in drawn[1:-1] if number in row}
        assert found == {number: marks.get(number, 0) for number in found}
        chosen = rows(HeadGrid(), log, 83, 32, cursor=seen, layer=17, head=2)[-1]
        assert ("scaled ×0.5" in chosen) == bool(marks)
