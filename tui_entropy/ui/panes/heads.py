"""Attention entropy of every layer and head at one step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from textual import events
from textual.geometry import Size
from textual.strip import Strip

from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.head_patterns import PATTERNS
from tui_entropy.records.step import Step, normalised
from tui_entropy.ui.drawing.glyphs import fitted
from tui_entropy.ui.drawing.hysteresis import Hysteresis
from tui_entropy.ui.drawing.paint import Group, Part
from tui_entropy.ui.keys.head_choice import Kinds, factors_at, kinds_at
from tui_entropy.ui.keys.pane_words import PANES
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View

LABELS = (9, 5, 4)
"""Cells before the heads of a layer: for its number and a word before that, for one of the two, for the number."""
STIR = 0.05
"""A change of entropy / ln n that is worth a mark."""
HINT_ROWS = 4
"""Rows of the pane while there is no model."""
NUMBERED = 6
"""Cells of a head where there is room for the change as a number."""


@dataclass(frozen=True)
class HeadsState:
    """What a person wants of the heads."""

    changes: bool = False
    """Marks are those of changes since the step before, and not the kinds of heads."""


@dataclass(frozen=True)
class Plan:
    """Which layers and heads are shown, and where."""

    layers: list[int]
    """1-based, from the top row of the first panel down, panel after panel."""
    rows: int
    heads: range
    """0-based."""
    cell: int
    group: int
    """Query heads that share a key head; a space is left between groups. 0 for no spaces."""
    pitch: int
    """Cells from panel to panel."""
    label: int
    """One of LABELS."""

    def column(self, head: int) -> int:
        """The column where a head's cell begins in its panel."""
        n = head - self.heads.start
        return self.label + n * self.cell + (n // self.group if self.group else 0)


class HeadGrid(View, can_focus=True):
    """A click asks for a layer and a head, on a layer's number for the mean of its heads."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "heads"
    OF_STEP: ClassVar[bool] = True
    ABOUT: ClassVar[str] = PANES["heads"]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._hysteresis = Hysteresis()
        self._card: ModelCard | None = None
        """Of the model whose heads it has rows for."""

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, card, step = frame.paint, frame.log.card, frame.step
        if (why := self.missing(frame)) or card is None:
            title = self.heading(frame, "heads", [], width)
            hint = why or "How widely each head of each layer looks, once a model is up and writes."
            return [title, *paint.hint(hint, width)][:height]
        plan, kinds = _plan(frame, card, width, max(height - 2, 1)), kinds_at(frame)
        live = frame.following and frame.log.state == "writing" and not frame.played
        steps = paint.n_ramp_steps if paint.rich else len(paint.shades)
        self._hysteresis.follow((frame.log.run_number, paint) if live else None, steps)
        factors = factors_at(frame)
        marks = {} if frame.of(HeadsState).changes else {at: paint.ours(kind.mark) for at, (kind, _) in kinds.items()}
        marks |= dict.fromkeys(factors, paint.times)
        rows = [self.heading(frame, "heads", _title(frame, card, plan, bool(factors)), width)]
        shares = _shares(step)
        before = _shares(frame.log.visited(frame.log.steps[frame.cursor - 1])) if frame.cursor else []
        for y in range(min(plan.rows, len(plan.layers))):
            parts: list[Part] = []
            for layer in plan.layers[y :: plan.rows]:
                row = _layer(frame, card, plan, layer, shares, before, marks, self._hysteresis if live else None)
                parts += [*row, (" " * (plan.pitch - sum(len(text) for text, _ in row)), paint.base)]
            rows.append(paint.row(parts, width))
        return [*rows, _selected(frame, card, shares, before, kinds, factors, width)][:height]

    def show(self, frame: Frame) -> None:
        super().show(frame)
        if frame.log.card is not self._card:  # a log grows, so that of an earlier frame is this very one
            self._card = frame.log.card
            self.refresh(layout=True)  # another model wants another number of rows

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Title, layers and numbers of the chosen one: as many panels beside each other as have cells two wide."""
        card = self.frame.log.card if self.frame else None
        if card is None or (self.frame and self.missing(self.frame)):
            return HINT_ROWS
        panels = max((width + 1) // (LABELS[-1] + 2 * card.n_heads + 1), 1)
        return -(-card.n_layers // panels) + 2

    def on_click(self, event: events.Click) -> None:
        if self.frame is None or self.frame.log.card is None:
            return
        plan = _plan(self.frame, self.frame.log.card, self.size.width, max(self.size.height - 2, 1))
        panel, x = divmod(event.x, plan.pitch)
        index = panel * plan.rows + event.y - 1
        if not 1 <= event.y <= plan.rows or index >= len(plan.layers):
            return
        head = next((h for h in plan.heads if plan.column(h) <= x < plan.column(h) + plan.cell), None)
        self.post_message(self.HeadAsked(plan.layers[index], None if head is None else head + 1))


def _title(frame: Frame, card: ModelCard, plan: Plan, is_scaled: bool) -> Iterator[Group]:
    if len(plan.layers) < card.n_layers:
        yield f"{plan.layers[-1]}-{plan.layers[0]} of {card.n_layers}"
    if len(plan.heads) < card.n_heads:
        yield f"heads {plan.heads.start + 1}-{plan.heads.stop} of {card.n_heads}"
    yield tuple(frame.paint.legend("look at", "one token", "all alike", short=short) for short in (False, True))
    if frame.of(HeadsState).changes:
        yield "change in hundredths" if plan.cell >= NUMBERED else f"{frame.paint.up}{frame.paint.down} change"
    if is_scaled:
        yield f"{frame.paint.times} scaled"
    yield from frame.where
    if not frame.of(HeadsState).changes:
        yield ", ".join(f"{pattern.mark} {pattern.name}" for pattern in PATTERNS)
    yield f"{card.n_layers} layers x {card.n_heads}"


def _plan(frame: Frame, card: ModelCard, width: int, rows: int) -> Plan:
    """All layers where they fit, in panels side by side where there is room; else those around the selected one."""
    ratio = card.n_heads // card.n_kv_heads if card.n_kv_heads else 1
    group = ratio if 1 < ratio < card.n_heads else 0
    panels = -(-card.n_layers // rows)
    sizes = ((NUMBERED, group), (3, group), (2, group), (2, 0), (1, group), (1, 0))
    for (cell, spaced), label in product(sizes, LABELS):
        across = card.n_heads * cell + (card.n_heads // spaced if spaced else 0)
        if (label + across + 1) * panels - 1 <= width:
            break
    n_heads = max(min(card.n_heads, (width - label) // cell), 1)
    pitch = label + n_heads * cell + (n_heads // spaced if spaced else 0) + 1
    panels = max(min((width + 1) // pitch, -(-card.n_layers // rows)), 1)
    count = min(card.n_layers, rows * panels)
    last = min(max(frame.layer + count // 2, count), card.n_layers)
    start = min(max((frame.head or 1) - 1 - n_heads // 2, 0), card.n_heads - n_heads)
    used = min(rows, -(-count // panels))
    layers, heads = list(range(last, last - count, -1)), range(start, start + n_heads)
    return Plan(layers, used, heads, cell, spaced, pitch, label)


def _shares(step: Step | None) -> list[list[float | None]]:
    """Entropy / ln n, per layer and head."""
    if step is None:
        return []
    return [normalised(row, keys) for row, keys in zip(step.head_entropy.rows(), step.visible_keys, strict=True)]


def _layer(
    frame: Frame,
    card: ModelCard,
    plan: Plan,
    layer: int,
    shares: list[list[float | None]],
    before: list[list[float | None]],
    marks: Mapping[tuple[int, int], str],
    hysteresis: Hysteresis | None,
) -> list[Part]:
    """A row. marks: of some heads. hysteresis: what its cells go on to show, None for what they are."""
    paint = frame.paint
    here = layer == frame.layer
    mark = "~" if card.windows[layer - 1] is not None else " "
    end = "late" if layer == card.n_layers else "early" if layer == 1 else ""
    number = f"{layer:>3}{mark}".rjust(plan.label)
    if end and plan.label > LABELS[-1]:
        number = end + number[len(end) :] if plan.label == LABELS[0] else f"{end:<{plan.label}}"
    parts: list[Part] = [(number, paint.cursor if here else paint.dim)]
    if not card.attention[layer - 1]:
        kind = f"{card.layer_kinds[layer - 1]}: no rows"
        return [*parts, (fitted(kind, plan.pitch - plan.label - 1, paint.ascii), paint.dim)]
    for head in plan.heads:
        gap = plan.column(head) - sum(len(text) for text, _ in parts)
        if gap:
            parts.append((" " * gap, paint.base))
        share = shares[layer - 1][head] if shares else None
        shown = share if share is None or hysteresis is None else hysteresis.shown_level((layer, head), share)
        mark = marks.get((layer, head + 1), "")
        if frame.of(HeadsState).changes and not mark:
            mark = _stir(frame, plan, share, before, layer, head)
        text, style = paint.cell(shown, plan.cell, mark)
        if here and frame.head == head + 1:
            text = f"[{text[1:-1]}]" if plan.cell > 2 else f"{paint.drawn}{text[1:]}"
        parts.append((text, style))
    return parts


def _stir(
    frame: Frame, plan: Plan, share: float | None, before: list[list[float | None]], layer: int, head: int
) -> str:
    """The change since the step before, where it is worth a mark: an arrow, or hundredths."""
    was = before[layer - 1][head] if before else None
    if share is None or was is None or abs(share - was) < STIR:
        return ""
    if plan.cell >= NUMBERED:
        return f"{100 * (share - was):+.0f} "
    return frame.paint.up if share > was else frame.paint.down


def _selected(
    frame: Frame,
    card: ModelCard,
    shares: list[list[float | None]],
    before: list[list[float | None]],
    kinds: Kinds,
    factors: Mapping[tuple[int, int], float],
    width: int,
) -> Strip:
    """The chosen layer and head in numbers."""
    paint, layer, step = frame.paint, min(max(frame.layer, 1), card.n_layers), frame.step
    where = [(f"layer {layer} {'mean' if frame.head is None else f'head {frame.head}'}", paint.accent)]
    window, sort = card.windows[layer - 1], card.layer_kinds[layer - 1]
    sort = f"{sort} {window}" if window else "" if sort == "full" else sort
    if not card.attention[layer - 1]:
        return paint.whole(where, [f"{sort}: no attention rows"], width)
    if not shares or step is None:
        return paint.whole(where, filter(None, [sort]), width)
    groups: list[Group] = []
    if (factor := factors.get((layer, frame.head or 0))) is not None:
        groups.append([("scaled ", paint.dim), (f"{paint.times}{factor:.4g}", paint.warning)])
    if known := kinds.get((layer, frame.head or 0)):
        pattern, share = known
        groups.append([(f"{pattern.name} ", paint.accent), (f"{100 * share:.0f} %", paint.number)])
    now, keys = _share(shares[layer - 1], frame.head), step.visible_keys[layer - 1]
    if not step.is_visited:
        why = ": the text was read in one go" if frame.log.run.is_read(step.index) else ""
        return paint.whole(where, [*groups, f"not measured{why}"], width)
    if now is None or keys is None:
        return paint.whole(where, [*groups, "? of one visible key"], width)
    one = math.log(2) if frame.bits else 1
    most = math.log(keys) / one
    entropy: list[Part] = [("entropy ", paint.dim), (f"{now * most:.2f}", paint.number)]
    unit = (f" {frame.unit}", paint.dim)
    groups.append(([*entropy, (f" of {most:.2f}", paint.dim), unit], [*entropy, unit]))
    was = _share(before[layer - 1], frame.head) if before else None
    if was is not None and frame.of(HeadsState).changes:
        groups.append(f"{round(now - was, 2) + 0.0:+.2f} of all")
    return paint.whole(where, [*groups, *filter(None, [sort])], width)


def _share(row: list[float | None], head: int | None) -> float | None:
    if head is not None:
        return row[head - 1] if head <= len(row) else None
    known = [share for share in row if share is not None]
    return sum(known) / len(known) if known else None
