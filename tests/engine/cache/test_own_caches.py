"""Models without a cache, with a state that they hand out, and with one that they keep in their own modules."""

from __future__ import annotations

import copy

import pytest
import tiny
import torch
from decoded import GREEDY
from small import card, endless, tokenizer
from transformers import MiniMaxConfig, OpenAIGPTConfig, RecurrentGemmaConfig, RwkvConfig, xLSTMConfig

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.cache.kv_cache import n_bytes, tensors
from tui_entropy.engine.decoding import loop
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.models.forward import read
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.rewind import Rewinder, recompute_step
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.events import PromptScores
from tui_entropy.records.step import Step

SHAPE = dict(vocab_size=tiny.VOCAB, bos_token_id=1, eos_token_id=2)
CONFIGS = {
    "minimax": MiniMaxConfig(
        **SHAPE, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, num_local_experts=4, max_position_embeddings=128, block_size=8,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
    ),
    "openai gpt": OpenAIGPTConfig(**SHAPE, n_embd=32, n_layer=3, n_head=4, n_positions=128),
    "rwkv": RwkvConfig(**SHAPE, hidden_size=32, num_hidden_layers=3, rescale_every=2, context_length=128),
    "xlstm": xLSTMConfig(
        **SHAPE, hidden_size=64, embedding_dim=64, num_hidden_layers=3, num_blocks=3, num_heads=2, qk_dim_factor=1.0
    ),
    "recurrent gemma": RecurrentGemmaConfig(
        **SHAPE, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1, lru_width=32,
        intermediate_size=96, attention_window_size=16, block_types=["recurrent", "recurrent", "attention"],
    ),
}  # fmt: skip
PROMPT = tiny.prompt(20)[0].tolist()


@pytest.fixture(scope="module", params=CONFIGS)
def loaded(request):
    model = tiny.built(CONFIGS[request.param])
    return endless(Loaded(model, Tokenizer(tokenizer(tiny.VOCAB)), architecture_of(model), card(model)))


def events_of(loaded, instruments, sequence, offsets=lambda: {}):
    return decode(loaded, instruments, sequence, lambda: Controls(GREEDY, offsets()))


def test_what_is_believed_is_what_the_library_generates(loaded, monkeypatch):
    monkeypatch.setattr(loop, "PREFILL_CHUNK", 5)
    with open_instruments(loaded) as instruments:
        events = list(events_of(loaded, instruments, TokenSequence(loaded, PROMPT, 8)))
    steps = [event for event in events if isinstance(event, Step)]
    own = copy.deepcopy(loaded.model).generate(
        torch.tensor([PROMPT]), max_new_tokens=8, do_sample=False, eos_token_id=None,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert [step.token_id for step in steps] == own.sequences[0, len(PROMPT) :].tolist()
    logp = torch.cat(own.logits).log_softmax(-1)
    torch.testing.assert_close(
        torch.tensor([step.entropy for step in steps]), -(logp.exp() * logp).sum(-1), atol=1e-4, rtol=0
    )
    with torch.inference_mode():
        prompt = loaded.model(torch.tensor([PROMPT]), use_cache=False).logits[0].log_softmax(-1)
    scored = torch.cat([torch.tensor(e.scores.numpy())[:, 0] for e in events if isinstance(e, PromptScores)])
    torch.testing.assert_close(scored, -(prompt.exp() * prompt).sum(-1)[:-1], atol=1e-4, rtol=0)


def test_a_step_is_visited_again_to_the_bit_and_another_text_in_between_changes_nothing(loaded):
    with open_instruments(loaded) as instruments:
        sequence, other = TokenSequence(loaded, PROMPT, 8), TokenSequence(loaded, PROMPT[:1], 3)
        rewinder, seen = Rewinder(loaded, instruments, bound=1 << 20), {}
        rewinder.activate(sequence)
        for event in events_of(loaded, instruments, sequence):
            if isinstance(event, Step):
                seen[event.position - 1] = sequence.logits.clone()
            rewinder.checkpoint()
        for position in (len(PROMPT) - 1, len(PROMPT) + 3):
            assert torch.equal(recompute_step(loaded, instruments, sequence, position).logits, seen[position])
        alone = [event.entropy for event in events_of(loaded, instruments, other) if isinstance(event, Step)]
        assert torch.equal(rewinder.recompute_step(sequence, len(PROMPT) + 5).logits, seen[len(PROMPT) + 5])
        fresh = TokenSequence(loaded, PROMPT[:1], 3)
        assert alone == [event.entropy for event in events_of(loaded, instruments, fresh) if isinstance(event, Step)]


def test_a_vector_acts_on_what_is_read_from_then_on_and_on_nothing_before(loaded):
    """Also where all is read again at every step."""
    push = {2: torch.linspace(-1, 1, loaded.architecture.d_model)}  # one that no norm takes away
    now = [{}]
    with open_instruments(loaded) as instruments:
        sequence = TokenSequence(loaded, PROMPT, 6)
        events = events_of(loaded, instruments, sequence, lambda: now[0])
        steps = [event for event in events if isinstance(event, Step) and (len(sequence.written) < 2 or now)]
        plain = [step.entropy for step in steps]
        sequence, after = TokenSequence(loaded, PROMPT, 6), []
        for event in events_of(loaded, instruments, sequence, lambda: now[0]):
            if isinstance(event, Step):
                after.append((event, sequence.logits.clone()))
            if len(after) == 3:
                now[0] = push
    assert [event.entropy for event, _ in after[:3]] == plain[:3] and after[3][0].entropy != plain[3]
    ids = torch.tensor([PROMPT + [event.token_id for event, _ in after]])
    n = len(PROMPT) + 2  # tokens read before it was on
    late = torch.zeros(ids.shape[1], loaded.architecture.d_model)
    late[n:] = push[2]
    hook = loaded.architecture.blocks[1].register_forward_hook(
        lambda block, args, out: (
            out + late[: out.shape[1]]
            if isinstance(out, torch.Tensor)
            else type(out)([out[0] + late[: out[0].shape[1]], *out[1:]])
        )
    )
    with torch.inference_mode():
        wanted = loaded.model(ids[:, :-1], use_cache=False).logits[0]
    hook.remove()
    for event, logits in after:
        torch.testing.assert_close(logits, wanted[event.position - 1], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_the_model_keeps_nothing_of_a_text_in_itself_and_what_is_kept_is_counted(loaded):
    def kept():
        inside = [
            part
            for block in loaded.architecture.blocks
            for module in block.modules()
            for part in vars(module).values()
        ]
        return [part for part in inside if isinstance(part, torch.Tensor)]

    cache = new_cache(loaded.model, loaded.architecture)
    read(loaded.model, cache, torch.tensor([PROMPT]))
    assert not kept()
    held = n_bytes(tensors(cache))
    weights = sum(parameter.nbytes for parameter in loaded.model.parameters())
    assert 0 < held < weights
