"""One self-contained page: the text tinted by any series, what was nearly written instead, charts, the head grid, and
what probes answered.

Everything that a model or a person wrote goes in as JSON without a '<', made visible by escape.py, and page.html
puts it on the page as text, never as markup. A policy in the page allows its own script alone, and no network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any, BinaryIO

import msgspec

from tui_entropy.core.dates import moment
from tui_entropy.core.escape import visible
from tui_entropy.export.diagrams.sankey import PAGE, drawing
from tui_entropy.export.recorded_run import RunRecord
from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.knobs import KNOBS, is_idle, is_off, shown
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.options import answered_with
from tui_entropy.records.probes.panels import (
    Axis,
    Bars,
    Cell,
    Flow,
    Graph,
    Heatmap,
    Note,
    Panel,
    Table,
    TintedText,
    Tokens,
)
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step, normalised
from tui_entropy.state.run_view import SHORT_NAMES

LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
"""A head is one letter, its share of 0 ... 1 in steps of 1/62: it is only coloured. One that is unknown is _."""

NOT_READ = ""
"""In a heat map, a token that comes after the one of its row."""


def write(record: RunRecord, file: BinaryIO) -> None:
    file.write(page(record).encode("utf-8", "replace"))


def page(record: RunRecord) -> str:
    """All of it, as text."""
    frame = files("tui_entropy.export").joinpath("page.html").read_text(encoding="utf-8")
    script = frame.partition("<script>")[2].partition("</script>")[0]
    parts = {
        "title": html.escape(visible(record.card.name, in_table=True)),
        "script": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "flow": PAGE,
        "data": msgspec.json.encode(_data(record)).decode().replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], frame)


def _data(record: RunRecord) -> dict[str, Any]:
    """The data for the script. Series have a value for every token of prompt and text, null where it is unknown."""
    started, log = record.started, record.log
    names = Names()
    steps = [_step(step, names) for step in log.steps]
    return {
        "model": visible(record.card.name),
        "about": [visible(line) for line in about(record)],
        "bits": record.bits,
        "prompt": len(started.prompt_tokens),
        "heads": record.card.n_heads,
        "levels": LEVELS,
        "tokens": [
            *([visible(token.text), names.of(token.token_bytes), token.token_id] for token in started.prompt_tokens),
            *([visible(step.text), names.of(step.token_bytes), step.token_id] for step in log.steps),
        ],
        "steps": steps,
        "names": list(names),
        "series": [_series(metric, record) for metric in METRICS],
        "marks": [[index + len(started.prompt_tokens), visible(label)] for index, label in record.labels.items()],
        "answers": [_answer(answer, record) for _, answer in sorted(log.run.answers.items())],
    }


class Names(dict[str, int]):
    """Texts that occur again and again -> their place in a list."""

    def of(self, token: bytes) -> int:
        from tui_entropy.ui.drawing.glyphs import visible_bytes

        return self.setdefault(visible_bytes(token), len(self))


def _step(step: Step, names: Names) -> dict[str, Any]:
    """The candidates as [name, model log probability, final probability, cut, id], and each head as a letter."""
    rows = zip(step.head_entropy.rows(), step.visible_keys, strict=True)
    found = {
        "candidates": [
            [
                names.of(one.token_bytes),
                short(one.logprob),
                short(one.final_prob),
                _stage(one.cut or ""),
                one.token_id,
            ]
            for one in step.candidates
        ],
        "final": short(step.final_prob),
        "stages": [[_stage(stage.name), stage.survivors, short(stage.mass)] for stage in step.stages],
        "state": step.state,
        "heads": "".join(_letter(share) for row, keys in rows for share in normalised(row, keys)),
    }
    return found | ({"did": visible(step.decision.action)} if step.decision else {})


def _stage(name: str) -> str:
    return visible(SHORT_NAMES.get(name, name))


def _letter(share: float | None) -> str:
    return "_" if share is None else LEVELS[round(share * (len(LEVELS) - 1))]


def _series(metric: Metric, record: RunRecord) -> dict[str, Any]:
    log = record.log
    scores = log.prompt_scores.get(metric.prompt, [None] * len(record.started.prompt_tokens))
    return {
        "name": metric.name,
        "of": metric.distribution,
        "units": [metric.unit(bits=False), metric.unit(bits=True)],
        "bit": metric.ceiling / metric.top(bits=True),
        "ceiling": metric.ceiling,
        "meaning": metric.meaning,
        "values": [short(value) for values in (scores, log.steps.values(metric)) for value in values],
    }


def _answer(answer: ProbeAnswer, record: RunRecord) -> dict[str, Any]:
    """The answer of a probe, whatever it was asked."""
    from tui_entropy.ui.views.wording import token_at

    def token(position: int) -> str:
        return token_at(record.log, position, ascii_only=False)

    return {
        "name": visible(answer.name, in_table=True),
        "position": answer.position,
        "token": token(answer.position),
        "options": visible(answered_with(answer), in_table=True),
        "unavailable": answer.unavailable and visible(answer.unavailable, in_table=True),
        "panels": [panel_fields(panel, token) for panel in answer.panels],
    }


def panel_fields(panel: Panel, token: Callable[[int], str]) -> dict[str, Any]:
    """A panel with all that is words made visible. Numbers that are not known are null."""

    def names(axis: Axis) -> list[str]:
        return [visible(label, in_table=True) for label in axis.labels] or [token(place) for place in axis.positions]

    if isinstance(panel, Step):
        from tui_entropy.ui.views.panels import step_table

        panel = step_table(panel)
    fields: dict[str, Any] = {"title": visible(panel.title, in_table=True)}
    if isinstance(panel, Heatmap | Bars | TintedText | Graph):
        fields |= {"unit": visible(panel.unit), "top": panel.top}
    match panel:
        case Heatmap():
            values = [
                [short(value) if panel.is_read(at, n) else NOT_READ for n, value in enumerate(row)]
                for at, row in enumerate(panel.values.rows())
            ]
            fields |= {
                "kind": "heatmap",
                "rows": names(panel.rows),
                "columns": names(panel.columns),
                "values": values,
                "tokens": list(map(_cell, panel.tokens)),
            }
        case Bars():
            fields |= {"kind": "bars", "names": names(panel.axis), "values": list(map(short, panel.values))}
        case TintedText():
            words = list(map(token, panel.positions))
            fields |= {"kind": "text", "names": words, "values": list(map(short, panel.values))}
        case Table():
            columns = [[visible(column.name, in_table=True), visible(column.unit)] for column in panel.columns]
            fields |= {"kind": "table", "columns": columns, "rows": [list(map(_cell, row)) for row in panel.rows]}
        case Graph():
            labels = [visible(node.label, in_table=True) for node in panel.nodes]
            edges = [[labels[edge.source], labels[edge.target], short(edge.weight)] for edge in panel.edges]
            fields |= {"kind": "graph", "edges": edges}
        case Flow():
            drawn = drawing(panel, names(panel.columns), lambda node: str(_cell(node.token) or ""))
            shapes = [[shape.tag, shape.attributes, shape.text] for shape in drawn.shapes]
            fields |= {"kind": "flow", "width": drawn.width, "height": drawn.height, "shapes": shapes}
        case Note():
            fields |= {"kind": "note", "text": visible(panel.text)}
    return fields


def _cell(cell: Cell) -> str | float | bool | None:
    from tui_entropy.ui.drawing.glyphs import visible_bytes

    match cell:
        case Tokens():
            return visible_bytes(cell.token_bytes)
        case str():
            return visible(cell, in_table=True)
        case bool() | int() | None:
            return cell
    return short(cell)


def short(value: float | None) -> float | None:
    """Four significant digits; None for what is no number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def about(record: RunRecord) -> Iterator[str]:
    card, started, log = record.card, record.started, record.log
    began = moment(record.began)
    when = f"{began:%Y-%m-%d %H:%M} UTC" if began else "at an unknown time"
    yield f"{when} · {card.device} {card.dtype} {card.note}".strip()
    yield f"{len(started.prompt_tokens)} tokens of prompt, {len(log.steps)} written · {log.note or log.state}"
    yield " · ".join(_knobs(started.knobs))
    vectors = [f"{vector.name} {vector.amount}" for vector in started.vectors if vector.on]
    if vectors:
        yield f"control vectors: {', '.join(vectors)}"


def _knobs(knobs: Knobs) -> Iterator[str]:
    for knob in KNOBS:
        if not is_off(knobs, knob.name) and not is_idle(knobs, knob.name):
            yield f"{knob.short} {shown(knobs, knob.name)}"
