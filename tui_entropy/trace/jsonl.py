"""Events as JSON lines: one header, the scores of the prompt in stretches, then one object per step; between them
what a person set and was stopped at. A branch of a text that was told already has no header, and goes on from one of
its steps.

The series have the names of the columns of a trace. The unit of a number stands in its name and in the header.
Unknown and infinite are null. What a terminal would obey or hide is escaped, so that a file of them can be looked at
with `cat`.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from tui_entropy.core.escape import plain_json
from tui_entropy.metrics.readers import file_value
from tui_entropy.metrics.registry import ATTENTION_COLUMNS, BLOCK_COLUMNS, BY_NAME, METRICS, SCORE_COLUMNS
from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import (
    BreakpointsChanged,
    Ended,
    Event,
    Labelled,
    Paused,
    PromptScores,
    ShadowChanged,
    Started,
    Switched,
    WatchesChanged,
)
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Cell, Flow, FlowRow, Graph, Heatmap, Panel, Table, Tokens
from tui_entropy.records.step import PERPLEXITY_WINDOW, Shadow, Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.step_codec import bounds_by_column


def line(event: Event, card: ModelCard, log: SessionView) -> bytes:
    """The line for an event that the log has taken in, with its end; empty where nothing is written."""
    match event:
        case Started() if _goes_on(event, log):
            made = branch(event)
        case Started():
            made = header(card, event)
        case Labelled():
            made = msgspec.json.encode({"label": {"run": event.branch, "name": event.name, "starred": event.starred}})
        case Switched():
            made = msgspec.json.encode({"switched": {"run": event.run}})
        case PromptScores():
            made = prompt(event)
        case Step():
            made = step(event)
        case Paused():
            made = msgspec.json.encode({"paused": {"reason": event.reason, "breakpoint": event.breakpoint}})
        case BreakpointsChanged():
            made = msgspec.json.encode({"breakpoints": event.breakpoints})
        case WatchesChanged():
            made = watches(event)
        case ShadowChanged():
            made = changed_shadow(event)
        case ProbeAnswer():
            made = msgspec.json.encode({"probe": probe(event)})
        case Ended():
            made = end(log, event.reason, event.failed)
        case _:
            return b""
    return plain_json(made) + b"\n"


def header(card: ModelCard, started: Started) -> bytes:
    """The first line: {"header": {...}}."""
    return msgspec.json.encode(
        {
            "header": {
                "model": card.name,
                "revision": card.revision,
                "source": card.source,
                "note": card.note,
                "device": card.device,
                "dtype": card.dtype,
                "products": card.products,
                "seed": started.knobs.seed,
                "knobs": started.knobs,
                "vectors": [vector for vector in started.vectors if vector.on],
                "units": UNITS,
                "perplexity_window": PERPLEXITY_WINDOW,
                "n_layers": card.n_layers,
                "n_heads": card.n_heads,
                "layer_kinds": card.layer_kinds,
                "chat": started.chat,
                "system": started.system,
                "prompt": started.prompt,
                "prompt_ids": [token.token_id for token in started.prompt_tokens],
                "versions": card.versions,
            }
        }
    )


def _goes_on(started: Started, log: SessionView) -> bool:
    """Whether it has the prompt of its parent."""
    parent = log.runs.get(started.parent) if started.parent is not None else None
    return parent is not None and parent.started.prompt_tokens == started.prompt_tokens


def branch(started: Started) -> bytes:
    """{"branch": {...}}: the steps behind it are of another run, from step `shared` of its parent on."""
    return msgspec.json.encode(
        {
            "branch": {
                "run": started.run,
                "parent": started.parent,
                "shared": started.shared,
                "how": started.how,
                "twin_of": started.twin_of,
                "seed": started.knobs.seed,
                "knobs": started.knobs,
                "vectors": [vector for vector in started.vectors if vector.on],
            }
        }
    )


def prompt(stretch: PromptScores) -> bytes:
    """{"prompt": {...}}: a list per score, for the prompt's tokens from `first` on. The first of all has none."""
    names = [SCORE_COLUMNS.get(name, name) for name in stretch.names]
    scores = dict(zip(names, _columns(stretch.scores), strict=True))
    return msgspec.json.encode({"prompt": {"first": stretch.first, **scores}})


def watches(changed: WatchesChanged) -> bytes:
    """{"watches": {...}}: the strings that steps from `index` on tell of, in the order in which they do."""
    watched = [
        {"text": one.text, "token_id": one.token_id, "bytes": one.token_bytes.hex(), "n_tokens": one.n_tokens}
        for one in changed.watches
    ]
    return msgspec.json.encode({"watches": {"index": changed.index, "watched": watched}})


def step(record: Step) -> bytes:
    """One line for one written token."""
    return msgspec.json.encode(step_fields(record))


def step_fields(record: Step) -> dict[str, Any]:
    series = {one.column: _finite(file_value(one, one.read(record))) for one in METRICS}
    layers = dict(zip(ATTENTION_COLUMNS, _columns(record.attention), strict=True))
    blocks = dict(zip(BLOCK_COLUMNS, _columns(record.blocks), strict=True))
    return {
        "index": record.index,
        "position": record.position,
        "token_id": record.token_id,
        "text": record.text,
        "bytes": record.token_bytes.hex(),
        **series,
        **({"bounds": bounds_by_column(record)} if record.bounds else {}),
        "final_prob": _finite(record.final_prob),
        "candidates": [
            {
                "id": candidate.token_id,
                "text": candidate.token_bytes.decode("utf-8", "replace"),
                "bytes": candidate.token_bytes.hex(),
                "logprob": _finite(candidate.logprob),
                "final_prob": candidate.final_prob,
                "cut": candidate.cut,
            }
            for candidate in record.candidates
        ],
        "stages": [
            {
                "name": stage.name,
                "survivors": stage.survivors,
                "mass": stage.mass,
                "entropy_nats": stage.entropy,
                "prob": probs[0],
                "candidate_probs": probs[1:],
            }
            for stage, probs in zip(record.stages, record.stage_probs.rows(), strict=True)
        ],
        "watched": [
            {
                "token_id": one.token_id,
                "logprob": _finite(one.logprob),
                "rank": one.rank,
                "logit": _finite(one.logit),
            }
            for one in record.watched
        ],
        **({"lens": [lens_row(row) for row in record.lens_rows]} if record.lens_rows else {}),
        "shadow": None if record.shadow is None else shadow(record.shadow),
        "mirostat_mu_bits": record.mirostat_mu,
        "decision": record.decision,
        "state": record.state,
        "head_entropy_nats": _table(record.head_entropy),
        "head_varentropy_nats2": _table(record.head_varentropy),
        "visible_keys": record.visible_keys,
        **layers,
        **blocks,
        "stray_blocks": record.strays,
        "at_seconds": record.at,
    }


def lens_row(row: LensRow) -> dict[str, Any]:
    """What a layer would have said: its most probable token, and the rank of the written one in it."""
    return {
        "layer": row.layer,
        "id": row.token_id,
        "text": row.token_bytes.decode("utf-8", "replace"),
        "bytes": row.token_bytes.hex(),
        "p": _finite(row.p),
        "entropy_nats": _finite(row.entropy),
        "kl_nats": _finite(row.kl),
        "rank": row.rank or None,
    }


def shadow(thought: Shadow) -> dict[str, Any]:
    """The numbers of another lane for the same tokens. Model but for final_js; nats."""
    return {
        "kl_nats": _finite(thought.kl),
        "js_nats": _finite(thought.js),
        "final_js_nats": _finite(thought.final_js),
        "entropy_nats": _finite(thought.entropy),
        "surprisal_nats": _finite(thought.surprisal),
        "rank": thought.rank,
        "top": {"id": thought.top_id, "bytes": thought.top_bytes.hex()},
        "would": {"id": thought.would_id, "bytes": thought.would_bytes.hex()},
        "candidate_logprobs": [_finite(logprob) for logprob in thought.logprobs],
    }


def changed_shadow(changed: ShadowChanged) -> bytes:
    """{"shadow": {...}}: the lane that steps from `index` on are compared with, null for none."""
    lane = {"index": changed.index, "lane": changed.lane, "how": changed.how, "seconds": changed.seconds}
    return msgspec.json.encode({"shadow": lane})


def probe(answer: ProbeAnswer) -> dict[str, Any]:
    """What a probe answered: its panels as they are, with grids as lists of rows and a step as its line."""
    return {
        "name": answer.name,
        "run": answer.run,
        "position": answer.position,
        "options": answer.options,
        "panels": [panel(one) for one in answer.panels],
        "unavailable": answer.unavailable,
        "seconds": answer.seconds,
    }


def panel(shown: Panel) -> dict[str, Any]:
    """{"kind": "heatmap", ...}: a panel by the names of its fields."""
    if isinstance(shown, Step):
        return {"kind": "step", **step_fields(shown)}
    fields = msgspec.to_builtins(shown, builtin_types=(bytes,))
    fields = {"kind": fields.pop("type"), **fields}
    match shown:
        case Heatmap():
            fields["values"] = _table(shown.values)
            fields["tokens"] = list(map(_cell, shown.tokens))
        case Table():
            fields["rows"] = [list(map(_cell, row)) for row in shown.rows]
        case Graph():
            fields["nodes"] = msgspec.to_builtins(
                [{"label": node.label, "stage": node.stage} for node in shown.nodes]
            )
            fields["edges"] = [[edge.source, edge.target, _finite(edge.weight)] for edge in shown.edges]
        case Flow():
            fields["nodes"] = [
                {
                    "row": node.row,
                    "column": node.column,
                    "share": _finite(node.share),
                    "level": _cell(node.level),
                    "token": _cell(node.token),
                }
                for node in shown.nodes
            ]
            fields["parts"] = [
                {name: _cell(getattr(row, name)) for name in FlowRow.__struct_fields__} for row in shown.parts
            ]
    return fields


def _cell(cell: Cell) -> Any:
    if isinstance(cell, Tokens):
        return {"ids": cell.ids, "text": cell.token_bytes.decode("utf-8", "replace"), "bytes": cell.token_bytes.hex()}
    return _finite(cell) if isinstance(cell, float) else cell


def end(log: SessionView, reason: str, failed: bool = False) -> bytes:
    """The last line: {"end": {...}}, with what is known of prompt and text as wholes."""
    entropies = [entropy for entropy in log.steps.values(BY_NAME["entropy"]) if entropy is not None]
    return msgspec.json.encode(
        {
            "end": {
                "reason": reason,
                "failed": failed,
                "tokens": len(log.steps),
                "prompt_perplexity": _finite(log.prompt_perplexity),
                "perplexity": _finite(log.steps[-1].perplexity if entropies else None),
                "mean_entropy_nats": sum(entropies) / len(entropies) if entropies else None,
                "sum_entropy_nats": sum(entropies),
            }
        }
    )


UNITS = {one.column: one.unit(bits=False) or one.kind for one in METRICS} | {
    "attention_spread_nats2": "nats²",
    "attention_disagreement": "share, total variation",
    "attention_interaction_logits": "logits",
    "block_mean": "number",
    "block_std": "number",
    "block_norm_l2": "L2",
    "head_entropy_nats": "nats",
    "head_varentropy_nats2": "nats²",
    "logprob": "nats, model distribution",
    "final_prob": "probability, final distribution",
    "mirostat_mu_bits": "bits",
    "at_seconds": "s",
    "decision": "nats, nats², logits; knobs as drawn with",
}
"""Of every number of a step."""


def _table(grid: Grid) -> list[list[Any]]:
    return [[_finite(value) for value in row] for row in grid.rows()]


def _columns(grid: Grid) -> list[list[Any]]:
    """Also of no rows, as a model behind a server has no layers to tell of."""
    rows = _table(grid)
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(grid.shape[1])]


def _finite(value: float | None) -> Any:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
