"""A long text is laid out piece by piece, and no way of getting to a line changes it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_entropy.ui.drawing.paged_layout import MAX_LAID_OUT_PAGES, PAGE_STEPS, PagedLayout
from tui_entropy.ui.drawing.wrap import Flow

words = st.sampled_from([" one", " two", "three", " un", "believ", "able", "", "日", ".\n", "\n"])
TEXTS = {
    "lines": [" word", " and", " more", ".\n"] * 700,
    "one line": [" word"] * 2800,
    "one word": ["abc"] * 2800,
    "nothing but newlines": ["\n"] * 2800,
    "parts of characters": ["", "", "日"] * 900,
}


def laid_out(texts, width=30):
    made = PagedLayout(lambda n: Flow(width, "⏎"), lambda flow, index, text: flow.add(text, index))
    made.update(texts)
    return made


def everything(made):
    positions = made.positions((0, 0), 10**6)
    return ["".join(text for text, _ in made.flow(n).lines[y]) for n, y in positions]


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
def test_every_letter_is_on_one_line_and_every_line_is_full_but_where_a_page_ends(texts):
    made = laid_out(texts)
    lines = everything(made)
    assert "".join(lines) == "".join(texts).replace("\n", "⏎")
    assert made.last == len(texts) // PAGE_STEPS or made.last == len(texts) // PAGE_STEPS - 1
    at_once = Flow(30, "⏎")
    for index, text in enumerate(texts):
        at_once.add(text, index)
    assert len(at_once.lines) <= len(lines) <= len(at_once.lines) + made.last


@settings(max_examples=20)
@given(st.lists(words, min_size=1, max_size=40), st.integers(1, 300))
def test_a_text_that_grows_is_laid_out_as_one_that_is_there(some, stride):
    texts = some * (1500 // len(some))
    grown = laid_out([])
    for n in range(0, len(texts), stride):
        grown.update(texts[:n])
        assert grown.line_of(n - 1) <= grown.end
    grown.update(texts)
    assert everything(grown) == everything(laid_out(texts))


@given(st.integers(0, 2799), st.integers(-200, 200))
def test_moving_down_and_up_again_leads_back_unless_an_end_is_in_the_way(index, by):
    made = laid_out(TEXTS["lines"])
    here = made.line_of(index)
    there = made.moved(here, by)
    assert (0, 0) <= there <= made.end
    if (0, 0) < there < made.end:
        assert made.moved(there, -by) == here
        first, last = sorted((here, there))
        assert made.positions(first, abs(by) + 1)[-1] == last


def test_looking_somewhere_lays_out_what_is_near_and_forgets_what_is_far():
    laid = []
    made = PagedLayout(
        lambda n: Flow(30, "⏎"), lambda flow, index, text: (laid.append(index), flow.add(text, index))[1]
    )
    made.update([" word"] * 100_000)
    for index in (99_999, 50_000, 0):
        laid.clear()
        made.positions(made.moved(made.line_of(index), -10), 20)
        assert 0 < len(laid) < 4 * PAGE_STEPS and min(abs(index - at) for at in laid) == 0
    for index in range(0, 100_000, PAGE_STEPS):
        made.line_of(index)
    assert len(made._flows) <= MAX_LAID_OUT_PAGES
