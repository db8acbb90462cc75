"""Going back: a step that is visited again, and texts that take turns in one cache."""

import pytest
import tiny
import torch
from rewind_models import DRAWN, MODELS, PROMPT, numbers, written
from small import card, endless, tokenizer

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.rewind import Rewinder
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.model import ModelSpec


@pytest.fixture(scope="module", params=MODELS)
def loaded(request):
    model = MODELS[request.param]()
    return endless(Loaded(model, Tokenizer(tokenizer(tiny.VOCAB)), architecture_of(model), card(model)))


def keys(sequence):
    return [layer.keys.clone() for layer in sequence.cache.layers if hasattr(layer, "keys")]


def test_a_revisit_sees_to_the_bit_what_was_seen_and_leaves_no_trace(loaded):
    with open_instruments(loaded) as instruments:
        sequence = TokenSequence(loaded, PROMPT, 40)
        rewinder = Rewinder(loaded, instruments, bound=1 << 20)
        rewinder.activate(sequence)
        pass_numbers = written(rewinder, sequence, DRAWN)
        held, before = list(sequence.attention_state.kept), keys(sequence)
        for step in (39, 0, 20, 1, 38, 7):
            seen = rewinder.recompute_step(sequence, sequence.n_prompt - 1 + step)
            assert numbers(instruments, seen) == pass_numbers[step], step
        assert list(sequence.attention_state.kept) == held and sequence.n_read == sequence.n_tokens - 1
        assert all(torch.equal(a, b) for a, b in zip(keys(sequence), before, strict=True))
        assert numbers(instruments, sequence) == pass_numbers[-1]


def test_another_text_in_between_costs_a_copy_and_changes_nothing(loaded):
    with open_instruments(loaded) as instruments:
        rewinder = Rewinder(loaded, instruments, bound=1 << 20)
        one = TokenSequence(loaded, PROMPT, 60)
        rewinder.activate(one)
        first = written(rewinder, one, DRAWN)
        two = one.branch(33, 20)
        rewinder.activate(two)
        assert two.n_read > 0 and one.n_read == 0 and 0 < rewinder.prefix_cache.bytes <= rewinder.prefix_cache.bound
        two.forced = [5]
        other = written(rewinder, two, DRAWN)
        assert other[0] == first[33] and other[1] != first[34]
        how = rewinder.activate(one)
        assert how == "kept" if loaded.architecture.croppable else one.n_pending < 32
        three = one.branch(60, 5)
        rewinder.activate(three)
        straight = TokenSequence(loaded, PROMPT, 65)
        more = written(rewinder, three, DRAWN)
        rewinder.activate(straight)
        assert written(rewinder, straight, DRAWN) == [*first, *more]


@pytest.mark.real
def test_on_the_default_model_it_is_to_the_bit_too():
    found = load(ModelSpec("smollm2"), lambda progress: None)
    with open_instruments(found) as instruments:
        rewinder = Rewinder(found, instruments, bound=1 << 28)
        one = TokenSequence(found, found.tokenizer.encode("Tell me about the sea.", None, chat=True), 10)
        rewinder.activate(one)
        pass_numbers = written(rewinder, one, DRAWN)
        for step in (9, 0, 4):
            assert numbers(instruments, rewinder.recompute_step(one, one.n_prompt - 1 + step)) == pass_numbers[step]
        two = one.branch(4, 3)
        assert rewinder.activate(two) == "kept"
        two.forced = found.tokenizer.encode_continuation(" whale")
        assert written(rewinder, two, DRAWN)[0] == pass_numbers[4]
        assert rewinder.activate(one) == "kept"
        three = one.branch(7, 3)
        rewinder.activate(three)
        assert written(rewinder, three, DRAWN) == pass_numbers[7:]
