"""Bands of real servers: what is true lies between their ends."""

import math

import pytest
import torch
from asked_sources import GREEDY, source_of, write
from msgspec.structs import replace

from tui_entropy.engine.loading.loader import load
from tui_entropy.records.events import Started
from tui_entropy.records.model import ModelSpec

N = 24
PROMPT = "The capital of France is"
ROUNDING = 0.02
"""Nats by which a float16 KV cache moves an entropy."""


def entropies(heard):
    """Of the model here at each token that was written there, nats, with ln p of that token."""
    prompt = [one.token_id for one in heard.of(Started)[0].prompt_tokens]
    ids = torch.tensor([[*prompt, *(step.token_id for step in heard.steps)]])
    model = load(ModelSpec("smollm2", dtype="float32"), lambda progress: None).model
    with torch.inference_mode():
        logp = torch.log_softmax(model(ids).logits[0, len(prompt) - 1 : -1].float(), -1)
    own = logp.gather(1, ids[0, len(prompt) :, None]).squeeze(1)
    return (-(logp.exp() * logp).sum(-1)).tolist(), own.tolist()


def between(step):
    return step.bounds_of("entropy") or (step.entropy, step.entropy)


def inside(heard, tolerance):
    true, own = entropies(heard)
    assert len(heard.steps) > 8
    for step, entropy, logprob in zip(heard.steps, true, own, strict=True):
        low, high = between(step)
        assert low - ROUNDING <= entropy <= high + ROUNDING
        assert -step.surprisal == pytest.approx(logprob, abs=tolerance)


@pytest.mark.real
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_llamacpp_against_the_model_here(llamacpp_f32, temperature):
    with source_of(llamacpp_f32.url, n_logprobs=20) as (source, heard):
        write(source, PROMPT, N, replace(GREEDY, temperature=temperature, top_k=0, top_p=1.0))
    inside(heard, 0.03)


def test_llamacpp_against_its_own_whole_distribution(llamacpp):
    """The same text, told in two ways: at temperature 0 it is written twice."""
    told = {}
    for k in (5, 20, 49152):
        with source_of(llamacpp.url, n_logprobs=k) as (source, heard):
            write(source, PROMPT, 6)
        told[k] = heard.steps
    for five, twenty, whole in zip(*told.values(), strict=True):
        assert five.token_id == twenty.token_id == whole.token_id
        assert math.isfinite(whole.entropy) and not whole.bounds_of("entropy")
        for step in (five, twenty):
            low, high = between(step)
            assert low - 1e-3 <= whole.entropy <= high + 1e-3
        assert between(five)[0] <= between(twenty)[0] + 1e-3 and between(twenty)[1] <= between(five)[1] + 1e-3


@pytest.mark.servers
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_vllm_against_the_model_here(vllm, temperature):
    with source_of(vllm.url, n_logprobs=20) as (source, heard):
        write(source, PROMPT, N, replace(GREEDY, temperature=temperature, top_k=0, top_p=1.0))
    inside(heard, 1e-3)
