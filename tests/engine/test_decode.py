"""The loop writes what the model says, and every number agrees with an independent way of getting it."""

from collections.abc import Iterator

import pytest
import tiny
import torch
from small import loaded as small_model
from transformers import DynamicCache

from tui_entropy.engine import decode as loop
from tui_entropy.engine.decode import Context, Controls, decode, instruments
from tui_entropy.records import Knobs, Prefilled, Step

GREEDY = Knobs(temperature=0)
PROMPT = tiny.prompt(12)[0].tolist()


def write(loaded, controls=lambda: Controls(GREEDY, {}), n=6, prompt=PROMPT) -> Iterator[Prefilled | Step]:
    with instruments(loaded) as probes:
        yield from decode(loaded, probes, Context(loaded, prompt, n), controls)


def steps(loaded, *args, **kwargs) -> list[Step]:
    return [event for event in write(loaded, *args, **kwargs) if isinstance(event, Step)]


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def loaded(request):
    found = small_model(request.param)
    object.__setattr__(found.codec, "eos_ids", frozenset())  # random weights may say the end token at any time
    return found


@pytest.fixture(scope="module")
def llama():
    found = small_model("llama")
    object.__setattr__(found.codec, "eos_ids", frozenset())
    return found


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
    with_attention = [layer for layer, has in enumerate(loaded.anatomy.attention) if has]
    for step in written:
        at = step.position - 1  # the row that predicts this token
        belief = torch.distributions.Categorical(logits=reference.logits[0, at].float())
        logp = belief.logits
        assert step.entropy == pytest.approx(belief.entropy().item(), abs=1e-4)
        surprisals = -logp
        variance = (belief.probs * (surprisals - belief.entropy()).square()).sum().item()
        assert step.varentropy == pytest.approx(variance, abs=1e-4)
        assert step.surprisal == pytest.approx(-logp[step.token_id].item(), abs=1e-4)
        assert step.rank == 1 + int((logp > logp[step.token_id]).sum()) == 1
        assert [c.logprob for c in step.candidates] == pytest.approx(logp.topk(20).values.tolist(), abs=1e-4)
        for weights, layer in zip(reference.attentions, with_attention, strict=True):
            rows = weights[0, :, at, : at + 1].double()
            rows = rows / rows.sum(-1, keepdim=True)
            expected = torch.special.entr(rows).sum(-1)
            assert list(step.head_entropy.rows()[layer]) == pytest.approx(expected.tolist(), abs=1e-4)
            assert step.visible_keys[layer] == int((rows > 0).any(0).sum())
        for layer, states in enumerate(hidden):
            vector = states[0, at]
            assert step.block_mean[layer] == pytest.approx(vector.mean().item(), abs=1e-4)
            assert step.block_std[layer] == pytest.approx(vector.std(correction=0).item(), abs=1e-4)
            assert step.block_norm[layer] == pytest.approx(vector.norm().item(), rel=1e-4)
    for layer in set(range(loaded.anatomy.n_layers)) - set(with_attention):
        assert all(step.visible_keys[layer] is None for step in written)
        assert all(h != h for step in written for h in step.head_entropy.rows()[layer])


def test_a_prompt_read_in_stretches_gives_the_same_numbers(loaded, monkeypatch):
    whole = steps(loaded)
    monkeypatch.setattr(loop, "PREFILL_CHUNK", 5)
    events = list(write(loaded))
    assert [event.done for event in events if isinstance(event, Prefilled)] == [5, 10, 12]
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
    turned = iter([Knobs(seed=3), Knobs(seed=3), GREEDY, GREEDY])
    written = steps(llama, lambda: Controls(next(turned), {}), n=4)
    assert [dict(step.survivors).get("top_k") for step in written] == [40, 40, None, None]
    assert all(step.final_prob < 1.0 for step in written[:2])
    assert all(step.final_prob == 1.0 and step.rank == 1 for step in written[2:])


def test_the_same_seed_writes_the_same_text_and_another_another(llama):
    def text(seed: int) -> list[int]:
        return [step.token_id for step in steps(llama, lambda: Controls(Knobs(temperature=1.5, seed=seed), {}), n=12)]

    assert text(1) == text(1)
    assert len({tuple(text(seed)) for seed in range(4)}) > 1


def test_a_vector_acts_from_the_next_token_on_and_leaves_nothing_behind(llama):
    plain = steps(llama)
    push = {2: torch.full((32,), 3.0)}
    turned = iter([{}, {}, push, {}, {}, {}])
    steered = steps(llama, lambda: Controls(GREEDY, next(turned)))
    assert [s.entropy for s in steered[:2]] == [s.entropy for s in plain[:2]]
    assert steered[2].block_norm[1] != pytest.approx(plain[2].block_norm[1], rel=1e-3)
    assert steered[2].block_norm[0] == plain[2].block_norm[0]
    assert [s.entropy for s in steps(llama)] == [s.entropy for s in plain]


def test_it_says_why_it_ended():
    found = small_model("llama")

    def reason(n: int, prompt: list[int]) -> str:
        with instruments(found) as probes:
            writing = decode(found, probes, Context(found, prompt, n), lambda: Controls(GREEDY, {}))
            while True:
                try:
                    next(writing)
                except StopIteration as end:
                    return end.value

    first = steps(found, n=1)[0].token_id
    object.__setattr__(found.codec, "eos_ids", frozenset({first}))
    assert reason(5, PROMPT) == "end of text"
    object.__setattr__(found.codec, "eos_ids", frozenset())
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
