"""Lines of a flow: what is joined has a corner, and what only passes goes through."""

from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.ui.drawing.flow_lines import Line, lines_between


def text(edges, ascii=False):
    return [
        "".join(line[at].text if at in line else " " for at in range(10)).rstrip()
        for line in lines_between(edges, ascii)
    ]


def test_a_place_that_came_from_itself_alone_has_one_upright_line():
    assert text([Line(3, 3, 0.1)]) == ["   │"] and text([Line(3, 3, 0.9)]) == ["   ┃"]


def test_sources_join_the_line_of_the_place_that_came_from_them():
    assert text([Line(8, 8, 0.5), Line(8, 0, 0.1), Line(8, 4, 0.1)]) == ["╭───┬───┤"]
    assert text([Line(8, 0, 0.3), Line(8, 4, 0.1)]) == ["╭━━━┬━━━╯"]  # nothing of its own


def test_a_line_that_only_passes_is_drawn_in_front():
    assert text([Line(8, 8, 0.1), Line(8, 0, 0.1), Line(4, 4, 0.1)]) == ["╭───│───┤"]


def test_places_have_a_line_each_the_rightmost_first_and_sources_that_stand_already_are_crossed():
    edges = [Line(8, 8, 0.1), Line(8, 0, 0.1), Line(4, 4, 0.1), Line(4, 0, 0.1)]
    assert text(edges) == ["╭───│───┤", "┼───┤   │"]
    assert text(edges, ascii=True) == [".---|---+", "+---+   |"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0, 1)), max_size=12))
def test_whatever_flows_every_place_with_a_source_has_a_line_that_ends_at_it(drawn):
    known = {(max(one, other) * 2, min(one, other) * 2): share for one, other, share in drawn}
    edges = [Line(above, below, share) for (above, below), share in known.items()]
    lines = lines_between(edges)
    assert len(lines) == max(len({above for above, below in known if above != below}), 1)
    last = lines[-1]
    for above, below in known:
        assert below in last or above != below
        assert any(line[above].text in "╯┤│┃┼" for line in lines if above in line)
