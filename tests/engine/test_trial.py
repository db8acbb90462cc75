"""A model that cannot be read by parts is found out when it is loaded, and read whole or refused."""

from __future__ import annotations

import re
from functools import partial

import families
import pytest
import tiny
import torch
from small import card, tokenizer
from transformers import PreTrainedModel

from tui_entropy.engine.anatomy import anatomy_of
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.text import Codec
from tui_entropy.engine.trial import tried
from tui_entropy.errors import UserError


def loaded(model: PreTrainedModel) -> Loaded:
    return Loaded(model, Codec(tokenizer(tiny.VOCAB)), anatomy_of(model), card(model))


def refused(model: PreTrainedModel, *words: str) -> None:
    with pytest.raises(UserError) as refusal:
        tried(loaded(model))
    assert all(re.search(word, str(refusal.value)) for word in words), refusal.value


def wrapped(model: PreTrainedModel, **changed) -> PreTrainedModel:
    """Its decoder is called with these in place of what it is given."""
    decoder = model.get_decoder()
    own = decoder.forward
    decoder.forward = lambda *args, **kwargs: own(*args, **kwargs | {k: v(kwargs) for k, v in changed.items()})
    return model


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_reads_on_behind_others_is_read_in_stretches(family):
    assert tried(loaded(tiny.FAMILIES[family]())).in_stretches


@pytest.mark.parametrize("family", ["jamba", "zamba"])
def test_a_scan_that_begins_from_nothing_is_read_whole(family):
    assert not tried(loaded(families.built(family))).in_stretches


def test_a_model_that_counts_positions_anew_is_refused():
    def anew(given):
        return torch.arange(given["input_ids"].shape[1])[None]

    refused(wrapped(tiny.llama(), position_ids=anew), "LlamaForCausalLM", r"logits \d+ % apart", "not supported")


def test_a_model_that_sees_what_comes_after_is_refused():
    def everything(given):
        past = given["past_key_values"]
        n = given["input_ids"].shape[1]
        return torch.zeros(1, 1, n, n + (past.get_seq_length() if past is not None else 0))

    refused(wrapped(tiny.llama(), attention_mask=everything), "sees those that come after", "causal")


def test_a_model_that_fails_behind_others_is_refused_with_what_it_said():
    model = tiny.llama()

    def failing(own, *args, **kwargs):
        past = kwargs.get("past_key_values")
        if past is not None and past.get_seq_length():
            raise ValueError("only my own cache")
        return own(*args, **kwargs)

    model.forward = partial(failing, model.forward)
    refused(model, "one token behind others", "ValueError: only my own cache")


def test_weights_that_are_no_numbers_are_not_its_business():
    model = tiny.llama()
    model.model.norm.weight.data[:] = float("nan")
    assert tried(loaded(model)).in_stretches
