"""A run, and what a probe answered, as pieces of HTML for a notebook: no script, no style sheet, and no names that
another piece on the same page could have too.

Every text goes in made visible by escape.py and escaped; MathJax, which notebooks let loose on their outputs, is told
to leave it alone.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from typing import Any

from tui_entropy.core.escape import visible
from tui_entropy.export.diagrams import sankey
from tui_entropy.export.html import NOT_READ, about, panel_fields
from tui_entropy.export.recorded_run import RunRecord
from tui_entropy.metrics.metric import LN2, Metric
from tui_entropy.metrics.registry import BY_FIELD
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.options import answered_with
from tui_entropy.records.probes.panels import Flow
from tui_entropy.records.step import PromptToken, Step
from tui_entropy.state.session_view import SessionView

MAX_TOKENS = 4096
"""Tokens that are drawn, the newest ones; a notebook keeps every output."""
N_ROWS, N_BEST = 6, 3
"""Tokens in the table under a text, and candidates beside each."""
LEVELS = sankey.LEVELS[0]
INKS = (*["#262626"] * 4, "#000", *["#fff"] * 3)
"""The colour of words on each level."""
MONO = "font-family: ui-monospace, Menlo, Consolas, monospace"
DIM, LINE = "color: #808080", "padding: 0 1em 0 0; text-align: left; white-space: pre"
BAR = "background: #5f9ea0; height: .6em"
POWERS = {"nats": 1, "nats²": 2}


def run_html(record: RunRecord, tint: Metric, bits: bool) -> str:
    """The text tinted by a number, and the tokens of which it is highest with what was nearly written instead."""
    lines = [escape(visible(record.card.name, in_table=True)), *(escape(visible(line)) for line in about(record))]
    head = "".join(element("div", line, DIM if n else "font-weight: bold") for n, line in enumerate(lines))
    return _whole(head + _legend(tint, bits) + _text(record, tint, bits) + _highest(record, tint, bits))


def answer_html(answer: ProbeAnswer, log: SessionView, bits: bool) -> str:
    """What a probe answered: its panels, one below the other."""
    from tui_entropy.ui.views.wording import token_at

    def token(position: int) -> str:
        return token_at(log, position, ascii_only=False)

    words = f"{answer.name}: {token(answer.position)} at position {answer.position} of run {answer.run}"
    head = element("div", escape(visible(words, in_table=True)), "font-weight: bold")
    head += element("div", escape(visible(answered_with(answer), in_table=True)), DIM)
    if answer.unavailable is not None:
        return _whole(head + element("div", escape(f"no answer: {visible(answer.unavailable, in_table=True)}")))
    return _whole(head + "".join(_panel(panel, token, bits) for panel in answer.panels))


def element(tag: str, inside: str, style: str = "", **attributes: str) -> str:
    """inside: HTML. Values of attributes are text."""
    if style:
        attributes["style"] = style
    said = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{said}>{inside}</{tag}>"


def _whole(inside: str) -> str:
    attributes = {"class": "tui-entropy tex2jax_ignore mathjax_ignore"}
    return element("div", inside, "line-height: 1.5; max-width: 80em; overflow-x: auto", **attributes)


# --- A text --------------------------------------------------------------------------------------------------


def _shade(share: float) -> str:
    """The colours of a level, 0 ... 1; none of the lowest, which is most of a text."""
    level = min(int(max(share, 0.0) * len(LEVELS)), len(LEVELS) - 1)
    return f"background: {LEVELS[level]}; color: {INKS[level]}" if level else ""


def _legend(tint: Metric, bits: bool) -> str:
    boxes = "".join(
        element("span", "&nbsp;&nbsp;", f"background: {colour}" if n else "") for n, colour in enumerate(LEVELS)
    )
    top = f"{figure(tint.top(bits))} {tint.unit(bits)}".strip()
    return element(
        "div",
        f"{escape(tint.name)}: 0 {boxes} {escape(top)} and more",
        DIM,
        title=visible(tint.meaning, in_table=True),
    )


def _text(record: RunRecord, tint: Metric, bits: bool) -> str:
    n_prompt, steps = len(record.started.prompt_tokens), record.log.steps
    scores = record.log.prompt_scores.get(tint.prompt, [math.nan] * n_prompt)
    left_out = max(n_prompt + len(steps) - MAX_TOKENS, 0)
    first = max(left_out - n_prompt, 0)
    spans = [element("div", f"… {left_out} tokens before", DIM)] if left_out else []
    for token, score in list(zip(record.started.prompt_tokens, scores, strict=True))[left_out:]:
        spans.append(_word(token, tint, score, bits, prompt=True))
    values = tint_values(record, tint, first)
    for step, value in zip(steps[first:], values, strict=True):
        spans.append(_word(step, tint, value, bits))
    if not len(steps):
        spans.append(element("span", " (nothing is written yet)", DIM))
    style = f"{MONO}; white-space: pre-wrap; overflow-wrap: anywhere; margin: .4em 0"
    return element("div", "".join(spans), style)


def tint_values(record: RunRecord, tint: Metric, first: int = 0) -> list[float]:
    """Of the written tokens from one on, in nats where it is information; NaN is unknown."""
    return [math.nan if value is None else value for value in record.log.steps.values(tint, first)]


def _word(token: PromptToken | Step, tint: Metric, value: float, bits: bool, prompt: bool = False) -> str:
    from tui_entropy.ui.drawing.glyphs import visible_token

    name = visible_token(token.token_id, token.token_bytes)
    style = DIM if math.isnan(value) else _shade(abs(value) / tint.ceiling)
    if prompt:
        style = f"{style}; font-style: italic" if style else "font-style: italic"
    known = "" if math.isnan(value) else f" · {tint.name} {figure(tint.in_unit(value, bits))} {tint.unit(bits)}"
    where = "prompt" if prompt or not isinstance(token, Step) else f"step {token.index}"
    title = f"{where} · {name} · id {token.token_id}{known.rstrip()}"
    text = escape(visible(token.text) or name).replace("\n", "⏎\n")
    return element("span", text, style, title=title)


def _highest(record: RunRecord, tint: Metric, bits: bool) -> str:
    """The tokens of which a number is highest, in the order of the text."""
    from tui_entropy.ui.drawing.glyphs import visible_token

    values = tint_values(record, tint)
    known = [at for at, value in enumerate(values) if math.isfinite(value)]
    if not known:
        return ""
    places = sorted(sorted(known, key=lambda at: -abs(values[at]))[:N_ROWS])
    beside = [one for name in ("entropy", "surprisal", "rank") if (one := BY_FIELD[name]) is not tint]
    heads = ["step", "token", *(f"{one.name} {one.unit(bits)}".strip() for one in (tint, *beside)), "model's best"]
    rows = []
    for step in (record.log.steps[at] for at in places):
        numbers = [figure(one.value(step, bits)) for one in (tint, *beside)]
        best = "  ".join(
            f"{visible_token(one.token_id, one.token_bytes)} {percent(math.exp(min(one.logprob, 0.0)))}"
            for one in step.candidates[:N_BEST]
        )
        rows.append([str(step.index), visible_token(step.token_id, step.token_bytes), *numbers, best])
    return table(heads, rows)


# --- Panels --------------------------------------------------------------------------------------------------


def _panel(panel: Any, token: Callable[[int], str], bits: bool) -> str:
    """Of any kind. Its words are visible already (`panel_fields`), and are escaped here."""
    if isinstance(panel, Flow):
        return _flow(panel, token)
    fields = panel_fields(panel, token)
    unit = fields.get("unit", "")
    title = f"{fields['title']}, {unit_of(unit, bits)}" if unit else fields["title"]
    head = element("div", escape(title), f"{DIM}; margin-top: .6em")
    return head + PANELS[fields["kind"]](fields, bits)


def _heatmap(fields: dict[str, Any], bits: bool) -> str:
    names, tokens, width = fields["columns"], fields["tokens"], len(fields["columns"])
    unit, top = fields["unit"], fields["top"]
    rows = []
    for at, (name, values) in enumerate(zip(fields["rows"], fields["values"], strict=True)):
        cells = [element("td", escape(name), f"{LINE}; {DIM}")]
        for n, value in enumerate(values):
            if value == NOT_READ:
                cells.append(element("td", ""))
                continue
            word = str(tokens[at * width + n] or "") if tokens else ""
            about = f"{name}, {names[n]}: {word} {quantity(value, unit, bits)} {unit_of(unit, bits)}".strip()
            shade = DIM if value is None else _shade(value / top)
            cells.append(element("td", escape(word), f"{LINE}; padding: 0 .4em; {shade}", title=about))
        rows.append(element("tr", "".join(cells)))
    heads = element("tr", "".join(element("td", escape(name), f"{LINE}; {DIM}") for name in ["", *names]))
    return _table([heads, *rows] if tokens else [*rows, heads])


def _bars(fields: dict[str, Any], bits: bool) -> str:
    pairs = zip(fields["names"], fields["values"], strict=True)
    return _table(_weighed([name], value, fields, bits) for name, value in pairs)


def _tinted(fields: dict[str, Any], bits: bool) -> str:
    spans = []
    for name, value in zip(fields["names"], fields["values"], strict=True):
        style = DIM if value is None else _shade(abs(value) / fields["top"])
        below = "; text-decoration: underline" if value is not None and value < 0 else ""
        said = f"{quantity(value, fields['unit'], bits)} {unit_of(fields['unit'], bits)}".strip()
        spans.append(element("span", escape(name), (style + below).removeprefix("; "), title=said))
    return element("div", "".join(spans), f"{MONO}; white-space: pre-wrap")


def _cells(fields: dict[str, Any], bits: bool) -> str:
    def cell(value: Any, unit: str) -> str:
        match value:
            case bool():
                return "yes" if value else "no"
            case str():
                return value
            case int() if not unit:
                return str(value)
        return quantity(value, unit, bits)

    units = [unit for _, unit in fields["columns"]]
    heads = [f"{name} {unit_of(unit, bits)}".strip() for name, unit in fields["columns"]]
    return table(heads, [list(map(cell, row, units)) for row in fields["rows"]])


def _graph(fields: dict[str, Any], bits: bool) -> str:
    edges = sorted(fields["edges"], key=lambda edge: -abs(edge[2] or 0))
    return _table(_weighed([source, "→", target], weight, fields, bits) for source, target, weight in edges)


def _note(fields: dict[str, Any], bits: bool) -> str:
    return element("div", escape(fields["text"]), "white-space: pre-wrap")


PANELS: dict[str, Callable[[dict[str, Any], bool], str]] = {
    "heatmap": _heatmap, "bars": _bars, "text": _tinted, "table": _cells, "graph": _graph, "note": _note,
}  # fmt: skip
"""A kind of panel -> how its fields are drawn."""


def _flow(panel: Flow, token: Callable[[int], str]) -> str:
    """As a picture of its own, whose style is for no other one."""
    from tui_entropy.ui.drawing.glyphs import visible_bytes

    columns = list(map(token, panel.columns.positions)) or [
        visible(one, in_table=True) for one in panel.columns.labels
    ]
    drawn = sankey.drawing(panel, columns, lambda node: visible_bytes(node.token.token_bytes) if node.token else "")
    picture = sankey.svg(visible(panel.title, in_table=True), drawn).encode("utf-8", "replace")
    source = f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}"
    return f'<img src="{source}" width="{drawn.width:g}" alt="{escape(visible(panel.title, in_table=True))}">'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts."""
    lines: Iterator[tuple[str, Sequence[str]]] = (
        (tag, row) for tag, row in [("th", heads), *(("td", r) for r in rows)]
    )
    return _table(
        element("tr", "".join(element(tag, escape(cell), f"{LINE}; {DIM}" if tag == "th" else LINE) for cell in row))
        for tag, row in lines
    )


def _weighed(words: Sequence[str], value: float | None, fields: dict[str, Any], bits: bool) -> str:
    share = min(abs(value or 0.0) / fields["top"], 1.0)
    cells = [element("td", escape(word), LINE) for word in [*words, quantity(value, fields["unit"], bits)]]
    cells.append(element("td", element("div", "", f"{BAR}; width: {16 * share:.2f}em"), LINE))
    return element("tr", "".join(cells))


def _table(rows: Iterable[str]) -> str:
    style = "border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .3em 0"
    return element("table", element("tbody", "".join(rows)), style)


# --- Numbers -------------------------------------------------------------------------------------------------


def figure(value: float | None) -> str:
    """Three significant digits; ? for what is unknown."""
    return "?" if value is None or math.isnan(value) else f"{value:.3g}"


def percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share == 0 or share >= 1e-5 else "<0.001 %"


def unit_of(unit: str, bits: bool) -> str:
    if unit == "share":
        return "%"
    return unit.replace("nats", "bits") if bits and unit in POWERS else unit


def quantity(value: float | None, unit: str, bits: bool) -> str:
    """A number of a panel in the unit that `unit_of` names."""
    if value is None or math.isnan(value):
        return "?"
    if unit == "share":
        return figure(100 * value)
    return figure(value / LN2 ** POWERS[unit] if bits and unit in POWERS else value)
