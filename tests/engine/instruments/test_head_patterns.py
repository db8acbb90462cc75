"""What each head looks at wherever it is, against sums over the full maps of a plain pass in float64."""

import copy
import math

import numpy as np
import pytest
import torch
from tiny import WINDOW, gemma2, gemma3, gpt_oss, llama
from transformers import DynamicCache

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.instruments.attention import attention_instrument
from tui_entropy.engine.instruments.head_patterns import MIN_COPIES, head_patterns, pattern_shares
from tui_entropy.records.arrays import Grid
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.head_patterns import HEAD_PATTERNS, PATTERNS, HeadPatterns

N = 3 * WINDOW


def repeating(n: int, vocab: int = 11) -> torch.Tensor:
    """(1, n) ids of which most occur more than once."""
    return torch.randint(0, vocab, (1, n), generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def full_maps(model, ids):
    plain = copy.deepcopy(model)
    if model.config.model_type != "gpt_oss":  # whose experts are no products of doubles
        plain = plain.double()
    plain.set_attn_implementation("eager")
    out = plain(input_ids=ids, output_attentions=True)
    return [weights[0].double().numpy() for weights in out.attentions]


def reference(maps, ids, queries):
    """(patterns, heads) of one block, a query and a key at a time."""
    totals, n = np.zeros((5, len(maps))), [0] * 5
    for at in queries:
        row = maps[:, at]
        visible = [key for key in range(at + 1) if row[:, key].any()]
        alike = [key for key in visible if key < at and ids[key] == ids[at]]
        after = [key for key in visible if key > 0 and ids[key - 1] == ids[at]]
        sums = [
            row[:, 0] + 1 - row.sum(-1), row[:, at - 1], row[:, at],
            sum((row[:, key] for key in alike), np.zeros(len(row))),
            sum((row[:, key] for key in after), np.zeros(len(row))),
        ]  # fmt: skip
        for which, counts in enumerate((True, True, True, bool(alike), bool(after))):
            if counts:
                totals[which] += sums[which]
                n[which] += 1
    return np.stack([total / max(count, 1) for total, count in zip(totals, n, strict=True)]), n


@pytest.mark.parametrize("family", [llama, gemma2, gemma3, gpt_oss])
@pytest.mark.parametrize("n_queries", [20, 64])
def test_shares_are_those_of_the_full_maps(family, n_queries):
    model, ids = family(), repeating(N)
    with torch.inference_mode(), attention_instrument(model, architecture_of(model), keep=64) as probe:
        model(input_ids=ids, past_key_values=DynamicCache(), use_cache=True)
        found = head_patterns(probe, ids[0], n_queries)
    assert found is not None
    queries = range(2, N)[-min(n_queries, 64) :]
    for block, maps in enumerate(full_maps(model, ids)):
        expected, n = reference(maps, ids[0].tolist(), queries)
        for which, grid in enumerate(found.shares):
            if n[which] >= (1, 1, 1, MIN_COPIES, MIN_COPIES)[which]:
                np.testing.assert_allclose(grid.row(block)[: len(maps)], expected[which], atol=2e-5)
            else:
                assert all(map(math.isnan, grid.row(block)))


def test_rows_made_by_hand_give_all_of_their_weight_to_one_pattern():
    ids = torch.tensor([5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7])
    positions = list(range(4, 12))
    for which, key_of in enumerate(
        (lambda at: 0, lambda at: at - 1, lambda at: at, lambda at: at - 3, lambda at: at - 2)
    ):
        weights = torch.zeros(1, len(positions), 12)
        for n, at in enumerate(positions):
            weights[0, n, key_of(at)] = 1
        visible = torch.arange(12)[None] <= torch.tensor(positions)[:, None]
        shares = pattern_shares(weights, visible, ids, positions, 0)[:, 0]
        assert shares[which] == 1 and sum(shares[other] > 0.5 for other in range(5)) == 1


def test_no_later_row_counts_and_too_few_rows_say_nothing():
    model, ids = llama(), repeating(N)
    with torch.inference_mode(), attention_instrument(model, architecture_of(model), keep=64) as probe:
        model(input_ids=ids, past_key_values=DynamicCache(), use_cache=True)
        early = head_patterns(probe, ids[0, :25])
        assert head_patterns(probe, ids[0, :10]) is None
    with torch.inference_mode(), attention_instrument(model, architecture_of(model), keep=64) as probe:
        model(input_ids=ids[:, :25], past_key_values=DynamicCache(), use_cache=True)
        alone = head_patterns(probe, ids[0, :25])
    for one, other in zip(early.shares, alone.shares, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)


def test_a_kind_is_the_pattern_that_is_most_above_what_it_must_reach():
    def patterns(*shares: float) -> HeadPatterns:
        return HeadPatterns(tuple(Grid.of(np.array([[share]], dtype=np.float32)) for share in shares))

    assert patterns(0.4, 0.2, 0.1, 0.1, 0.1).kind(1, 1) is None
    pattern, share = patterns(0.55, 0.35, 0.0, 0.0, math.nan).kind(1, 1)
    assert pattern.name == "previous token" and share == pytest.approx(0.35)
    assert patterns(0.0, 0.0, 0.0, 0.1, 0.25).kind(1, 1)[0].name == "induction"
    assert patterns(0.9, 0.0, 0.0, 0.0, 0.0).kind(7, 1) is None  # no such head
    found = patterns(0.9, 0.0, 0.0, 0.0, math.nan)
    assert HeadPatterns.of(ProbeAnswer(HEAD_PATTERNS, 1, 9, panels=found.panels)) == found
    assert len({pattern.mark for pattern in PATTERNS}) == len(PATTERNS)
