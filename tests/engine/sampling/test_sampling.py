"""The chain against transformers' own warpers and `generate`, and its laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sampled_rows import OFF, alive, counts, left, logits_of, past, row
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from tui_entropy.engine.sampling.chain import apply, chain, draw, draw_of_all, force_token, stages
from tui_entropy.engine.sampling.distribution import ChainResult
from tui_entropy.engine.sampling.gumbel import stream
from tui_entropy.records.knobs import BY_NAME
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.registry import ORDERS, STAGES
from tui_entropy.stages.stage import HUGE

CLASSES: dict[str, Any] = {
    "repetition_penalty": RepetitionPenaltyLogitsProcessor,
    "temperature": TemperatureLogitsWarper,
    "top_k": TopKLogitsWarper,
    "top_p": TopPLogitsWarper,
    "min_p": MinPLogitsWarper,
    "typical_p": TypicalLogitsWarper,
}


def as_transformers(knobs: Knobs, logits: torch.Tensor, context: list[int]) -> torch.Tensor:
    """The reference: transformers' processors one after the other on the whole row."""
    scores = logits[None]
    for stage in knobs.order:
        value = getattr(knobs, stage)
        if value != getattr(OFF, stage):
            scores = CLASSES[stage](value)(torch.tensor([context]), scores)
    return scores[0]


@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.5, 3.0, 10.0]),
    rounded=st.booleans(),
    order=st.sampled_from(sorted(ORDERS)),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.8]),
    top_k=st.sampled_from([0, 1, 40, 10_000]),
    top_p=st.sampled_from([0.1, 0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    typical_p=st.sampled_from([0.2, 0.9, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
)
@settings(max_examples=200, deadline=None)
def test_what_survives_is_what_transformers_leaves(
    seed: int, scale: float, rounded: bool, order: str, **values: Any
) -> None:
    knobs = Knobs(order=ORDERS[order], **values)
    logits = row(seed, scale=scale)
    if rounded:
        logits = logits.round()  # many ties
    prompt, written = [3, 9, 9, 4], [11, 3]
    chained = apply(knobs, logits, past(prompt, written))
    expected = as_transformers(knobs, logits, prompt + written)
    if rounded:  # where an edge falls among equal scores, which of them survive is up to the sort
        chained_scores, expected = chained.scores.sort().values, expected.sort().values
    else:
        chained_scores = chained.scores
    assert alive(chained_scores) == alive(expected)
    torch.testing.assert_close(chained_scores, expected)


@pytest.mark.parametrize(("top_p", "left"), [(0.5, 1), (0.8, 2), (0.81, 3)])
def test_top_p_by_hand(top_p: float, left: int) -> None:
    logits = logits_of(0.5, 0.3, 0.15, 0.05)
    assert counts(apply(replace(OFF, top_p=top_p), logits, past())) == {"top_p": left}


def test_the_order_of_stages_matters_and_is_obeyed() -> None:
    logits = logits_of(0.5, 0.3, 0.15, 0.05)
    knobs = replace(OFF, temperature=3.0, top_p=0.75)
    survivors = [counts(apply(replace(knobs, order=ORDERS[name]), logits, past())) for name in ("hf", "llama.cpp")]
    assert survivors == [{"temperature": 4, "top_p": 3}, {"top_p": 2, "temperature": 2}]
    assert [list(one) for one in survivors] == [["temperature", "top_p"], ["top_p", "temperature"]]


def test_a_stage_that_is_off_does_not_appear_and_the_logits_pass_unchanged() -> None:
    logits = row(1)
    chained = apply(OFF, logits, past([1, 2], [3]))
    assert (
        chained.stages == ()
        and chained.summary().shape == (0, 3)
        and chained.probs(torch.tensor([0])).shape == (0, 1)
    )
    assert torch.equal(chained.scores, logits)
    assert chained.removed_by(torch.tensor([0, 1])).tolist() == [-1, -1]


def test_cut_names_the_stage_that_removed_each_token() -> None:
    logits = logits_of(0.5, 0.3, 0.15, 0.05)
    logits = torch.cat([logits, torch.tensor([-torch.inf])])
    chained = apply(replace(OFF, top_k=3, top_p=0.6), logits, past())
    assert chained.stages == ("top_k", "top_p")
    assert chained.removed_by(torch.tensor([0, 1, 2, 3, 4])).tolist() == [-1, -1, 1, 0, -1]
    assert chained.removed_by(torch.tensor([3, 0])).tolist() == [0, -1]


def test_frequency_and_presence_look_at_written_tokens_only() -> None:
    logits = torch.zeros(6)
    chained = apply(replace(OFF, frequency_penalty=0.5, presence_penalty=0.25), logits, past([0, 0, 1], [1, 2, 2, 2]))
    assert chained.scores.tolist() == pytest.approx([0, -0.75, -1.75, 0, 0, 0])
    assert counts(chained) == {"frequency_penalty": 6, "presence_penalty": 6}


def test_repetition_looks_at_prompt_and_written_tokens_once_each() -> None:
    chained = apply(replace(OFF, repetition_penalty=2.0), torch.tensor([4.0, -4.0, 4.0, 4.0]), past([0, 0], [1, 1]))
    assert chained.scores.tolist() == [2.0, -8.0, 4.0, 4.0]


def test_top_n_sigma_keeps_what_is_near_the_best_among_what_is_left() -> None:
    logits = torch.tensor([10.0, 9.0, 0.0, 0.0, 0.0, -torch.inf])
    sigma = logits[:5].std(correction=0).item()
    assert 1 / sigma < 0.5 < 10 / sigma
    assert alive(apply(replace(OFF, top_n_sigma=0.5), logits, past()).scores) == {0, 1}
    assert alive(apply(replace(OFF, top_n_sigma=10 / sigma + 0.01), logits, past()).scores) == {0, 1, 2, 3, 4}
    assert alive(apply(replace(OFF, top_n_sigma=1.0, top_k=1), logits, past()).scores) == {0}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_temperature_zero_is_the_best_score_after_penalties(order: tuple[str, ...]) -> None:
    logits = torch.tensor([5.0, 4.0, 1.0, -3.0])
    knobs = Knobs(temperature=0.0, typical_p=0.1, repetition_penalty=2.0, order=order)
    chained = apply(knobs, logits, past([0]))
    assert counts(chained) == {"repetition_penalty": 4, "temperature": 1}
    assert alive(chained.scores) == {1}
    assert all(draw(chained.scores, seed, 0).item() == 1 for seed in range(20))


def test_at_temperature_zero_what_truncates_is_passed_over() -> None:
    on = Knobs(
        temperature=0.0, min_p=0.1, typical_p=0.5, top_n_sigma=1.0, repetition_penalty=1.1, dry_multiplier=1.0,
        xtc_probability=1.0, mirostat_tau=3.0, dynatemp_range=0.5,
    )  # fmt: skip
    assert stages(on) == ("repetition_penalty", "dry_multiplier", "temperature")


# --- What the chain tells of itself --------------------------------------------------------------------------------


def test_summary_by_hand() -> None:
    chained = apply(replace(OFF, top_k=3, top_p=0.6), logits_of(0.5, 0.3, 0.15, 0.05), past())
    after_k = np.array([0.5, 0.3, 0.15]) / 0.95
    expected = [
        [3, 0.95, scipy.stats.entropy(after_k)],
        [2, 0.8 / 0.95, scipy.stats.entropy([0.5, 0.3])],
    ]
    np.testing.assert_allclose(chained.summary(), expected, rtol=1e-5)
    np.testing.assert_allclose(
        chained.probs(torch.tensor([3, 1, 2])), [[0, *after_k[1:]], [0, 0.375, 0]], rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(chained.final_logp.exp(), [0.625, 0.375, 0, 0], rtol=1e-5)


def test_one_token_can_be_left_after_all_even_one_that_was_cut() -> None:
    chained = apply(replace(OFF, top_k=2), logits_of(0.5, 0.3, 0.15, 0.05), past())
    for token_id, mass in ((1, 0.375), (torch.tensor(2), 0.0)):
        forced = force_token(chained, "adaptive", token_id)
        assert forced.stages == ("top_k", "adaptive")
        assert forced.summary()[1].tolist() == pytest.approx([1, mass, 0])
        assert alive(forced.scores) == {int(token_id)} and int(draw(forced.scores, 7, 3)) == int(token_id)
        assert forced.probs(torch.tensor([0, int(token_id)]))[1].tolist() == [0, 1]
    assert forced.removed_by(torch.arange(4)).tolist() == [1, 1, -1, 0]
    assert chained.removed_by(torch.arange(4)).tolist() == [-1, -1, 0, 0]


# --- Laws ----------------------------------------------------------------------------------------------------------

ODD_ROWS = {
    "a vocabulary of one": torch.tensor([3.0]),
    "one-hot": torch.tensor([-torch.inf, -2.0, -torch.inf]),
    "equal": torch.zeros(50),
    "huge": torch.tensor([3e38, 1e38, -3e38, 0.0, -torch.inf]),
    "masked by the smallest number": torch.tensor([1.0, 2.0, torch.finfo(torch.float32).min]),
    "infinite": torch.tensor([torch.inf, 0.0, -torch.inf]),
    "usual": row(5),
    "peaked": row(6, scale=30.0),
    "tied": row(7).round(),
}


@st.composite
def any_knobs(draw: st.DrawFn) -> Knobs:
    values: dict[str, Any] = {
        "temperature": st.sampled_from([0.0, 0.001, 0.7, 1.0, 100.0]),
        "top_k": st.sampled_from([0, 1, 3, 40, 10**7]),
        "top_p": st.sampled_from([1e-9, 0.5, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.1, 1.0]),
        "typical_p": st.sampled_from([1e-9, 0.5, 1.0]),
        "top_n_sigma": st.sampled_from([0.0, 0.01, 1.0]),
        "repetition_penalty": st.sampled_from([0.01, 1.0, 1.3, 100.0]),
        "frequency_penalty": st.sampled_from([-100.0, 0.0, 0.5]),
        "presence_penalty": st.sampled_from([0.0, 100.0]),
        "penalty_last_n": st.sampled_from([0, 1, 4]),
        "dynatemp_range": st.sampled_from([0.0, 0.5, 100.0]),
        "dynatemp_exponent": st.sampled_from([0.1, 1.0, 100.0]),
        "dry_multiplier": st.sampled_from([0.0, 1.0, 100.0]),
        "xtc_probability": st.sampled_from([0.0, 1.0]),
        "xtc_threshold": st.sampled_from([0.0, 0.1, 0.5]),
        "mirostat_tau": st.sampled_from([0.0, 0.01, 5.0]),
        "order": st.one_of(st.permutations(ORDERS["hf"]).map(tuple), st.sampled_from(sorted(ORDERS.values()))),
    }
    return Knobs(**draw(st.fixed_dictionaries(values)))


@given(knobs=any_knobs(), name=st.sampled_from(sorted(ODD_ROWS)), mu=st.sampled_from([None, -3.0, 4.0]))
@settings(max_examples=300, deadline=None)
def test_whatever_is_set_something_is_left_and_every_number_is_one(knobs: Knobs, name: str, mu: float | None) -> None:
    logits = ODD_ROWS[name]
    everything = torch.arange(len(logits))
    chained = apply(knobs, logits, past([0] * 5, [0, 0], position=3, mu=mu))
    assert list(chained.stages) == [stage for stage in knobs.order if stage in stages(knobs)]
    summary, probs = chained.summary(), chained.probs(everything)
    assert summary.isfinite().all() and probs.isfinite().all() and not chained.scores.isnan().any()
    survivors, mass, entropy = summary.T
    assert (survivors >= 1).all() and (survivors.diff() <= 0).all()
    assert (mass >= 0).all() and (mass <= 1 + 1e-4).all()
    assert (entropy >= 0).all() and (entropy <= survivors.log() + 1e-4).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(len(probs)), atol=1e-4, rtol=0)
    reference = torch.distributions.Categorical(probs=probs.double(), validate_args=False).entropy()
    torch.testing.assert_close(entropy.double(), reference, atol=1e-3, rtol=0)
    gone = chained.scores.isneginf()
    masked = logits < -HUGE  # by the model, so cut by no stage
    assert torch.equal((chained.removed_by(everything) >= 0) | masked, gone)
    assert not gone[draw(chained.scores, knobs.seed, 3)]


@given(knobs=any_knobs(), name=st.sampled_from(["one-hot", "usual", "peaked", "masked by the smallest number"]))
@settings(max_examples=150, deadline=None, derandomize=True)  # at the edge of a stage rounding decides
def test_where_survivors_are_not_looked_for_the_numbers_are_the_same(knobs: Knobs, name: str) -> None:
    logits = ODD_ROWS[name]
    context, everything = past([0, 1, 2, 0, 1], [0, 2], position=3, mu=4.0), torch.arange(len(logits))
    summaries = []
    for narrows, draws in ((True, draw), (False, lambda scores, *at: draw_of_all(scores, stream(*at)))):
        chained = force_token(chain(stages(knobs), knobs, logits, context, narrows), "adaptive", 1)
        before = ChainResult(chained.stages[:-1], chained.rows[:-1])
        numbers = (before.scores, chained.summary(), chained.probs(everything), before.final_logp)
        summaries.append((*numbers, chained.removed_by(everything), draws(before.scores, 7, 3)))
    torch.testing.assert_close(*summaries, rtol=1e-4, atol=1e-4)


@given(seed=st.integers(0, 10**6), p=st.floats(0.01, 0.99), rounded=st.booleans())
@settings(max_examples=100, deadline=None)
def test_top_p_keeps_the_least_prefix(seed: int, p: float, rounded: bool) -> None:
    logits = row(seed, vocab=60).round() if rounded else row(seed, vocab=60)
    probs = logits.double().softmax(-1)
    kept = sorted(left(replace(OFF, top_p=p), logits))
    assert len(kept) == len(set(kept)) and probs[kept].sum() >= p - 1e-5
    assert probs[kept].sum() - probs[kept].min() < p + 1e-5
    others = sorted(set(range(60)) - set(kept))
    assert not others or probs[others].max() <= probs[kept].min()


@given(seed=st.integers(0, 10**6), temperature=st.sampled_from([0.5, 1.0, 2.0]), top_k=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_top_k_and_min_p_commute_after_the_same_temperature(seed: int, temperature: float, top_k: int) -> None:
    knobs = replace(OFF, temperature=temperature, top_k=top_k, min_p=0.07)
    orders = (("temperature", "top_k", "min_p"), ("temperature", "min_p", "top_k"))
    rest = tuple(stage for stage in ORDERS["hf"] if stage not in orders[0])
    one, other = (apply(replace(knobs, order=order + rest), row(seed, vocab=60), past()) for order in orders)
    torch.testing.assert_close(one.scores, other.scores)


def test_penalties_and_temperature_remove_nothing() -> None:
    for stage in [stage.name for stage in STAGES if stage.rescore]:
        chained = apply(replace(OFF, **{stage: BY_NAME[stage].rungs[-1]}), row(8), past([1, 2, 3, 1, 2], [3]))
        assert chained.summary()[0, :2].tolist() == pytest.approx([500, 1])


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=211, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.5, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@torch.inference_mode()
def test_greedy_writes_what_generate_writes(llama: LlamaForCausalLM) -> None:
    prompt = [5, 17, 42, 8]
    knobs = Knobs(temperature=0.0, repetition_penalty=1.4)
    written: list[int] = []
    for _ in range(24):
        logits = llama(torch.tensor([prompt + written])).logits[0, -1]
        written.append(int(draw(apply(knobs, logits, past(prompt, written)).scores, 7, len(prompt) + len(written))))
    expected = llama.generate(
        torch.tensor([prompt]), do_sample=False, repetition_penalty=1.4, max_new_tokens=24, use_cache=False
    )
    assert written == expected[0, len(prompt) :].tolist()
