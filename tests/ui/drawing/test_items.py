"""Items laid into rows: whole, in their order, as many as there is room for."""

from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.ui.drawing.items import Placed, place
from tui_entropy.ui.drawing.paint import Paint

SIZES = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3).map(lambda forms: sorted(forms)[::-1]))


def used(sizes: list[list[int]], row: list[Placed], gap: int) -> int:
    return sum(sizes[item][form] for item, form in row) + gap * (len(row) - 1)


@given(SIZES, st.integers(1, 60), st.integers(0, 3), st.integers(1, 4))
def test_every_row_fits_and_items_keep_their_order(sizes, width, gap, rows):
    laid = place(sizes, width, gap, rows)
    assert len(laid) <= rows and all(row and used(sizes, row, gap) <= width for row in laid)
    items = [item for row in laid for item, _ in row]
    assert items == sorted(set(items))


@given(SIZES, st.integers(1, 60), st.integers(0, 3), st.integers(1, 4))
def test_an_item_is_left_out_only_for_want_of_room(sizes, width, gap, rows):
    laid = place(sizes, width, gap, rows)
    shown = {item for row in laid for item, _ in row}
    if sizes and sizes[0][-1] <= width:
        assert 0 in shown
    for item in set(range(len(sizes))) - shown:
        least = sizes[item][-1]
        if least <= width:  # then all the rows are in use, and the last one has less room than it needs
            assert len(laid) == rows
            before = [one for one in laid[-1] if one.item < item]
            first = [sizes[n][-1] if rows == 1 else sizes[n][form] for n, form in before[:1]]
            taken = sum(first) + sum(sizes[n][-1] for n, _ in before[1:])
            assert taken + gap * len(before) + least > width


@given(SIZES, st.integers(1, 60), st.integers(0, 3), st.integers(1, 4))
def test_room_that_is_left_goes_to_longer_forms(sizes, width, gap, rows):
    for row in place(sizes, width, gap, rows):
        free = width - used(sizes, row, gap)
        for item, form in row:
            assert form == 0 or sizes[item][form - 1] - sizes[item][form] > free


def test_a_title_says_a_thing_in_fewer_words_before_it_leaves_out_another():
    paint = Paint()
    legend = ([("tint: entropy (model)", paint.dim)], [("tint: entropy", paint.dim)])
    assert paint.whole([("text", paint.title)], [legend, "step 3"], 29).text == "text · tint: entropy · step 3"
    assert paint.whole([("text", paint.title)], [legend, "step 3"], 28).text == "text · tint: entropy (model)"
    assert paint.whole([("text", paint.title)], [legend, "step 3"], 27).text == "text · tint: entropy"
    assert (
        paint.whole([("text", paint.title)], [legend, "step 3"], 37).text == "text · tint: entropy (model) · step 3"
    )
