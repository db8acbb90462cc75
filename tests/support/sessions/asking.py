"""Questions of probes, and their answers, as tests write them."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer
from tui_entropy.records.probes.attention_rows import ATTENTION_ROWS, AttentionRows, RowOptions
from tui_entropy.records.probes.continuations import CONTINUATIONS, ContinuationOptions, SampledContinuations
from tui_entropy.records.probes.step import STEP
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step


def rows_ask(
    layer: int, head: int | None, last: int, n_queries: int, first_key: int, n_keys: int, run: int = 1
) -> Any:
    """Rows up to that of the query at position `last`."""
    options = RowOptions(layer, head, n_queries, first_key, n_keys)
    return AskProbe(ATTENTION_ROWS, run, last + 1, to_builtins(options), record=False)


def step_ask(run: int, position: int, knobs: Knobs) -> AskProbe:
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in to_builtins(knobs).items()}
    return AskProbe(STEP, run, position, options, record=False)


def fan_ask(run: int, position: int, n: int = 8, tokens: int = 16, same: Any = "normalised") -> AskProbe:
    return AskProbe(CONTINUATIONS, run, position, to_builtins(ContinuationOptions(n, tokens, same)))


def rows_answer(rows: AttentionRows, run: int = 1) -> ProbeAnswer:
    position = rows.queries[-1] + 1 if rows.queries else 1
    options = {"layer": rows.layer, "head": rows.head}
    panels = () if rows.unavailable else rows.panels
    return ProbeAnswer(ATTENTION_ROWS, run, position, options, panels, rows.unavailable, record=False)


def step_answer(step: Step) -> ProbeAnswer:
    return ProbeAnswer(STEP, step.run, step.position, panels=(step,), record=False)


def fan_answer(sampled: SampledContinuations, run: int, position: int) -> ProbeAnswer:
    options = {"n": len(sampled.rows), "tokens": sampled.tokens, "same": sampled.same}
    return ProbeAnswer(CONTINUATIONS, run, position, options, sampled.panels, seconds=0.1)


def is_rows(command: object) -> bool:
    """Whether a pane asks for its attention rows."""
    return isinstance(command, AskProbe) and command.name == ATTENTION_ROWS


def is_step(command: object) -> bool:
    return isinstance(command, AskProbe) and command.name == STEP
