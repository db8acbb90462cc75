"""Bands of real servers: what is true lies between their ends."""

import math

import pytest
import torch
from asked_sources import GREEDY, advance, source_of, write
from msgspec.structs import replace

from tui_entropy.engine.loading.loader import load
from tui_entropy.records.commands import Write
from tui_entropy.records.events import TEXT_READ, Paused, Started
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer
from tui_entropy.records.probes.continuations import CONTINUATIONS, SampledContinuations

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


TEXT = "The capital of France is Berlin, said Zürich 😀."


def reads(url, tolerance):
    """Nothing is drawn, and what is unlikely has its number too."""
    with source_of(url, n_logprobs=20) as (source, heard):
        source.handle(Write(TEXT, None, False, 1, GREEDY, False, read=True))
        advance(source)
    assert heard.of(Paused)[-1].reason == TEXT_READ and TEXT.endswith(heard.text)
    assert max(step.surprisal for step in heard.steps) > 5
    inside(heard, tolerance)


@pytest.mark.real
def test_a_text_that_is_read_by_llamacpp_against_the_model_here(llamacpp_f32):
    reads(llamacpp_f32.url, 0.03)


@pytest.mark.servers
def test_a_text_that_is_read_by_vllm_against_the_model_here(vllm):
    reads(vllm.url, 1e-3)


@pytest.mark.parametrize(("n", "tokens"), [(6, 4), (12, 2)])
def test_llamacpp_continues_a_text_as_it_writes_it(llamacpp, n, tokens):
    """With its few slots, and with the stream of the text itself in between."""
    with source_of(llamacpp.url) as (source, heard):
        source.handle(Write(PROMPT, None, False, 40, GREEDY))
        while len(heard.steps) < 2:
            source.advance()
        at = len(heard.of(Started)[0].prompt_tokens)
        source.handle(AskProbe(CONTINUATIONS, 1, at, {"n": n, "tokens": tokens}))
        rows = SampledContinuations.of(heard.of(ProbeAnswer)[0]).rows
        advance(source)
    assert len(heard.steps) == 40 and len(rows) == n
    greedy = tuple(step.token_id for step in heard.steps[:tokens])
    nats = sum(step.surprisal for step in heard.steps[:tokens])
    assert {row.token_ids for row in rows} == {greedy}
    assert rows[0].logprob == pytest.approx(-nats, abs=0.1)
