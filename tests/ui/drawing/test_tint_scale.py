"""The tint of a text by its own values: half of it has no colour, and one token in twenty the hot one."""

from __future__ import annotations

import math

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspectors import begun, screen_text, settled, up
from made_frames import frame_of

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import Ended
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.views.tint_scale import CEILING_SHARES, FEW, SHARES, TintScale, peak_of, round_up, scale_of

ENTROPY = BY_NAME["entropy"]
HOT = len(SHARES)


def text_of(values: list[float], ended: bool = True):
    log = made.log(0)
    log.run.steps = made.kept(*(made.step(n, entropy=value) for n, value in enumerate(values)))
    if ended:
        log.append(Ended(1, "end of text"))
    return log


@given(st.lists(st.floats(0, 12, width=32), min_size=FEW, max_size=90))
def test_half_of_a_text_has_no_colour_one_in_twenty_is_hot_and_more_is_never_calmer(values):
    scale = scale_of(frame_of(text_of(values)))
    steps = [scale.step(value) for value in values]
    assert steps.count(0) >= len(values) / 2
    assert steps.count(HOT) <= len(values) * 0.05
    in_order = [scale.step(value) for value in sorted(values)]
    assert in_order == sorted(in_order)


def test_without_two_alike_every_step_is_taken_by_its_share():
    values = [n / 10 for n in range(100)]
    scale = scale_of(frame_of(text_of(values)))
    assert [[scale.step(value) for value in values].count(step) for step in range(4)] == [50, 30, 15, 5]


def test_the_colours_of_a_text_that_grows_change_seldom_and_depend_on_nothing_but_its_length():
    log = text_of([], ended=False)
    seen = []
    for n in range(1000):
        log.run.steps.append(made.step(n))
        seen.append(scale_of(frame_of(log)))
    assert len(set(seen)) < 22
    again = text_of([], ended=False)
    for n in range(777):
        again.run.steps.append(made.step(n))
    assert scale_of(frame_of(again)) == seen[776]


def test_a_text_too_short_for_quantiles_is_measured_by_the_ceiling():
    scale = scale_of(frame_of(text_of([9.0] * (FEW - 1))))
    assert scale.cuts == tuple(ENTROPY.ceiling * share for share in CEILING_SHARES) and not scale.of_text


def test_what_is_unknown_has_no_colour():
    scale = TintScale(ENTROPY, (1.0, 2.0, 3.0))
    assert scale.step(None) == scale.step(math.nan) == 0 and not scale.is_hot(None)
    assert [scale.step(value) for value in (1.0, 1.1, -2.5, 3.0, 3.1)] == [0, 1, 2, 2, 3]


@given(st.floats(1e-6, 1e9))
def test_the_end_of_an_axis_is_a_number_a_little_above_the_largest_value(value):
    assert value <= round_up(value) <= value * 1.5001
    assert float(f"{round_up(value):.1e}".partition("e")[0]) in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_an_axis_of_nothing_goes_to_1(value):
    assert round_up(value) == 1.0


def test_the_peak_is_the_first_of_the_largest_and_found_behind_what_was_known():
    log = text_of([1.0, 5.0, 2.0] * 20, ended=False)
    assert peak_of(frame_of(log), ENTROPY) == (1, 5.0)
    log.run.steps.append(made.step(60, entropy=7.0))
    assert peak_of(frame_of(log), ENTROPY) == (60, 7.0)
    assert peak_of(frame_of(made.log(0)), ENTROPY) is None


def test_hot_tokens_have_the_hot_colour_and_the_legend_its_value():
    values = [n / 10 for n in range(1, 101)]
    log = text_of(values)
    frame = frame_of(log, bits=False)
    strips = TokenStream().draw(frame, 200, 40)
    hot = Paint().calm_tint(HOT)
    drawn = [segment.text for strip in strips for segment in strip if segment.style == hot]
    assert (
        drawn[0] == " top 5 % 9.50 nats " and "".join(drawn[1:]).count("word") == 4
    )  # the fifth is under the cursor


async def test_a_key_changes_between_the_place_in_the_text_and_the_value():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        app.take(begun(40))
        await settled(app, pilot)
        assert "top 5 % " in screen_text(app)
        await pilot.press("percent_sign")
        await settled(app, pilot)
        assert "top 5 % " not in screen_text(app) and " 6 bits" in screen_text(app).split("\n")[1]
        await pilot.press("percent_sign")
        await settled(app, pilot)
        assert "top 5 % " in screen_text(app)
