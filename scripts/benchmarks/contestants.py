"""Other ways to look inside a model while it writes: each on a copy of the same weights, and only where installed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from engine import Stopwatch

from tui_entropy.engine.models.loaded import Loaded

Contestant = Callable[[list[int], int], Stopwatch]
"""(prompt ids, new tokens) -> when they came."""


def installed(loaded: Loaded) -> tuple[dict[str, Contestant], list[str]]:
    """Those that can take part, and a sentence for each that cannot."""
    found, missing = {}, []
    for name, package, made in (
        ("TransformerLens run_with_cache", "transformer_lens", transformer_lens),
        ("nnsight, all hidden states saved", "nnsight", nnsight),
    ):
        if find_spec(package) is None:
            missing.append(f"{name}: {package} is not installed")
            continue
        try:
            contestant = made(loaded)
            contestant([1, 2, 3], 2)
        except Exception as error:  # of whatever version of somebody else's package
            missing.append(f"{name}: it fails here ({type(error).__name__}: {str(error)[:80]})")
        else:
            found[name] = contestant
    return found, missing


def transformer_lens(loaded: Loaded) -> Contestant:
    """Every activation of every step. It keeps no keys and values between calls, so the whole text is read each time,
    as its guides do."""
    from transformer_lens.model_bridge import TransformerBridge

    own = copy.deepcopy(loaded.model)
    own.set_attn_implementation("eager")
    bridge: Any = TransformerBridge.boot_transformers(
        own.name_or_path, hf_model=own, tokenizer=loaded.tokenizer.hf_tokenizer
    )

    @torch.inference_mode()
    def write(ids: list[int], new_tokens: int) -> Stopwatch:
        tokens = torch.tensor([ids], device=own.device)
        watch = Stopwatch()
        for _ in range(new_tokens):
            logits, _ = bridge.run_with_cache(tokens)
            newest = logits[0, -1].argmax()
            tokens = torch.cat([tokens, newest.view(1, 1)], 1)
            watch.token(int(newest))
        return watch

    return write


def nnsight(loaded: Loaded) -> Contestant:
    """The output of every block at every step, and the logits."""
    import warnings

    from nnsight import LanguageModel

    warnings.filterwarnings("ignore", module="nnsight")
    own = copy.deepcopy(loaded.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lens: Any = LanguageModel(own, tokenizer=loaded.tokenizer.hf_tokenizer)
    n_layers = loaded.architecture.n_layers

    def write(ids: list[int], new_tokens: int) -> Stopwatch:
        watch = Stopwatch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with lens.generate(torch.tensor([ids]), max_new_tokens=new_tokens, do_sample=False) as tracer:
                hidden = list().save()
                with tracer.iter[:new_tokens]:
                    for layer in range(n_layers):
                        hidden.append(lens.model.layers[layer].output)
                    hidden.append(lens.lm_head.output)
                written = tracer.result.save()
        for token in written[0, len(ids) :].tolist():
            watch.token(token)
        watch.times[1:] = [time.perf_counter()] * (len(watch.times) - 1)
        return watch

    return write


def repeng(loaded: Loaded, offsets: dict[int, torch.Tensor]) -> Contestant:
    """`generate` under its ControlModel. pushes: block (1-based) -> (d_model,)."""
    from engine import generate
    from repeng import ControlModel, ControlVector

    own = replace(loaded, model=copy.deepcopy(loaded.model))
    controlled = ControlModel(own.model, [block - 1 for block in offsets])
    directions = {block - 1: push.numpy() for block, push in offsets.items()}
    controlled.set_control(ControlVector(model_type=own.model.config.model_type, directions=directions), 1.0)

    def write(ids: list[int], new_tokens: int) -> Stopwatch:
        return generate(own, ids, new_tokens)

    return write
