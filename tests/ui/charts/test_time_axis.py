"""The axis of a chart: every step has a column of its own or with its neighbours, and ticks are round numbers."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.ui.charts.time_axis import WIDEST, TimeAxis

LENGTHS, ROOMS = st.integers(1, 3000), st.integers(1, 250)


@given(LENGTHS, ROOMS)
def test_every_step_stands_in_one_column_and_the_columns_know_their_steps(n, room):
    axis = TimeAxis.whole(n, room)
    columns = [axis.column(step) for step in range(n)]
    assert columns == sorted(columns) and columns[0] >= 0 and columns[-1] < axis.columns <= room
    assert [step for column in range(axis.columns) for step in axis.steps(column)] == list(range(n))
    assert all(step in axis.steps(column) for step, column in enumerate(columns))
    assert all(axis.dot(step) // 2 == column for step, column in enumerate(columns))


@given(LENGTHS, ROOMS)
def test_while_they_fit_all_steps_are_equally_wide_and_a_click_finds_them(n, room):
    axis = TimeAxis.whole(n, room)
    if n <= room:
        assert axis.columns % n == 0 and axis.columns // n <= WIDEST
        wide = axis.columns // n
        assert [axis.step(column) for column in range(axis.columns)] == [at // wide for at in range(axis.columns)]
    else:
        assert axis.columns == room and max(len(axis.steps(at)) for at in range(room)) <= -(-n // room)


@given(st.integers(0, 5000), LENGTHS, ROOMS, st.integers(3, 12))
def test_ticks_are_round_and_apart(first, n, room, apart):
    axis = TimeAxis(first, first + n, room)
    ticks = axis.ticks(apart)
    places = [axis.column(step) for step in ticks]
    assert all(after - before >= apart - 1 for before, after in itertools.pairwise(places))
    numbers = [step + 1 for step in ticks if step != first]
    assert all(str(number).rstrip("0")[-1] in "123456789" and first <= number - 1 < first + n for number in numbers)
    distances = {after - before for before, after in itertools.pairwise(numbers)}
    assert len(distances) <= 1 and all(str(distance).rstrip("0") in "125" for distance in distances)


def test_ticks_of_a_text():
    assert [step + 1 for step in TimeAxis.whole(260, 110).ticks(10)] == [1, 50, 100, 150, 200, 250]
    assert TimeAxis.whole(1, 110).ticks(10) == [0]
