"""A model that cannot be read by parts is found out when it is loaded, and read whole or refused."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import families
import msgspec
import pytest
import tiny
import torch
from small import card, tokenizer
from transformers import PreTrainedModel

from tui_entropy import engine
from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.loading import trial
from tui_entropy.engine.loading.trial import is_plain, verified_architecture
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.tokenization.tokenizer import Tokenizer


@pytest.fixture(autouse=True)
def _folders(own_folders):
    """Nothing is known of any model."""


def loaded(model: PreTrainedModel) -> Loaded:
    return Loaded(model, Tokenizer(tokenizer(tiny.VOCAB)), architecture_of(model), card(model))


def refused(model: PreTrainedModel, *words: str) -> None:
    kind = type(model)
    model.__class__ = type(kind.__name__, (kind,), {"__module__": __name__})  # code of nobody knows whom
    with pytest.raises(UserError) as refusal:
        verified_architecture(loaded(model))
    assert all(re.search(word, str(refusal.value)) for word in words), refusal.value


def wrapped(model: PreTrainedModel, **changed) -> PreTrainedModel:
    """Its decoder is called with these in place of what it is given."""
    decoder = model.get_decoder()
    own = decoder.forward
    decoder.forward = lambda *args, **kwargs: own(*args, **kwargs | {k: v(kwargs) for k, v in changed.items()})
    return model


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_reads_on_behind_others_is_read_in_stretches(family):
    found = loaded(tiny.FAMILIES[family]())
    assert verified_architecture(found) == found.architecture and found.architecture.in_stretches


@pytest.mark.parametrize("family", ["jamba", "zamba"])
def test_a_scan_that_begins_from_nothing_is_read_whole(family):
    assert not verified_architecture(loaded(families.built(family))).in_stretches


def test_plain_attention_by_the_library_s_own_code_is_not_tried(monkeypatch):
    plain = ("llama", "qwen3", "mistral", "gpt2", "gemma3_text", "gpt_oss")
    odd = ("bamba", "lfm2", "llama4_text", "gemma4_text", "gemma3n_text", "falcon", "bert", "rwkv", "deepseek_v32")
    assert [is_plain(loaded(families.built(family))) for family in (*plain, *odd)] == [True] * 6 + [False] * 9
    monkeypatch.setattr(trial, "_verify_reading", None)
    assert verified_architecture(loaded(tiny.llama())).in_stretches


@pytest.mark.parametrize("family", ["jamba", "bamba"])
def test_a_verdict_is_kept_until_something_it_hangs_on_changes(family, monkeypatch):
    found, judged = loaded(families.built(family)), []
    real = trial._verify_reading
    monkeypatch.setattr(trial, "_verify_reading", lambda found: judged.append(found) or real(found))
    first = verified_architecture(found)
    assert verified_architecture(found) == first and len(judged) == 1
    (kept,) = (trial.path_of("trials", "")).parent.iterdir()
    kept.write_bytes(b"stretches 7\xff")
    assert verified_architecture(found) == first and len(judged) == 2
    monkeypatch.setattr(trial.transformers, "__version__", "99")
    assert verified_architecture(found) == first and len(judged) == 3
    other = replace(found, card=msgspec.structs.replace(found.card, dtype="bfloat16"))
    assert verified_architecture(other) == first and len(judged) == 4


def test_a_verdict_hangs_on_every_file_of_the_engine():
    about = [*trial._about(loaded(families.built("bamba")))]
    files = [path for path in Path(engine.__file__).parent.rglob("*.py")]
    assert len(files) > 50 and {str(path.stat().st_mtime_ns) for path in files} <= {*map(str, about)}


def test_blocks_whose_rows_are_not_those_of_eager_attention_show_none():
    found = loaded(families.built("bamba"))
    assert verified_architecture(found).attention == (False, True, False, True)
    own = found.architecture.attention_modules[3].forward

    def other(*args, **kwargs):
        """It tells weights that are none of those it uses."""
        output, weights = own(*args, **kwargs)
        return output, weights if weights is None else weights.square()

    found.architecture.attention_modules[3].forward = other
    found.model.config.pad_token_id = 5  # another model
    wrong = verified_architecture(found)
    assert wrong.attention == (False, True, False, False) and wrong.in_stretches


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
    assert verified_architecture(loaded(model)).in_stretches
