"""The chain against transformers' own warpers and `generate`; the draw against the distribution it draws from."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from tui_entropy.engine.sampling import Chained, apply, draw, gumbel
from tui_entropy.errors import UserError
from tui_entropy.knobs import check
from tui_entropy.records import ORDERS, Knobs

OFF = Knobs(temperature=1.0, top_k=0, top_p=1.0)
CLASSES: dict[str, Any] = {
    "repetition_penalty": RepetitionPenaltyLogitsProcessor,
    "temperature": TemperatureLogitsWarper,
    "top_k": TopKLogitsWarper,
    "top_p": TopPLogitsWarper,
    "min_p": MinPLogitsWarper,
    "typical_p": TypicalLogitsWarper,
}


def row(seed: int, vocab: int = 500, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * scale


def alive(scores: torch.Tensor) -> set[int]:
    return set((scores > -torch.inf).nonzero().squeeze(1).tolist())


def counts(chained: Chained) -> dict[str, int]:
    return {stage: int(left) for stage, left in chained.survivors}


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
    chained = apply(knobs, logits, prompt, written)
    expected = as_transformers(knobs, logits, prompt + written)
    if rounded:  # where an edge falls among equal scores, which of them survive is up to the sort
        chained_scores, expected = chained.scores.sort().values, expected.sort().values
    else:
        chained_scores = chained.scores
    assert alive(chained_scores) == alive(expected)
    torch.testing.assert_close(chained_scores, expected)


@pytest.mark.parametrize(("top_p", "left"), [(0.5, 1), (0.8, 2), (0.81, 3)])
def test_top_p_by_hand(top_p: float, left: int) -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert counts(apply(replace(OFF, top_p=top_p), logits, [], [])) == {"top_p": left}


def test_the_order_of_stages_matters_and_is_obeyed() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    knobs = replace(OFF, temperature=3.0, top_p=0.75)
    survivors = [counts(apply(replace(knobs, order=ORDERS[name]), logits, [], [])) for name in ("hf", "llama.cpp")]
    assert survivors == [{"temperature": 4, "top_p": 3}, {"top_p": 2, "temperature": 2}]
    assert [list(one) for one in survivors] == [["temperature", "top_p"], ["top_p", "temperature"]]


def test_a_stage_that_is_off_does_not_appear_and_the_logits_pass_unchanged() -> None:
    logits = row(1)
    chained = apply(OFF, logits, [1, 2], [3])
    assert chained.survivors == ()
    assert torch.equal(chained.scores, logits)
    assert chained.cut(torch.tensor([0, 1])).tolist() == [-1, -1]


def test_cut_names_the_stage_that_removed_each_token() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    logits = torch.cat([logits, torch.tensor([-torch.inf])])
    chained = apply(replace(OFF, top_k=3, top_p=0.6), logits, [], [])
    assert [stage for stage, _ in chained.survivors] == ["top_k", "top_p"]
    assert chained.cut(torch.tensor([0, 1, 2, 3, 4])).tolist() == [-1, -1, 1, 0, -1]
    assert chained.cut(torch.tensor([3, 0])).tolist() == [0, -1]


def test_frequency_and_presence_look_at_written_tokens_only() -> None:
    logits = torch.zeros(6)
    chained = apply(replace(OFF, frequency_penalty=0.5, presence_penalty=0.25), logits, [0, 0, 1], [1, 2, 2, 2])
    assert chained.scores.tolist() == pytest.approx([0, -0.75, -1.75, 0, 0, 0])
    assert counts(chained) == {"frequency_penalty": 6, "presence_penalty": 6}


def test_repetition_looks_at_prompt_and_written_tokens_once_each() -> None:
    chained = apply(replace(OFF, repetition_penalty=2.0), torch.tensor([4.0, -4.0, 4.0, 4.0]), [0, 0], [1, 1])
    assert chained.scores.tolist() == [2.0, -8.0, 4.0, 4.0]


def test_top_n_sigma_keeps_what_is_near_the_best_among_what_is_left() -> None:
    logits = torch.tensor([10.0, 9.0, 0.0, 0.0, 0.0, -torch.inf])
    sigma = logits[:5].std(correction=0).item()
    assert 1 / sigma < 0.5 < 10 / sigma
    assert alive(apply(replace(OFF, top_n_sigma=0.5), logits, [], []).scores) == {0, 1}
    assert alive(apply(replace(OFF, top_n_sigma=10 / sigma + 0.01), logits, [], []).scores) == {0, 1, 2, 3, 4}
    assert alive(apply(replace(OFF, top_n_sigma=1.0, top_k=1), logits, [], []).scores) == {0}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_temperature_zero_is_the_best_score_after_penalties(order: tuple[str, ...]) -> None:
    logits = torch.tensor([5.0, 4.0, 1.0, -3.0])
    knobs = Knobs(temperature=0.0, typical_p=0.1, repetition_penalty=2.0, order=order)
    chained = apply(knobs, logits, [0], [])
    assert counts(chained) == {"repetition_penalty": 4, "temperature": 1}
    assert alive(chained.scores) == {1}
    assert all(draw(chained.scores, seed, 0).item() == 1 for seed in range(20))


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
        written.append(int(draw(apply(knobs, logits, prompt, written).scores, 7, len(prompt) + len(written))))
    expected = llama.generate(
        torch.tensor([prompt]), do_sample=False, repetition_penalty=1.4, max_new_tokens=24, use_cache=False
    )
    assert written == expected[0, len(prompt) :].tolist()


# --- The draw ------------------------------------------------------------------------------------------------------


def test_draws_follow_the_final_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0, -torch.inf])
    scores = apply(replace(OFF, temperature=1.5), logits, [], []).scores
    for seed in (0, 7, -1):
        drawn = torch.stack([draw(scores, seed, position) for position in range(6000)]).bincount(minlength=6)
        assert drawn[5] == 0
        expected = scores.softmax(-1)[:5] * 6000
        assert scipy.stats.chisquare(drawn[:5].double(), expected.double(), sum_check=False).pvalue > 1e-3


def test_noise_is_gumbel_and_independent_of_its_neighbours() -> None:
    ids = torch.arange(200_000)
    noise = gumbel(ids, 7, 3)
    assert torch.isfinite(noise).all()
    assert scipy.stats.kstest(noise.numpy(), "gumbel_r").pvalue > 1e-3
    others = (noise.roll(1), gumbel(ids, 7, 4), gumbel(ids, 8, 3))
    for other in others:
        assert abs(torch.corrcoef(torch.stack([noise, other]))[0, 1].item()) < 0.01
    first = torch.stack([gumbel(torch.tensor([11]), 7, position) for position in range(20_000)]).squeeze(1)
    assert scipy.stats.kstest(first.numpy(), "gumbel_r").pvalue > 1e-3


@given(
    st.sets(st.integers(0, 262_143), min_size=1, max_size=70), st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**6)
)
def test_a_token_has_the_same_luck_whatever_else_survived(ids: set[int], seed: int, position: int) -> None:
    together = gumbel(torch.tensor(sorted(ids)), seed, position)
    alone = torch.cat([gumbel(torch.tensor([token_id]), seed, position) for token_id in sorted(ids)])
    assert torch.equal(together, alone)


def test_a_draw_is_a_function_of_seed_and_position_and_leaves_torch_alone() -> None:
    scores = row(2)
    before = torch.get_rng_state()
    drawn = {(seed, at): int(draw(scores, seed, at)) for seed, at in itertools.product((1, 2), range(50))}
    assert {key: int(draw(scores, *key)) for key in drawn} == drawn
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(drawn.values())) > 20


def test_only_what_could_win_is_given_noise_and_the_winner_is_the_same() -> None:
    ids = torch.arange(500)
    for at in range(200):
        scores = row(at, scale=20.0)
        assert int(draw(scores, 7, at)) == int((scores + gumbel(ids, 7, at)).argmax())


def test_truncation_changes_a_draw_only_where_it_removed_it() -> None:
    logits = row(3, scale=1.0)
    cut = apply(replace(OFF, top_k=100), logits, [], []).scores
    pairs = [(int(draw(logits, 7, at)), int(draw(cut, 7, at))) for at in range(300)]
    kept = alive(cut)
    assert all(narrow == wide for wide, narrow in pairs if wide in kept)
    assert any(wide not in kept for wide, _ in pairs)


# --- Knobs that can not be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": -0.1}, "temperature is -0.1 but must be between 0 and 100"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1 but must be between 0 and inf; 0 switches it off"),
        ({"top_p": 0.0}, "top_p is 0.0 but must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"min_p": 2.0}, "min_p"),
        ({"typical_p": 0.0}, "typical_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"presence_penalty": float("inf")}, "presence_penalty"),
        ({"n_candidates": 0}, "n_candidates"),
        ({"order": ("temperature", "top_q")}, "'top_q', unknown or twice"),
        ({"order": (*ORDERS["hf"], "top_k")}, "'top_k', unknown or twice"),
        ({"order": ORDERS["hf"][1:]}, "lacks 'repetition_penalty'"),
    ],
)
def test_a_wrong_knob_is_answered_in_a_sentence(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        check(Knobs(**wrong))


@pytest.mark.parametrize("order", [*ORDERS.values(), tuple(reversed(ORDERS["hf"]))])
def test_presets_and_permutations_pass(order: tuple[str, ...]) -> None:
    check(Knobs(order=order, temperature=0.0))
    check(OFF)
