"""What torch.compile would make of a decode step: compiled are MLPs and norms, and nobody's attention or hooks."""

from __future__ import annotations

import os
import shutil
import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
import torch._dynamo
from engine import Stopwatch, loaded_model, ours, prompt_ids
from figures import Figure, Settings, in_turns, ratio, spread
from msgspec.structs import replace as replace_card
from torch import nn

from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.records.model import COLUMNS, ROWS

PROMPT, NEW_TOKENS = 32, 32


def compiled(settings: Settings) -> Iterator[Figure]:
    """Steps with compiled parts against steps without, and the time until the first of them has run."""
    reason = "asked for in a short run" if settings.quick else missing()
    if reason:
        yield Figure(f"skipped: compiling ({reason})", float("nan"), "", "")
        return
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1024  # not given up
    warnings.filterwarnings("ignore", module="torch")
    loaded = loaded_model(settings)
    ids = prompt_ids(loaded, PROMPT)
    known = loaded.card.products == COLUMNS
    calls = {"plain": partial(ours, loaded, ids, NEW_TOKENS), "compiled": partial(in_parts, loaded, ids, False)}
    if known:
        calls["compiled, by columns"] = partial(in_parts, loaded, ids, True)
    for name in list(calls)[1:]:
        began = time.perf_counter()
        calls[name]()
        yield Figure(f"{name}: first call", time.perf_counter() - began, "s", "")
    speeds = {name: [watch.writing for watch in found] for name, found in in_turns(calls, settings.rounds).items()}
    yield Figure("plain", statistics.median(speeds["plain"]), "tok/s", "")
    for name in list(calls)[1:]:
        yield Figure(f"{name} / plain", ratio(speeds[name], speeds["plain"]), "x", "", spread(speeds[name], "tok/s"))


def missing() -> str:
    """Why nothing can be compiled here; empty where it can."""
    compilers = [os.environ.get("CXX", ""), "g++", "c++", "clang++"]
    found = any(shutil.which(compiler) for compiler in compilers if compiler)
    return "" if found else "no C++ compiler: install g++, or set CXX to one"


def in_parts(loaded: Loaded, ids: list[int], by_columns: bool) -> Stopwatch:
    """by_columns: whether the products stay as they are outside of what is compiled."""
    products = COLUMNS if by_columns else ROWS
    with compiling(parts(loaded)):
        return ours(replace(loaded, card=replace_card(loaded.card, products=products)), ids, NEW_TOKENS)


def parts(loaded: Loaded) -> list[nn.Module]:
    """Of every block its norms and its MLP."""
    attention = set(loaded.architecture.attention_modules)
    return [part for block in loaded.architecture.blocks for part in block.children() if part not in attention]


_made: dict[nn.Module, object] = {}
"""What a module was compiled to, so that it is compiled once."""


@contextmanager
def compiling(modules: list[nn.Module]) -> Iterator[None]:
    for module in modules:
        if module not in _made:
            module.compile(dynamic=False)
            _made[module] = module._compiled_call_impl
        module._compiled_call_impl = _made[module]
    try:
        yield
    finally:
        for module in modules:
            module._compiled_call_impl = None
