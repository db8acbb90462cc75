"""The loop writes what the model says, and every number agrees with an independent way of getting it."""

import math
from itertools import pairwise

import pytest
import tiny
import torch
from decoded import GREEDY, PROMPT, steps, write
from small import endless
from small import loaded as small_model
from transformers import DynamicCache

from tui_entropy.engine.decoding import entropix_sampler, loop
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.metrics.entropix import THRESHOLDS, Thresholds, quadrant
from tui_entropy.metrics.registry import BY_NAME, SCORES
from tui_entropy.records.events import Prefilled, PromptScores
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import NAMED, Step


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def loaded(request):
    return endless(small_model(request.param))


def eager(model, ids: list[int]):
    """One forward pass over everything, by transformers' own eager attention."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    raw: list[torch.Tensor] = []
    blocks = model.get_decoder().layers if hasattr(model.get_decoder(), "layers") else model.get_decoder().h
    hook = blocks[-1].register_forward_hook(lambda _m, _i, out: raw.append(out if torch.is_tensor(out) else out[0]))
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_attentions=True, output_hidden_states=True, use_cache=False)
    hook.remove()
    model.set_attn_implementation(before)
    return out, [*out.hidden_states[1:-1], raw[0]]


def test_greedy_writes_what_generate_writes(loaded):
    ours = [step.token_id for step in steps(loaded)]
    with torch.no_grad():
        theirs = loaded.model.generate(
            torch.tensor([PROMPT]), max_new_tokens=6, do_sample=False, min_new_tokens=6, use_cache=True
        )
    logits_of_end = loaded.model.config.eos_token_id
    assert ours == theirs[0, len(PROMPT) :].tolist() or logits_of_end in ours


def test_every_number_agrees_with_eager_attention_and_torch_distributions(loaded):
    written = steps(loaded, n=10)
    ids = PROMPT + [step.token_id for step in written]
    reference, hidden = eager(loaded.model, ids)
    with_attention = [layer for layer, has in enumerate(loaded.architecture.attention) if has]
    for step in written:
        at = step.position - 1  # the row that predicts this token
        belief = torch.distributions.Categorical(logits=reference.logits[0, at].float())
        logp = belief.logits
        assert step.entropy == pytest.approx(belief.entropy().item(), abs=1e-4)
        surprisals = -logp
        variance = (belief.probs * (surprisals - belief.entropy()).square()).sum().item()
        assert step.varentropy == pytest.approx(variance, abs=1e-4)
        assert step.surprisal == pytest.approx(-logp[step.token_id].item(), abs=1e-4)
        best, second = logp.topk(2).values.tolist()
        named = dict(zip(NAMED, step.numbers, strict=False))
        assert named["logit_margin"] == pytest.approx(best - second, abs=1e-4)
        assert named["prob_margin"] == pytest.approx(math.exp(best) - math.exp(second), abs=1e-4)
        uniform = torch.full_like(logp, 1 / len(logp)).log()
        to_uniform = torch.nn.functional.kl_div(uniform, logp, reduction="sum", log_target=True).item()
        assert named["uniform_kl"] == pytest.approx(to_uniform, abs=1e-4)
        assert step.rank == 1 + int((logp > logp[step.token_id]).sum()) == 1
        assert [c.logprob for c in step.candidates] == pytest.approx(logp.topk(20).values.tolist(), abs=1e-4)
        for weights, layer in zip(reference.attentions, with_attention, strict=True):
            rows = weights[0, :, at, : at + 1].double()
            rows = rows / rows.sum(-1, keepdim=True)
            expected = torch.special.entr(rows).sum(-1)
            assert list(step.head_entropy.rows()[layer]) == pytest.approx(expected.tolist(), abs=1e-4)
            spread, disagreement, _ = step.attention.rows()[layer]
            assert spread == pytest.approx(expected.var(correction=0).item(), abs=1e-4)
            assert disagreement == pytest.approx((rows - rows.mean(0)).abs().sum(-1).mean().item() / 2, abs=1e-4)
            squares = torch.where(rows > 0, rows * (rows.log() + expected[:, None]).square(), 0).sum(-1)
            assert list(step.head_varentropy.rows()[layer]) == pytest.approx(squares.tolist(), abs=1e-3)
            assert step.visible_keys[layer] == int((rows > 0).any(0).sum())
        for layer, states in enumerate(hidden):
            vector = states[0, at]
            expected = [vector.mean().item(), vector.std(correction=0).item(), vector.norm().item()]
            assert step.blocks.rows()[layer] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    for layer in set(range(loaded.architecture.n_layers)) - set(with_attention):
        assert all(step.visible_keys[layer] is None for step in written)
        assert all(h != h for step in written for h in step.head_entropy.rows()[layer])


def scored(events) -> dict[int, dict[str, float]]:
    """Context position -> the scores of the token of the prompt there."""
    return {
        at: dict(zip(SCORES, row, strict=True))
        for event in events
        if isinstance(event, PromptScores)
        for at, row in enumerate(event.scores.rows(), event.first)
    }


def test_every_token_of_the_prompt_but_the_first_has_the_scores_of_a_written_one(loaded, monkeypatch):
    with torch.no_grad():
        logits = loaded.model(torch.tensor([PROMPT]), use_cache=False).logits[0].float()
    expected = {}
    for at in range(1, len(PROMPT)):
        belief = torch.distributions.Categorical(logits=logits[at - 1])
        best, second = belief.logits.topk(2).values.tolist()
        mean, surprisal = belief.entropy().item(), -belief.logits[PROMPT[at]].item()
        expected[at] = {
            "entropy": mean,
            "varentropy": (belief.probs * (belief.logits + mean).square()).sum().item(),
            "surprisal": surprisal,
            "rank": 1 + int((belief.logits > -surprisal).sum()),
            "logit_margin": best - second,
            "prob_margin": math.exp(best) - math.exp(second),
            "uniform_kl": math.log(len(belief.logits)) - mean,
        }
    for chunk in (512, 5, 1):
        monkeypatch.setattr(loop, "PREFILL_CHUNK", chunk)
        found = scored(write(loaded, n=1))
        assert found.keys() == expected.keys()
        for at, scores in expected.items():
            assert found[at] == pytest.approx(scores, abs=1e-3), (chunk, at)


def test_a_prompt_that_is_not_scored_is_written_on_alike(llama):
    with open_instruments(llama) as instruments:
        sequence = TokenSequence(llama, PROMPT, 4)
        events = list(decode(llama, instruments, sequence, lambda: Controls(GREEDY, {}), score_prompt=False))
    assert not scored(events)
    entropies = [event.entropy for event in events if isinstance(event, Step)]
    assert entropies == [step.entropy for step in steps(llama, n=4)]


def test_a_prompt_read_in_stretches_gives_the_same_numbers(loaded, monkeypatch):
    whole = steps(loaded)
    monkeypatch.setattr(loop, "PREFILL_CHUNK", 5)
    events = list(write(loaded))
    assert [event.done for event in events if isinstance(event, Prefilled)] == [5, 10, 11, 12]
    for a, b in zip(whole, [event for event in events if isinstance(event, Step)], strict=True):
        assert (a.token_id, a.visible_keys) == (b.token_id, b.visible_keys)
        assert a.entropy == pytest.approx(b.entropy, abs=1e-4)
        assert a.head_entropy.numpy() == pytest.approx(b.head_entropy.numpy(), abs=1e-4, nan_ok=True)


def test_the_model_is_left_as_it_was_found(loaded):
    def state():
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in loaded.model.modules()]
        return loaded.model.config._attn_implementation, hooks

    before = state()
    for _ in write(loaded):
        break
    assert state() == before
    with torch.no_grad():
        loaded.model(torch.tensor([PROMPT]), past_key_values=DynamicCache(config=loaded.model.config))


def test_a_knob_counts_from_the_next_token_on(llama):
    settings = iter([Knobs(seed=3)] * 3 + [GREEDY] * 2)  # asked before the prompt is read, too
    written = steps(llama, lambda: Controls(next(settings), {}), n=4)
    left = [{stage.name: stage.survivors for stage in step.stages}.get("top_k") for step in written]
    assert left == [40, 40, None, None]
    assert all(step.final_prob < 1.0 for step in written[:2])
    assert all(step.final_prob == 1.0 and step.rank == 1 for step in written[2:])


def test_stages_tell_what_they_did_to_the_written_token_and_to_each_candidate(llama):
    knobs = Knobs(temperature=1.5, top_k=8, top_p=0.8)
    for step in steps(llama, lambda: Controls(knobs, {})):
        temperature, top_k, top_p = step.stages
        assert [stage.name for stage in step.stages] == ["temperature", "top_k", "top_p"]
        assert (temperature.mass, top_k.survivors) == (pytest.approx(1.0), 8)
        assert temperature.entropy > step.entropy
        assert top_k.entropy <= math.log(8) + 1e-6
        hot, eight, kept = (row[1:] for row in step.stage_probs.rows())
        assert top_k.mass == pytest.approx(sum(hot[:8]), abs=1e-5)
        assert top_p.mass == pytest.approx(sum(p for p, q in zip(eight, kept, strict=True) if q), abs=1e-5)
        assert [c.final_prob for c in step.candidates] == pytest.approx(kept)
        assert [c.cut for c in step.candidates[8:]] == ["top_k"] * 12
        assert step.final_entropy == top_p.entropy
        assert step.stage_probs.rows()[-1][0] == step.final_prob > 0


def test_with_no_stage_on_the_final_distribution_is_the_models(llama):
    for step in steps(llama, lambda: Controls(Knobs(temperature=1.0, top_k=0, top_p=1.0), {})):
        assert step.stages == ()
        assert step.final_entropy == step.entropy
        assert -math.log(step.final_prob) == pytest.approx(step.surprisal, abs=1e-5)
        assert [c.final_prob for c in step.candidates] == pytest.approx(
            [math.exp(c.logprob) for c in step.candidates]
        )


def test_perplexity_runs_along(llama):
    written = steps(llama, lambda: Controls(Knobs(temperature=1.5), {}), n=12)
    total = 0.0
    for n, step in enumerate(written, 1):
        total += step.surprisal
        assert step.perplexity == pytest.approx(math.exp(total / n), rel=1e-5)


def test_mirostat_moves_its_bound_by_how_surprising_the_drawn_token_was(llama):
    knobs = Knobs(temperature=1.0, top_k=0, top_p=1.0, mirostat_tau=3.0, mirostat_eta=0.2)
    on_off = [knobs] * 5 + [GREEDY] + [knobs]
    turned = iter([knobs, *on_off])  # asked before the prompt is read, too
    written = steps(llama, lambda: Controls(next(turned), {}), n=len(on_off))
    assert written[0].mirostat_mu == 6.0
    for before, after in pairwise(written[:5]):
        surprise = -math.log2(before.final_prob)
        assert after.mirostat_mu == pytest.approx(before.mirostat_mu - 0.2 * (surprise - 3.0), abs=1e-4)
    assert written[5].mirostat_mu is None
    assert written[6].mirostat_mu == 6.0


def test_the_adaptive_sampler_decides_at_each_step_by_what_it_sees(llama):
    knobs = Knobs(temperature=1.0, adaptive="S1")
    for step in steps(llama, lambda: Controls(knobs, {}), n=8):
        saw = step.decision.saw
        assert saw["entropy"] == step.entropy
        assert saw["varentropy"] == step.varentropy
        expected = quadrant(THRESHOLDS["S1"], step.entropy, step.varentropy)
        assert step.decision.quadrant == expected != "flowing"  # random weights are sure of nothing
        assert step.decision.knobs.temperature > 1.0
        names = {
            "entropix attention entropy": "attention_entropy",
            "entropix attention varentropy": "attention_varentropy",
            "entropix agreement": "agreement",
            "entropix interaction strength": "interaction",
        }
        for series, name in names.items():
            assert BY_NAME[series].read(step) == pytest.approx(saw[name], abs=1e-4), series
    assert all(step.decision is None for step in steps(llama))


def test_the_clarifier_is_written_where_the_sampler_asks_but_never_twice_in_a_row(llama, monkeypatch):
    low = Thresholds(0.0, 0.0, 0.1, 99.0, 99.0, 99.0)  # every step is one to ask at
    monkeypatch.setitem(entropix_sampler.THRESHOLDS, "S1", low)
    controls = Controls(Knobs(temperature=1.0, adaptive="S1"), {}, clarifier=77)
    written = steps(llama, lambda: controls, n=6)
    asked = [step.token_id == 77 for step in written]
    assert asked[0] and not any(a and b for a, b in pairwise(asked))
    assert asked[2] or asked[3]
    first = written[0]
    assert (first.stages[-1].name, first.stages[-1].survivors, first.final_prob) == ("adaptive", 1, 1.0)
    assert all(c.cut is not None for c in first.candidates if c.token_id != 77)


def test_dry_keeps_a_loop_from_going_on(llama):
    loop_of_three = (PROMPT[:3] * 6)[:16]
    dry = Controls(Knobs(temperature=0, dry_multiplier=50.0, dry_base=2.0, dry_allowed_length=2), {})
    (step,) = steps(llama, lambda: dry, n=1, prompt=loop_of_three)
    (plain,) = steps(llama, n=1, prompt=loop_of_three)
    following = loop_of_three[1]
    assert step.stages[0].name == "dry_multiplier"
    assert step.token_id != following
    assert plain.entropy == step.entropy


def test_the_same_seed_writes_the_same_text_and_another_another(llama):
    def text(seed: int) -> list[int]:
        return [step.token_id for step in steps(llama, lambda: Controls(Knobs(temperature=1.5, seed=seed), {}), n=12)]

    assert text(1) == text(1)
    assert len({tuple(text(seed)) for seed in range(4)}) > 1


def test_a_vector_acts_from_the_next_token_on_and_leaves_nothing_behind(llama):
    plain = steps(llama)
    push = {2: torch.full((32,), 3.0)}
    turned = iter([{}, {}, {}, push, {}, {}, {}])
    steered = steps(llama, lambda: Controls(GREEDY, next(turned)))
    assert [s.entropy for s in steered[:2]] == [s.entropy for s in plain[:2]]
    norms = [[row[2] for row in run[2].blocks.rows()] for run in (steered, plain)]
    assert norms[0][1] != pytest.approx(norms[1][1], rel=1e-3)
    assert norms[0][0] == norms[1][0]
    assert [s.entropy for s in steps(llama)] == [s.entropy for s in plain]


def test_it_says_why_it_ended():
    found = small_model("llama")

    def reason(n: int, prompt: list[int]) -> str:
        with open_instruments(found) as instruments:
            writing = decode(found, instruments, TokenSequence(found, prompt, n), lambda: Controls(GREEDY, {}))
            while True:
                try:
                    next(writing)
                except StopIteration as end:
                    return end.value

    first = steps(found, n=1)[0].token_id
    object.__setattr__(found.tokenizer, "eos_ids", frozenset({first}))
    assert reason(5, PROMPT) == "end of text"
    object.__setattr__(found.tokenizer, "eos_ids", frozenset())
    assert reason(2, PROMPT) == "token limit"
    assert reason(50, tiny.prompt(found.card.context - 3)[0].tolist()) == "context full"


def test_the_clock_counts_work_and_not_the_wait_of_the_caller(llama):
    import time

    written = []
    for event in write(llama, n=4):
        if isinstance(event, Step):
            written.append(event)
            time.sleep(0.2)
    assert written[-1].at - written[0].at < 0.5
    assert all(step.forward_seconds > 0 and step.sample_seconds > 0 for step in written)
