"""Tiny random models with a tokenizer of one token per byte: in memory, or saved as a folder that can be loaded."""

from pathlib import Path

import tiny
import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.model import ModelCard


def tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """Ids 0, 1, 2 are special (pad, begin, end); the rest are bytes, as far as the vocabulary goes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {"<pad>": 0, "<s>": 1, "</s>": 2} | {letter: 3 + i for i, letter in enumerate(alphabet)}
    inner = tokenizers.Tokenizer(models.BPE(vocab={k: v for k, v in ids.items() if v < vocab}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=256
    )


def card(model: PreTrainedModel) -> ModelCard:
    body = architecture_of(model)
    return ModelCard(
        name="tiny",
        revision=None,
        source="",
        note="random weights",
        device="cpu",
        dtype="float32",
        n_layers=body.n_layers,
        n_heads=body.n_heads,
        n_kv_heads=body.n_kv_heads,
        d_model=body.d_model,
        vocab=body.vocab,
        context=body.context,
        layer_kinds=body.layer_kinds,
        windows=body.windows,
        attention=body.attention,
        has_chat_template=False,
        versions={},
    )


def loaded(family: str = "llama") -> Loaded:
    model = tiny.FAMILIES[family]()
    return Loaded(model, Tokenizer(tokenizer(tiny.VOCAB)), architecture_of(model), card(model))


def endless(found: Loaded) -> Loaded:
    """The same, in which no token ends a text: random weights may say the end token at any time."""
    found.tokenizer.eos_ids = frozenset()
    return found


def saved(folder: Path, family: str = "llama") -> Path:
    """A folder as a hub would give it, to be loaded by name."""
    tiny.FAMILIES[family]().save_pretrained(folder)
    tokenizer(tiny.VOCAB).save_pretrained(folder)
    return folder


def saved_with_two_templates(folder: Path) -> Path:
    """The same, with a tokenizer that has two chat templates, `short` and `long`."""
    tiny.FAMILIES["llama"]().save_pretrained(folder)
    named = tokenizer(tiny.VOCAB)
    named.chat_template = {"short": "{{ messages[-1]['content'] }}", "long": "{{ messages[-1]['content'] }}!"}
    named.save_pretrained(folder)
    return folder
