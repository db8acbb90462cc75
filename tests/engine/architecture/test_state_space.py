"""Models without attention, whose forward calls its cache by another name and reads several tokens from nothing."""

from __future__ import annotations

import pytest
import tiny
import torch
from decoded import GREEDY
from small import card, endless, tokenizer
from transformers import FalconMambaConfig, Mamba2Config, MambaConfig

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.decoding import loop
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.rewind import recompute_step
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.step import Step

SHAPE = dict(vocab_size=tiny.VOCAB, hidden_size=32, num_hidden_layers=2, state_size=8, bos_token_id=1, eos_token_id=2)
CONFIGS = {
    "mamba": MambaConfig(**SHAPE),
    "falcon mamba": FalconMambaConfig(**SHAPE),
    "mamba 2": Mamba2Config(**SHAPE, num_heads=4, head_dim=16, n_groups=1),
}
PROMPT = tiny.prompt(20)[0].tolist()


@pytest.fixture(scope="module", params=CONFIGS)
def loaded(request):
    model = tiny.built(CONFIGS[request.param])
    return endless(Loaded(model, Tokenizer(tokenizer(tiny.VOCAB)), architecture_of(model), card(model)))


def test_what_is_believed_is_what_one_pass_over_everything_says(loaded, monkeypatch):
    monkeypatch.setattr(loop, "PREFILL_CHUNK", 5)
    with open_instruments(loaded) as instruments:
        sequence = TokenSequence(loaded, PROMPT, 8)
        events = decode(loaded, instruments, sequence, lambda: Controls(GREEDY, {}), score_prompt=False)
        written = [event for event in events if isinstance(event, Step)]
    ids = [*PROMPT, *(step.token_id for step in written)]
    with torch.inference_mode():
        logp = loaded.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    for step in written:
        row = logp[step.position - 1]
        assert step.entropy == pytest.approx(float(-(row.exp() * row).sum()), abs=1e-4)
        assert step.surprisal == pytest.approx(-float(row[step.token_id]), abs=1e-4)


def test_a_step_is_visited_again_to_the_bit(loaded):
    with open_instruments(loaded) as instruments:
        sequence = TokenSequence(loaded, PROMPT, 8)
        seen = {}
        for event in decode(loaded, instruments, sequence, lambda: Controls(GREEDY, {}), score_prompt=False):
            if isinstance(event, Step):
                seen[event.position - 1] = sequence.logits.clone()
        for position in (len(PROMPT) - 1, len(PROMPT) + 3):
            assert torch.equal(recompute_step(loaded, instruments, sequence, position).logits, seen[position])
