"""Scores of prompt tokens, taken in slices, against the model's logits taken whole."""

import math

import pytest
import torch
from tiny import FAMILIES, VOCAB, gemma3n, llama, prompt

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.instruments import prompt_scores
from tui_entropy.engine.instruments.prompt_scores import final_residual, scores
from tui_entropy.engine.steering.hooks import steering
from tui_entropy.metrics.registry import SCORES

N = 23


@pytest.fixture(scope="module", params=[*FAMILIES.values(), gemma3n])
def model(request):
    return request.param()


def scored(logits, targets):
    """(n, vocab) logits, (n,) -> (n, len(SCORES)) in double precision, by plain definitions."""
    logp = logits.double().log_softmax(-1)
    of_target = logp[range(len(targets)), targets]
    best = logp.sort(-1, descending=True).values
    entropy = torch.distributions.Categorical(logits=logp).entropy()
    table = {
        "entropy": entropy,
        "varentropy": (logp.exp() * logp**2).sum(-1) - entropy**2,
        "surprisal": torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none"),
        "rank": torch.tensor([1 + sum(row > one).item() for row, one in zip(logp, of_target, strict=True)]),
        "logit_margin": best[:, 0] - best[:, 1],
        "prob_margin": best[:, 0].exp() - best[:, 1].exp(),
        "uniform_kl": math.log(VOCAB) - entropy,
    }
    assert tuple(table) == SCORES
    return torch.stack([column.double() for column in table.values()], -1)


@torch.inference_mode()
def read(model, architecture, ids, stretches):
    """The residual stream at every position, and the whole logits."""
    cache, residual, logits = new_cache(model, architecture), [], []
    for part in ids.split(stretches, 1):
        with final_residual(architecture) as held:
            logits.append(model(input_ids=part, past_key_values=cache, use_cache=True).logits[0])
        residual.append(held.residual)
    return torch.cat(residual), torch.cat(logits)


@pytest.mark.parametrize("rows", [1, 5, 1000])
@torch.inference_mode()
def test_scores_in_slices_are_those_of_the_whole_logits(model, rows, monkeypatch):
    monkeypatch.setattr(prompt_scores, "SLICE_BYTES", rows * VOCAB * 4)
    monkeypatch.setattr(prompt_scores, "CACHED_BYTES", 2 * VOCAB * 4)
    architecture, ids = architecture_of(model), prompt(N)
    residual, logits = read(model, architecture, ids, [N - 5, 4, 1])
    found = scores(model, architecture, residual[:-1], ids[0, 1:])
    assert found.shape == (N - 1, len(SCORES)) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), scored(logits[:-1], ids[0, 1:]), atol=2e-5, rtol=2e-5)


@torch.inference_mode()
def test_no_more_logits_than_a_slice_are_ever_made(monkeypatch):
    monkeypatch.setattr(prompt_scores, "SLICE_BYTES", 6 * VOCAB * 4 + 100)
    model, ids = llama(), prompt(20)
    architecture, made = architecture_of(model), []
    residual, _ = read(model, architecture, ids, [20])
    hook = architecture.unembedding.register_forward_hook(lambda module, args, logits: made.append(logits.shape))
    scores(model, architecture, residual, ids[0])
    hook.remove()
    assert made == [(1, 5, VOCAB)] * 4


@torch.inference_mode()
def test_a_slice_has_a_row_even_where_one_is_too_large(monkeypatch):
    monkeypatch.setattr(prompt_scores, "SLICE_BYTES", 1)
    monkeypatch.setattr(prompt_scores, "CACHED_BYTES", 1)
    model, ids = llama(), prompt(3)
    residual, _ = read(model, architecture_of(model), ids, [3])
    assert scores(model, architecture_of(model), residual, ids[0]).shape == (3, len(SCORES))


@torch.inference_mode()
def test_what_is_held_is_steered_and_the_hook_is_gone_afterwards():
    model = llama()
    architecture = architecture_of(model)
    with final_residual(architecture) as held, steering(architecture) as steer:
        model(input_ids=prompt(5))
        before = held.residual
        steer.set({architecture.n_layers: torch.full((architecture.d_model,), 3.0)})
        model(input_ids=prompt(5))
    torch.testing.assert_close(held.residual, before + 3)
    assert before.shape == (5, architecture.d_model)
    assert not architecture.final_norm._forward_pre_hooks
