"""A flow as a Sankey diagram: its shapes, which the page draws too, and a file of them that stands by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from tui_entropy.core.errors import UserError
from tui_entropy.core.escape import visible
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Flow, FlowEdge, FlowNode
from tui_entropy.state.session_view import SessionView

COLUMN, ROW = 84.0, 66.0
"""Pixels from one token, or layer, to the next."""
FULL, HIGH = 72.0, 15.0
"""Pixels that all of the flow is wide, and that a place is high."""
LEFT, TOP = 64.0, 40.0
INKS = (
    {"ink": "#262626", "dim": "#626262", "paper": "#fff", "model": "#005f87"},
    {"ink": "#d0d0d0", "dim": "#8a8a8a", "paper": "#121212", "model": "#5fafaf"},
)
LEVELS = (
    ("#ffffd7", "#d7ffaf", "#afd787", "#5fd7af", "#00afd7", "#0087d7", "#005fd7", "#000087"),
    ("#00005f", "#5f005f", "#87005f", "#af005f", "#d75f87", "#d7875f", "#ffaf5f", "#ffffaf"),
)
"""On paper, and on a dark ground."""
LOOK = """
.flow text { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; text-anchor: middle; }
.flow text.number { font-size: 9px; }
.flow text.word { paint-order: stroke; stroke-width: 3px; }
.flow path { fill-opacity: .35; }
.flow path:hover { fill-opacity: .9; }
.flow .unknown { fill: none; }
"""
"""Of the shapes, wherever they stand."""
N_LEVELS, PALE = 8, 2


def colours(inks: Mapping[str, str], levels: Sequence[str]) -> str:
    """The rules that colour the shapes."""
    fills = "".join(f".flow .h{n} {{ fill: {colour}; }}" for n, colour in enumerate(levels))
    return (
        f".flow text {{ fill: {inks['ink']}; stroke: none; }} .flow text.word {{ stroke: {inks['paper']}; }} "
        f".flow text.dim, .flow text.number {{ fill: {inks['dim']}; }} .flow .unknown {{ stroke: {inks['dim']}; }} "
        f".flow path {{ fill: {inks['model']}; }} {fills}\n"
    )


PAGE = LOOK + colours({name: f"var(--{name})" for name in INKS[0]}, [f"var(--h{n})" for n in range(N_LEVELS)])
"""The same with the colours of a page that has names for them."""


class Shape(NamedTuple):
    tag: str
    """'path', 'rect' or 'text'."""
    attributes: dict[str, str | float]
    text: str = ""
    """Of a text what it says, of others what they are about."""


class Drawing(NamedTuple):
    width: float
    height: float
    shapes: tuple[Shape, ...]


def drawing(panel: Flow, columns: list[str], word: Callable[[FlowNode], str]) -> Drawing:
    """The tokens that something flows through, side by side, with a row for each layer.

    columns: names of all tokens, safe to show. word: what stands at a place, likewise.
    """
    carrying = sorted({node.column for node in panel.nodes})
    place = {column: LEFT + COLUMN * (n + 0.5) for n, column in enumerate(carrying)}
    shapes: list[Shape] = [*_ribbons(panel, place)]
    for node in panel.nodes:
        wide, x, y = max(FULL * node.share, 1.5), place[node.column], TOP + ROW * node.row
        about = f"{word(node)}: {100 * node.share:.1f} % of the flow"
        shapes.append(
            Shape("rect", _filled(node.level) | {"x": x - wide / 2, "y": y, "width": wide, "height": HIGH}, about)
        )
        shapes.append(Shape("text", {"x": x, "y": y - 3, "class": "word"}, word(node)))
        shapes.append(Shape("text", {"x": x, "y": y + HIGH + 9, "class": "number word"}, f"{100 * node.share:.0f} %"))
    for row, label in enumerate(panel.rows.labels):
        shapes.append(
            Shape("text", {"x": LEFT / 2, "y": TOP + ROW * row + 11, "class": "dim"}, visible(label, in_table=True))
        )
    shapes.append(Shape("text", {"x": LEFT / 2, "y": 14, "class": "dim"}, visible(panel.rows.name, in_table=True)))
    shapes += [Shape("text", {"x": place[n], "y": 14, "class": "dim"}, columns[n]) for n in carrying]
    height = TOP + ROW * (panel.rows.n - 1) + HIGH + 20
    return Drawing(LEFT + COLUMN * max(len(carrying), 1), height, tuple(shapes))


def _ribbons(panel: Flow, place: dict[int, float]) -> Iterator[Shape]:
    """Each edge from the place above to that below, side by side where several leave one or reach it."""
    above, below = _sides(panel, place, True), _sides(panel, place, False)
    for n, edge in enumerate(panel.edges):
        wide, upper, lower = max(FULL * edge.share, 0.75), panel.nodes[edge.above], panel.nodes[edge.below]
        y, end = TOP + ROW * upper.row + HIGH, TOP + ROW * lower.row
        x, to, middle = above[n], below[n], (y + end) / 2
        path = (
            f"M{x:.1f},{y:.1f}C{x:.1f},{middle:.1f} {to:.1f},{middle:.1f} {to:.1f},{end:.1f}h{wide:.1f}"
            f"C{to + wide:.1f},{middle:.1f} {x + wide:.1f},{middle:.1f} {x + wide:.1f},{y:.1f}Z"
        )
        about = f"{100 * edge.share:.1f} % of the flow"
        yield Shape("path", {"d": path}, about)


def _sides(panel: Flow, place: dict[int, float], is_above: bool) -> dict[int, float]:
    """Edge -> where its ribbon begins along the lower side of the place above it, or the upper side of that below."""

    def ends(edge: FlowEdge) -> tuple[int, int]:
        return (edge.above, edge.below) if is_above else (edge.below, edge.above)

    known: dict[int, float] = {}
    filled: dict[int, float] = {}
    for n in sorted(range(len(panel.edges)), key=lambda n: ends(panel.edges[n])):
        at, _ = ends(panel.edges[n])
        node = panel.nodes[at]
        begin = filled.get(at, place[node.column] - FULL * node.share / 2)
        known[n], filled[at] = begin, begin + FULL * panel.edges[n].share
    return known


def _filled(level: float | None) -> dict[str, str | float]:
    """The palest levels could not be seen in so small a place."""
    seen = N_LEVELS - PALE
    return {"class": "unknown" if level is None else f"h{PALE + min(int(level * seen), seen - 1)}"}


def svg(title: str, drawn: Drawing) -> str:
    """A picture in a file, which needs nothing else."""
    shapes = "\n".join(map(_element, drawn.shapes))
    light, dark = (colours(*each) for each in zip(INKS, LEVELS, strict=True))
    paper, night = (f"svg {{ background: {inks['paper']}; }}\n" for inks in INKS)
    style = f"{LOOK}{paper}{light}@media (prefers-color-scheme: dark) {{\n{night}{dark}}}\n"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flow" viewBox="0 0 {drawn.width:g} {drawn.height:g}" '
        f'width="{drawn.width:g}" height="{drawn.height:g}">\n<title>{escape(title)}</title>\n'
        f"<style>{style}</style>\n{shapes}\n</svg>\n"
    )


def write(answer: ProbeAnswer, log: SessionView, path: Path) -> None:
    """The diagram of an answer about the text of a log, as a file. Raises UserError where it has none."""
    from tui_entropy.ui.drawing.glyphs import visible_bytes
    from tui_entropy.ui.views.wording import token_at

    panel = next((panel for panel in answer.panels if isinstance(panel, Flow)), None)
    if panel is None:
        why = answer.unavailable or f"what {answer.name} answers has none"
        raise UserError(
            f"there is no diagram to be written: {visible(why, in_table=True)}; leave --svg out, or ask flow"
        )
    columns = [token_at(log, position, ascii_only=False) for position in panel.columns.positions]
    drawn = drawing(panel, columns, lambda node: visible_bytes(node.token.token_bytes) if node.token else "")
    try:
        path.write_text(svg(visible(panel.title, in_table=True), drawn), encoding="utf-8", errors="replace")
    except OSError as problem:
        raise UserError(f"{path} cannot be written: {problem.strerror}; name another file with --svg") from problem


def _element(shape: Shape) -> str:
    attributes = " ".join(f'{name}="{_attribute(value)}"' for name, value in shape.attributes.items())
    inside = escape(shape.text) if shape.tag == "text" else f"<title>{escape(shape.text)}</title>"
    return f"<{shape.tag} {attributes}>{inside}</{shape.tag}>"


def _attribute(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.1f}"
