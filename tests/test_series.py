"""Series: one number per step, in the unit that its label says."""

import math

import pytest
from msgspec.structs import replace
from scripted import step

from tui_entropy.records import Grid, normalised
from tui_entropy.series import BY_NAME, SERIES


def test_bits_and_nats_are_the_same_information():
    coin = replace(step(0), entropy=math.log(2), varentropy=math.log(2) ** 2)
    assert BY_NAME["entropy"].value(coin, bits=True) == pytest.approx(1.0)
    assert BY_NAME["entropy"].value(coin, bits=False) == pytest.approx(math.log(2))
    assert BY_NAME["varentropy"].value(coin, bits=True) == pytest.approx(1.0)
    assert BY_NAME["varentropy"].unit(bits=True) == "bits²"


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_every_series_reads_a_step_and_says_what_it_means(series):
    value, level = series.value(step(3), bits=True), series.level(series.read(step(3)))
    assert value is not None and math.isfinite(value)
    assert level is not None and 0 <= level <= 1
    assert series.meaning.count(".") >= 2


def test_head_entropy_is_normalised_by_what_each_layer_can_see_and_skips_layers_without_attention():
    grid = Grid.of([[math.log(4), math.log(2)], [math.nan, math.nan]])
    half = replace(step(0), head_entropy=grid, visible_keys=(4, None))
    assert BY_NAME["head entropy"].read(half) == pytest.approx(0.75)
    unknown = replace(half, visible_keys=(1, None))
    assert BY_NAME["head entropy"].read(unknown) is None


def test_normalised_is_unknown_where_one_key_is_visible():
    assert normalised([0.0], 1) == [None]
    assert normalised([math.log(3), math.nan], 3) == [pytest.approx(1.0), None]
