"""The diff of two runs: what it says is so, and it says it in time."""

import random
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from scripted import started, step

from tui_entropy.state.run_diff import REACH, Comparison, Span, compare, compared
from tui_entropy.state.run_view import RunView

few = st.lists(st.integers(0, 3), max_size=60)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """One list, and another that is made of it by edits."""
    one = draw(few)
    other = one[:]
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(other)))
        other[at : at + draw(st.integers(0, 3))] = draw(st.lists(st.integers(0, 9), max_size=4))
    return one, other


def applied(comparison: Comparison, one: list[int], other: list[int]) -> list[int]:
    """What the one becomes: what is the same comes from the one, the rest from the other."""
    made = []
    for span in comparison.spans:
        made += one[span.one_first : span.one_last] if span.same else other[span.other_first : span.other_last]
    return made


@given(pairs() | st.tuples(few, few))
@example(([], []))
@example(([1], []))
@example(([0] * 300, [1] * 300))
@example(([0, 1] * 150, [1, 0, 2] * 100))
def test_applied_to_the_one_it_gives_the_other_and_it_is_the_same_from_both_sides(pair):
    one, other = pair
    comparison = compared(one, other)
    assert applied(comparison, one, other) == other
    back = compared(other, one)
    assert back.parting == comparison.parting
    assert back.spans == tuple(Span(same, c, d, a, b) for same, a, b, c, d in comparison.spans)
    assert applied(back, other, one) == one


@given(pairs() | st.tuples(few, few))
def test_the_spans_are_both_runs_from_end_to_end(pair):
    one, other = pair
    spans = compared(one, other).spans
    assert [(span.one_first, span.other_first) for span in spans] == [
        (0, 0) if at == 0 else (spans[at - 1].one_last, spans[at - 1].other_last) for at in range(len(spans))
    ]
    last = (spans[-1].one_last, spans[-1].other_last) if spans else (0, 0)
    assert last == (len(one), len(other))
    assert all(before.same != after.same for before, after in pairwise(spans))
    for span in spans:
        assert span.kind != "same" or one[span.one_first : span.one_last] == other[span.other_first : span.other_last]


@given(pairs() | st.tuples(few, few))
def test_they_part_where_the_common_beginning_ends(pair):
    one, other = pair
    n = compared(one, other).parting
    assert one[:n] == other[:n] and (n in (len(one), len(other)) or one[n] != other[n])


@given(pairs() | st.tuples(few, few))
def test_every_step_stands_in_one_row_and_in_order(pair):
    one, other = pair
    rows = list(compared(one, other).rows())
    assert [x for x, _ in rows if x is not None] == list(range(len(one)))
    assert [y for _, y in rows if y is not None] == list(range(len(other)))
    assert all(x is not None or y is not None for x, y in rows)


@pytest.mark.parametrize(
    ("one", "other", "kinds"),
    [
        ("abcdef", "abXdef", [("same", 2), ("replaced", 1), ("same", 3)]),
        ("abcdef", "abdef", [("same", 2), ("removed", 1), ("same", 3)]),
        ("abdef", "abcdef", [("same", 2), ("added", 0), ("same", 3)]),
        ("abc", "abc", [("same", 3)]),
        ("ab one, two", "ab 1234, 567", [("same", 3), ("replaced", 8)]),  # one comma is no bridge
    ],
)
def test_what_changed_is_named(one, other, kinds):
    spans = compared([*map(ord, one)], [*map(ord, other)]).spans
    assert [(span.kind, span.one_last - span.one_first) for span in spans] == kinds


def test_tokens_of_the_same_text_and_other_ids_differ():
    def run(ids):
        view = RunView(started())
        for index, token_id in enumerate(ids):
            view.append(replace(step(index, " same"), token_id=token_id))
        return view

    assert compare(run([1, 2, 3]), run([1, 9, 3])).parting == 1
    assert compare(run([1, 2]), run([1, 2])).spans == (Span(True, 0, 2, 0, 2),)


@pytest.mark.parametrize("kind", ["unrelated", "nothing in common", "edited", "repeating"])
def test_ten_thousand_tokens_take_a_moment(kind):
    luck, n = random.Random(0), 10_000
    text = [int(luck.paretovariate(0.7)) for _ in range(n)]  # a few tokens are most of a text
    other = {
        "unrelated": [int(luck.paretovariate(0.7)) for _ in range(n)],
        "nothing in common": [-token for token in text],
        "edited": [token if luck.random() < 0.95 else -1 for token in text],
        "repeating": [text[i % 7] for i in range(n)],
    }[kind]
    began = time.process_time()
    comparison = compared(text, other)
    assert time.process_time() - began < 2
    assert applied(comparison, text, other) == other
    if kind == "edited":
        assert sum(span.one_last - span.one_first for span in comparison.spans if span.same) > 0.9 * n


def test_a_difference_deeper_than_it_looks_ahead_is_found_all_the_same():
    luck = random.Random(1)
    text = [luck.randrange(10_000) for _ in range(2000)]
    away = text[:900] + text[900 + 3 * REACH :]
    comparison = compared(text, away)
    assert comparison.parting == 900 and [span.kind for span in comparison.spans] == ["same", "removed", "same"]
