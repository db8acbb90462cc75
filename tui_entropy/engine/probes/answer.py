"""The answer of a probe: where it looks, under which options, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from time import perf_counter

import torch
from msgspec import to_builtins
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.engine.models.free_memory import free_bytes
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.probe import GRADIENT, ProbeContext, Unavailable
from tui_entropy.engine.probes.registry import options_of, probe_of
from tui_entropy.engine.session.session import Session
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer


def answer(
    session: Session, ask: AskProbe, progress: Callable[[float, float], None] = lambda done, total: None
) -> ProbeAnswer:
    """Look at a token of a run. The run, its cache and what the instruments know of it stay as they are.

    progress: told how much is done, of how much; whatever it raises ends the probe. Raises UserError for a probe, a
    run, a position or an option that there is not, and where memory is too short.
    """
    probe, run = probe_of(ask.name), session.state.run_of(ask.run)
    options, loaded = options_of(probe, ask.options), session.state.loaded
    n = run.sequence.n_tokens
    if not 1 <= ask.position <= n:
        raise UserError(
            f"run {ask.run} has no token at position {ask.position} that something was read before: take one from 1 "
            f"to {n}"
        )
    _check_memory(loaded, probe.name, probe.memory(loaded.card, ask.position, options))
    began, why = perf_counter(), None
    at = ProbeContext(session.state, session.branches, run, ask.position, progress)
    with nullcontext() if probe.needs == GRADIENT else torch.inference_mode():
        try:
            panels = tuple(probe.compute(at, options))
        except Unavailable as reason:
            panels, why = (), str(reason)
    seconds = perf_counter() - began
    known = to_builtins(options, builtin_types=(Tensor,))
    told = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    return ProbeAnswer(ask.name, ask.run, ask.position, told, panels, why, seconds, ask.record)


def _check_memory(loaded: Loaded, name: str, needed: int) -> None:
    """Raises UserError where a probe would take more than there is: the text that is written would die of it too."""
    free = free_bytes(loaded.model.device)
    if needed > free:
        raise UserError(
            f"{name} would take {needed / 1e9:.1f} GB there and {free / 1e9:.1f} GB are free: ask for less, or "
            "earlier in the text"
        )
