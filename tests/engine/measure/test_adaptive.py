"""Decisions of the adaptive samplers, against numbers worked out by hand from the published rules (bits)."""

import math

import numpy as np
import pytest
from msgspec.structs import replace

from tui_entropy.engine.decoding.entropix_sampler import DRAWS, asks, decide, decision_inputs, draws
from tui_entropy.engine.measure.running_stats import RunningStats
from tui_entropy.metrics.entropix import LN2, WARM_UP
from tui_entropy.records.sampling import Knobs

BASE = Knobs(temperature=0.666, top_k=27, top_p=0.9, min_p=0.03)


def bits(entropy, varentropy, attention=4.0, spread=1.0, agreement=0.1, interaction=2.0):
    return {
        "entropy": entropy * LN2,
        "varentropy": varentropy * LN2**2,
        "attention_entropy": attention * LN2,
        "attention_varentropy": spread * LN2**2,
        "agreement": agreement,
        "interaction": interaction,
    }


def decided(variant, *numbers, may_ask=False, base=BASE, recent=None):
    return decide(with_(base, variant), bits(*numbers), recent or RunningStats(), may_ask)


def with_(knobs, variant):
    return replace(knobs, adaptive=variant)


@pytest.mark.parametrize(
    ("variant", "numbers", "quadrant", "expected"),
    [
        ("S1", (0.05, 0.05), "flowing", {"temperature": 0.0}),
        ("S1", (3.5, 0.05), "asking", {"temperature": min(1.5, 0.666 * (1.3 + 0.2 * 4))}),
        ("S1", (4.0, 6.0), "exploring", {"temperature": 0.666 * (1.2 + 0.3 * 2), "top_k": int(27 * 1.45)}),
        ("S1", (6.0, 6.0), "resampling", {"temperature": 2.0, "top_p": 0.5}),
        (
            "S1",
            (2.0, 1.0),
            "adaptive",
            {
                "temperature": 0.666 * (1 + 0.3 * 3 + 0.2 * 5 - 0.2 * 0.1),
                "top_p": 0.9 * 1.1,
                "top_k": round(27 * (1 + 0.6 - 0.02)),
                "min_p": 0.01,
            },
        ),
        ("S3", (0.5, 0.3, 0.5, 0.2), "flowing", {"temperature": 0.0}),
        ("S3", (1.0, 2.0, 0.5, 0.9), "exploring", {}),
        ("S3", (2.0, 2.0, 2.5, 0.9), "resampling", {"temperature": 0.666 * (0.3 + 0.225), "top_p": 0.5}),
        (
            "S3",
            (1.5, 0.5),
            "adaptive",
            {
                "temperature": 0.666 * math.sqrt((1.2 * 1.5 * LN2 + 2) / (1.5 * LN2)),
                "min_p": 0.03 * 0.9,
            },
        ),
    ],
)
def test_a_decision_changes_the_knobs_as_published(variant, numbers, quadrant, expected):
    decision = decided(variant, *numbers)
    assert decision.quadrant == quadrant
    for name in ("temperature", "top_k", "top_p", "min_p"):
        wanted = expected.get(name, getattr(BASE, name))
        assert getattr(decision.knobs, name) == pytest.approx(wanted), name


def test_it_asks_only_where_it_may():
    assert asks(decided("S1", 3.5, 0.05, may_ask=True))
    assert not asks(decided("S1", 3.5, 0.05, may_ask=False))
    assert not asks(decided("S1", 0.05, 0.05, may_ask=True))
    assert not asks(None)


def test_several_draws_in_the_middle_alone():
    assert draws(decided("S1", 2.0, 1.0)) == DRAWS
    assert draws(decided("S1", 4.0, 6.0)) == 1
    assert draws(None) == 1


def test_a_decision_tells_every_number_and_threshold_it_saw():
    saw = decided("S3", 1.5, 0.5).saw
    assert saw["entropy"] == pytest.approx(1.5 * LN2)
    assert saw["varentropy_high"] == pytest.approx(1.2 * LN2**2)
    assert saw["attention_low"] == pytest.approx(1.0 * LN2)
    assert all(math.isfinite(number) for number in saw.values())


def test_its_own_thresholds_come_from_this_text():
    recent = RunningStats()
    assert decided("own", 2.0, 1.0, recent=recent).quadrant == "warming up"
    assert decided("own", 2.0, 1.0, recent=recent).knobs == with_(BASE, "own")
    for n in range(WARM_UP):
        recent.evaluate(n / WARM_UP, n / WARM_UP, 1.0, 0.5, [1.0])
        recent.commit()
    assert decided("own", 0.1 / LN2, 0.1 / LN2**2, recent=recent).quadrant == "flowing"
    assert decided("own", 0.9 / LN2, 0.1 / LN2**2, recent=recent).quadrant == "asking"
    assert decided("own", 0.1 / LN2, 0.9 / LN2**2, recent=recent).quadrant == "exploring"
    assert decided("own", 0.9 / LN2, 0.9 / LN2**2, recent=recent).quadrant == "resampling"
    assert decided("own", 0.5 / LN2, 0.5 / LN2**2, recent=recent).quadrant == "adaptive"


def test_stages_that_are_off_stay_off():
    decision = decided("S1", 2.0, 1.0, base=Knobs(temperature=1.0, top_k=0, top_p=1.0))
    assert decision.knobs.top_k == 0
    assert decision.knobs.top_p == 1.0


def test_what_is_seen_is_the_last_layer_with_attention():
    heads = np.array([[1.0, 3.0], [2.0, 4.0], [math.nan, math.nan]], dtype=np.float32)
    layers = np.array([[1.0, 0.2, 5.0], [0.5, 0.3, 6.0], [math.nan] * 3], dtype=np.float32)
    numbers = {
        "entropy": np.array([1.5]), "varentropy": np.array([0.5]),
        "head_entropy": heads.reshape(-1), "attention": layers.reshape(-1),
    }  # fmt: skip
    found = decision_inputs(numbers, (10, 12, None))
    assert found == pytest.approx(
        {
            "entropy": 1.5, "varentropy": 0.5, "attention_entropy": 3.0, "attention_varentropy": 0.5,
            "agreement": 2 * 0.3 / 12, "interaction": 6.0,
        }
    )  # fmt: skip
    none = numbers | {"head_entropy": heads.reshape(-1) * math.nan}
    assert decision_inputs(none, (None, None, None)) == {"entropy": 1.5, "varentropy": 0.5}
