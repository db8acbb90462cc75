"""Tokens per second: the loop against plain `generate` and other tools, under vectors, and against the memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from engine import (
    GREEDY,
    Stopwatch,
    bare,
    finished,
    generate,
    generate_keeping_everything,
    loaded_model,
    ours,
    prompt_ids,
)
from figures import Figure, Settings, in_turns, ratio, spread
from options import everything

from tui_entropy.engine.models.loaded import Loaded

NEW_TOKENS = 128
GOALS = {32: ">= 1.00", 1024: ">= 0.97", 4096: ">= 0.97"}
"""Of the default metrics on a CPU, tokens per second against plain generate."""
CUDA_GOAL = ">= 2.5"
"""The same of a model under a billion parameters on a GPU."""


def decoding(settings: Settings) -> Iterator[Figure]:
    """Tokens per second with no metrics, the default ones and all at once, and the share of what the memory gives."""
    loaded, new_tokens = loaded_model(settings), 24 if settings.quick else NEW_TOKENS
    text = loaded.tokenizer.hf_tokenizer.decode(prompt_ids(loaded, 12))
    detail = f"{loaded.card.device} {loaded.card.dtype}; prompts of English: {text} ..."
    yield Figure("threads of torch", torch.get_num_threads(), "", "", detail)
    paces = memory_paces(loaded.model.device)
    for name, pace in paces.items():
        yield Figure(f"memory, a large tensor {name}", pace / 1e9, "GB/s", "")
    for length in (32, 1024) if settings.quick else GOALS:
        calls = contestants(loaded, length, settings.quick)
        ids = prompt_ids(loaded, length)
        for call in calls.values():
            call(loaded, ids, 2)  # whoever reads a long prompt first pays for touching the memory
        watches = in_turns(
            {name: partial(call, loaded, ids, new_tokens) for name, call in calls.items()}, settings.rounds
        )
        yield from _compared(loaded, length, watches)
        bound = max(paces.values()) / bytes_per_token(loaded, length + new_tokens // 2)
        shares = {name: statistics.median(watch.writing for watch in each) / bound for name, each in watches.items()}
        detail = f"of {bound:.4g} tok/s; generate {shares['generate']:.3g}, no metrics {shares['none']:.3g}"
        yield Figure(f"fraction of the bound, prompt {length}", shares["default"], "of the bound", "", detail)


def contestants(loaded: Loaded, length: int, quick: bool) -> dict[str, Callable[[Loaded, list[int], int], Stopwatch]]:
    """(model, prompt ids, new tokens) -> when they came. The first ones are ours, named after the metrics."""
    calls: dict[str, Callable[[Loaded, list[int], int], Stopwatch]] = {
        "none": bare,
        "default": ours,
        "everything": partial(ours, now=everything(loaded), score_prompt=True),
        "generate": generate,
    }
    if loaded.model.device.type == "cuda":
        calls[NO_GRAPH] = partial(ours, graph=False)
    if length == 1024 and not quick:
        calls[EAGER] = generate_keeping_everything
    return calls


EAGER = "generate, eager, everything kept"
NO_GRAPH = "default without a graph"


def _compared(loaded: Loaded, length: int, watches: Mapping[str, list[Stopwatch]]) -> Iterator[Figure]:
    """After the first token, and the whole call, in which the reading of the prompt counts too."""
    for name, each in watches.items():
        speeds = [watch.writing for watch in each]
        yield Figure(f"{name}, prompt {length}", statistics.median(speeds), "tok/s", "", spread(speeds, "tok/s"))
    pairs = [("none", "generate", ""), ("default", "generate", goal(loaded, length)), ("everything", "generate", "")]
    pairs += [("default", EAGER, ">= 1.5")] if EAGER in watches else []
    pairs += [("default", NO_GRAPH, "")] if NO_GRAPH in watches else []
    for name, other, wanted in pairs:
        mine, theirs = watches[name], watches[other]
        alike = sum(a == b for a, b in zip(mine[-1].ids, theirs[-1].ids, strict=True))
        said = "another text" if name == "everything" else f"{alike} of {len(mine[-1].ids)} tokens the same"
        for part in ("writing", "overall"):
            ratios = [getattr(a, part) / getattr(b, part) for a, b in zip(mine, theirs, strict=True)]
            label = f"{name} / {other}, prompt {length}, {PARTS[part]}"
            detail = f"{min(ratios):.3g} to {max(ratios):.3g}; {said}"
            yield Figure(label, statistics.median(ratios), "x", wanted if part in JUDGED[other] else "", detail)


PARTS = {"writing": "after the first token", "overall": "whole call"}
JUDGED = {"generate": ("writing", "overall"), EAGER: ("overall",), NO_GRAPH: ()}
"""What a goal is for. What is kept costs generate most where it reads the prompt."""


def goal(loaded: Loaded, length: int) -> str:
    if loaded.model.device.type != "cuda":
        return GOALS[length]
    return CUDA_GOAL if sum(parameter.numel() for parameter in loaded.model.parameters()) < 1e9 else ""


@torch.inference_mode()
def memory_paces(device: torch.device) -> dict[str, float]:
    """Bytes per second through memory where no cache helps, best of several; a copy reads and writes each byte."""
    large = torch.ones(2**28 if device.type == "cuda" else 2**26, device=device)
    other = torch.empty_like(large)
    passes = {"read": (large.sum, large.nbytes), "copied": (partial(other.copy_, large), 2 * large.nbytes)}
    times = in_turns({name: partial(_four_times, act, device) for name, (act, _) in passes.items()}, 5)
    return {name: 4 * n_bytes / min(times[name]) for name, (_, n_bytes) in passes.items()}


def _four_times(act: Callable[[], Any], device: torch.device) -> float:
    """Seconds."""
    began = finished(device)
    for _ in range(4):
        act()
    return finished(device) - began


def bytes_per_token(loaded: Loaded, context: int) -> int:
    """What a decode step of a dense model has to read: every weight but a lookup table's, once, and all keys and
    values."""
    architecture, config = loaded.architecture, loaded.model.config.get_text_config(decoder=True)
    table = architecture.embedding.get_parameter("weight")
    tied = table.data_ptr() == architecture.unembedding.get_parameter("weight").data_ptr()
    weights = sum(parameter.nbytes for parameter in loaded.model.parameters()) - (0 if tied else table.nbytes)
    width = getattr(config, "head_dim", None) or architecture.d_model // architecture.n_heads
    return weights + 2 * architecture.n_layers * architecture.n_kv_heads * width * context * table.element_size()


def others(settings: Settings) -> Iterator[Figure]:
    """The same text by other tools that look inside, prompt 32."""
    from contestants import installed

    loaded, new_tokens = loaded_model(settings), 16 if settings.quick else 48
    found, missing = installed(loaded)
    for sentence in missing:
        yield Figure(f"skipped: {sentence}", float("nan"), "", "")
    ids = prompt_ids(loaded, 32)
    calls = {"ours": partial(ours, loaded, ids, new_tokens)}
    calls |= {name: partial(write, ids, new_tokens) for name, write in found.items()}
    watches = in_turns(calls, settings.rounds)
    speeds = [watch.overall for watch in watches.pop("ours")]
    for name, theirs in watches.items():
        detail = f"ours {spread(speeds, 'tok/s')}, theirs {spread([watch.overall for watch in theirs], 'tok/s')}"
        yield Figure(f"ours / {name}", ratio(speeds, [watch.overall for watch in theirs]), "x", "", detail)


def steering(settings: Settings) -> Iterator[Figure]:
    """What a control vector on every block costs: ours and repeng's, each against itself without."""
    loaded, new_tokens = loaded_model(settings), 24 if settings.quick else 64
    ids = prompt_ids(loaded, 32)
    offsets = {block: torch.full((loaded.card.d_model,), 0.01) for block in range(1, loaded.card.n_layers + 1)}
    calls: dict[str, Any] = {
        "plain": partial(ours, loaded, ids, new_tokens),
        "steered": partial(ours, loaded, ids, new_tokens, replace(GREEDY, offsets=offsets)),
    }
    try:
        from contestants import repeng

        calls |= {
            "generate": partial(generate, loaded, ids, new_tokens),
            "repeng": partial(repeng(loaded, offsets), ids, new_tokens),
        }
    except ImportError as missing:
        yield Figure(f"skipped: repeng ({missing})", float("nan"), "", "")
    speeds = {name: [watch.writing for watch in found] for name, found in in_turns(calls, settings.rounds).items()}
    detail = f"plain {spread(speeds['plain'], 'tok/s')}"
    yield Figure("ours steered / plain", ratio(speeds["steered"], speeds["plain"]), "x", ">= 0.95", detail)
    if "repeng" in speeds:
        detail = f"repeng {spread(speeds['repeng'], 'tok/s')}"
        yield Figure("repeng / generate", ratio(speeds["repeng"], speeds["generate"]), "x", "", detail)
        yield Figure("ours steered / repeng", ratio(speeds["steered"], speeds["repeng"]), "x", "")
