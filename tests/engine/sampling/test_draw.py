"""The draw against the distribution it draws from, and the noise that it is made with."""

from __future__ import annotations

import itertools

import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sampled_rows import OFF, alive, past, row

from tui_entropy.engine.sampling.chain import apply, draw
from tui_entropy.engine.sampling.gumbel import gumbel


def test_draws_follow_the_final_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0, -torch.inf])
    scores = apply(replace(OFF, temperature=1.5), logits, past()).scores
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
    cut = apply(replace(OFF, top_k=100), logits, past()).scores
    pairs = [(int(draw(logits, 7, at)), int(draw(cut, 7, at))) for at in range(300)]
    kept = alive(cut)
    assert all(narrow == wide for wide, narrow in pairs if wide in kept)
    assert any(wide not in kept for wide, _ in pairs)
