"""Series: one number per step, in the unit that its label says."""

import math

import pytest
from made_steps import lens_rows, with_numbers
from msgspec.structs import replace
from scripted import step

from tui_entropy.metrics.registry import BY_NAME, METRICS, SCORES
from tui_entropy.records.arrays import Grid
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.step import Shadow, normalised


def test_bits_and_nats_are_the_same_information():
    coin = with_numbers(step(0), entropy=math.log(2), varentropy=math.log(2) ** 2)
    assert BY_NAME["entropy"].value(coin, bits=True) == pytest.approx(1.0)
    assert BY_NAME["entropy"].value(coin, bits=False) == pytest.approx(math.log(2))
    assert BY_NAME["varentropy"].value(coin, bits=True) == pytest.approx(1.0)
    assert BY_NAME["varentropy"].unit(bits=True) == "bits²"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_series_reads_a_step_and_says_what_it_means(metric):
    mind = Shadow(0.5, 0.2, 0.1, 1.25, 2.5, 3, 7, b"a", 8, b"b")
    late = replace(step(20), shadow=mind, lens_rows=lens_rows(3))  # past the warm-up
    value, level = metric.value(late, bits=True), metric.level(metric.read(late))
    assert value is not None and math.isfinite(value)
    assert level is not None and 0 <= level <= 1
    assert metric.meaning.count(".") >= 2


def test_head_entropy_is_normalised_by_what_each_layer_can_see_and_skips_layers_without_attention():
    grid = Grid.of([[math.log(4), math.log(2)], [math.nan, math.nan]])
    half = replace(step(0), head_entropy=grid, visible_keys=(4, None))
    assert BY_NAME["head entropy"].read(half) == pytest.approx(0.75)
    unknown = replace(half, visible_keys=(1, None))
    assert BY_NAME["head entropy"].read(unknown) is None


def test_what_the_prompt_has_too_is_named_as_the_engine_names_it():
    assert [metric.prompt for metric in METRICS if metric.prompt] == list(SCORES)


def test_entropix_sums_up_the_last_layer_that_has_attention():
    one = replace(
        step(0),
        head_entropy=Grid.of([[9.0, 9.0], [1.0, 3.0], [math.nan] * 2]),
        attention=Grid.of([[9.0] * 3, [1.0, 0.25, 4.0], [math.nan] * 3]),
        visible_keys=(10, 5, None),
    )
    read = {name: BY_NAME[f"entropix {name}"].read(one) for name in ("attention entropy", "attention varentropy")}
    assert read == {"attention entropy": 2.0, "attention varentropy": 1.0}
    assert BY_NAME["entropix agreement"].read(one) == pytest.approx(2 * 0.25 / 5)
    assert BY_NAME["entropix interaction strength"].read(one) == 4.0
    none = replace(one, head_entropy=Grid.of([[math.nan] * 2] * 3), attention=Grid.of([[math.nan] * 3] * 3))
    for name in ("attention entropy", "attention varentropy", "agreement", "interaction strength"):
        assert BY_NAME[f"entropix {name}"].read(replace(none, visible_keys=(None,) * 3)) is None


def test_negative_numbers_show_their_size():
    assert BY_NAME["entropy z"].level(-1.5) == BY_NAME["entropy z"].level(1.5) == 0.5


def test_normalised_is_unknown_where_one_key_is_visible():
    assert normalised([0.0], 1) == [None]
    assert normalised([math.log(3), math.nan], 3) == [pytest.approx(1.0), None]


def test_a_change_is_that_of_this_lane_from_its_shadow():
    shadowed = replace(
        with_numbers(step(0), entropy=1.0, surprisal=3.0), shadow=Shadow(0.5, 0.2, 0.1, 1.25, 2.5, 3, 7, b"", 8, b"")
    )
    names = ("kl", "entropy change", "surprisal change")
    assert [BY_NAME[name].read(shadowed) for name in names] == [0.5, -0.25, 0.5]
    assert [BY_NAME[name].read(step(0)) for name in names] == [None] * 3


def test_the_commitment_layer_is_the_first_from_which_on_no_layer_says_otherwise():
    def read(*said: int) -> float | None:
        rows = tuple(LensRow(layer, token, b"", 0.5, 1.0, 0.0, 1) for layer, token in enumerate(said))
        return BY_NAME["commitment layer"].read(replace(step(0), lens_rows=rows))

    assert [read(5, 5, 5), read(5, 9, 5), read(9, 5, 5), read(4, 4, 5), read(5)] == [0, 2, 1, 2, 0]
    assert read() is None


def test_the_other_numbers_of_a_lens_leave_out_the_last_layer_which_is_the_model_itself():
    rows = tuple(
        LensRow(layer, 1, b"", 0.5, *both, 1) for layer, both in enumerate([(4.0, 3.0), (2.0, 1.0), (9.0, 0.0)])
    )
    at = replace(step(0), lens_rows=rows)
    assert [BY_NAME[name].read(at) for name in ("lens entropy", "lens kl")] == [3.0, 2.0]
    alone = replace(step(0), lens_rows=rows[-1:])
    assert [BY_NAME[name].read(alone) for name in ("lens entropy", "lens kl")] == [None, None]
