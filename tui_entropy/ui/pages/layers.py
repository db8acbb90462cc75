"""The residual stream after each block, and what the heads of each layer do: a row per block."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.strip import Strip

from tui_entropy.metrics.metric import LN2
from tui_entropy.metrics.readers import mean
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.model import ModelCard
from tui_entropy.records.step import ATTENTION, BLOCKS, Step
from tui_entropy.ui.drawing.paint import Part, figure
from tui_entropy.ui.keys.keymap import with_keys
from tui_entropy.ui.keys.needs import acts
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.lens_rows import fits_whole, lens_series, lens_table
from tui_entropy.ui.views.view import HEAVY, View

CELL, LABEL = 9, 5
STRAYED = "!"
NORM = BLOCKS.index("norm")


@dataclass(frozen=True)
class Column:
    name: str
    unit: str
    """'bits' stands for bits or nats."""
    read: Callable[[Step, ModelCard, int], float | None]
    """Of a step, the model and a block (0-based); nats where it is information."""
    narrow: bool = True
    """Whether it stays where there is little room."""

    def shown(self, value: float | None, bits: bool) -> float | None:
        power = {"bits": 1, "bits²": 2}.get(self.unit, 0)
        return value / LN2**power if value is not None and bits else value


def _block(name: str) -> Callable[[Step, ModelCard, int], float | None]:
    at = BLOCKS.index(name)
    return lambda step, _, block: step.blocks.view[block, at]


def _heads(name: str) -> Callable[[Step, ModelCard, int], float | None]:
    at = ATTENTION.index(name)
    return lambda step, _, block: step.attention.view[block, at]


RESIDUAL = (
    Column("mean", "", _block("mean")),
    Column("std", "", _block("std"), narrow=False),
    Column("norm", "L2", _block("norm")),
    Column("RMS", "", lambda step, card, b: step.blocks.view[b, NORM] / math.sqrt(card.d_model), narrow=False),
)  # fmt: skip
HEADS = (
    Column("entropy", "bits", lambda step, _, block: mean(step.head_entropy.rows()[block])),
    Column("varentr.", "bits²", lambda step, _, block: mean(step.head_varentropy.rows()[block])),
    Column("spread", "bits²", _heads("spread")),
    Column("differ", "share", _heads("disagreement")),
    Column("interact", "logits", _heads("interaction")),
)


@dataclass(frozen=True)
class LayersState:
    """The state that the page of layers keeps."""

    lens: bool | None = None
    """What each layer would have said, in place of its numbers; None for wherever the lens is on."""


def shows_lens(frame: Frame) -> bool:
    """Whether the page tells what each layer would have said."""
    wanted, step = frame.of(LayersState).lens, frame.seen
    return bool(frame.knobs.lens or (step and step.lens_rows)) if wanted is None else wanted


class Layers(View):
    """The chosen layer is always in view."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "residual"
    OF_STEP: ClassVar[bool] = True

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, card, step = frame.paint, frame.log.card, frame.step
        if shows_lens(frame):
            return self._lens(frame, width, height)
        heading = self.heading(frame, "layers", [*frame.where, "last block at the top"], width)
        if (why := self.missing(frame)) or card is None or step is None or not step.blocks.shape[0]:
            hint = why or "The residual stream after each block and the heads of each layer, once a model writes."
            return [heading, *paint.hint(hint, width)][:height]
        residual = [column for column in RESIDUAL if column.narrow or width >= 100]
        wide = max(width - LABEL - CELL * (len(residual) + len(HEADS)) - 2, 0)
        foot = _foot(frame, step, width)
        room = max(height - 4 - len(foot), 1)
        last = min(max(frame.layer + room // 2, room), card.n_layers)
        rows = [_row(frame, card, step, residual, wide, width, n) for n in range(last, max(last - room, 0), -1)]
        return [heading, *_titles(frame, residual, wide, width), *rows, *foot][:height]

    def _lens(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, step, every, at = frame.paint, frame.seen, frame.knobs.lens, frame.knobs.lens_steps
        reads = f"reads every {f'{every}. ' if every > 1 else ''}layer{f' at every {at}. token' if at > 1 else ''}"
        known = step is not None and bool(step.lens_rows)
        series = lens_series(frame, step) if step and known and fits_whole(step, height - 1) else ()
        told = [*frame.where, *series, "what each would have said", f"the lens {reads if every else 'is off'}"]
        heading = self.heading(frame, "layers", told, width)
        if step is None or not known:
            return [heading, *paint.hint(_no_rows(frame, step), width)][:height]
        return [heading, *(paint.row(row, width) for row in lens_table(frame, step, width, height - 1))][:height]

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        """The last one is on top."""
        return {"layer": min(max(frame.layer - by, 1), frame.log.card.n_layers)} if frame.log.card else {}


def _no_rows(frame: Frame, step: Step | None) -> str:
    if acts(frame, "layers.on") and not frame.knobs.lens:
        reads = (
            "{layers.on} leaves the lens on while a text is written: what each layer would have said, at each token."
        )
        return with_keys(reads, frame.keymap, frame.paint.ascii)
    if step is None:
        return "What each layer would have said, once a model writes."
    return "The lens was not on at this token, so that what its layers would have said is not known."


def _titles(frame: Frame, residual: list[Column], wide: int, width: int) -> list[Strip]:
    """The heading of the columns: whose numbers, their names, their units."""
    paint = frame.paint
    over = ("residual stream" if wide < 14 else "residual stream after the block").ljust(
        CELL * len(residual) + wide - 2
    )
    names = "".join(column.name.rjust(CELL) for column in residual)
    units = "".join(_unit(frame, column).rjust(CELL) for column in residual)
    course = (f" norm, newest {wide}" if wide > 14 else f" last {wide}")[: wide + 1].ljust(wide + 2)
    strayed = (f" {STRAYED} left its band" if wide > 14 else "")[:wide].ljust(wide + 2)
    names += course + "".join(column.name.rjust(CELL) for column in HEADS)
    units += strayed + "".join(_unit(frame, column).rjust(CELL) for column in HEADS)
    top = f"{'':{LABEL + 4}}{over}heads, newest query"
    return [
        paint.row([(text, paint.dim)], width) for text in (top, f"{'block':{LABEL}}{names}", f"{'':{LABEL}}{units}")
    ]


def _unit(frame: Frame, column: Column) -> str:
    return frame.paint.ours(column.unit.replace("bits", frame.unit))


def _row(
    frame: Frame, card: ModelCard, step: Step, residual: list[Column], wide: int, width: int, layer: int
) -> Strip:
    paint = frame.paint

    def numbers(columns: tuple[Column, ...] | list[Column]) -> str:
        values = (column.shown(column.read(step, card, layer - 1), frame.bits) for column in columns)
        return "".join(figure(value).rjust(CELL) for value in values)

    heads = numbers(HEADS) if card.attention[layer - 1] else f"  {card.layer_kinds[layer - 1]}: no attention rows"
    return paint.row(
        [
            (f"{layer:>3}", paint.cursor if layer == frame.layer else paint.dim),
            (f" {STRAYED}" if layer in step.strays else "  ", paint.warning),
            (numbers(residual), paint.number),
            (" ", paint.base),
            *_course(frame, layer, wide),
            (" ", paint.base),
            (heads, paint.number if card.attention[layer - 1] else paint.dim),
        ],
        width,
    )


def _course(frame: Frame, layer: int, wide: int) -> list[Part]:
    """Its norm over the newest tokens, from the least to the most of them, with a mark where it left its band."""
    paint, steps, cursor = frame.paint, frame.log.steps, frame.cursor or 0
    if wide < 3:
        return [(" " * wide, paint.base)]
    first = max(cursor + 1 - wide, 0)
    line = paint.course(steps.norms(layer, first, cursor + 1))
    return [
        *(
            (STRAYED, paint.warning) if layer in steps.strays[first + at] else (glyph, paint.model)
            for at, glyph in enumerate(line)
        ),
        (" " * (wide - len(line)), paint.base),
    ]


def _foot(frame: Frame, step: Step, width: int) -> list[Strip]:
    """The heads of the last layer as Entropix sums them up."""
    paint = frame.paint
    groups: list[str | list[Part]] = []
    for metric in METRICS:
        if metric.name.startswith("entropix"):
            name, unit = metric.name.removeprefix("entropix "), paint.ours(metric.unit(frame.bits))
            value = figure(metric.value(step, frame.bits))
            groups.append([(f"{name} ", paint.dim), (value, paint.number), (f" {unit}".rstrip(), paint.dim)])
    first, second = (groups, []) if width >= 150 else (groups[:2], groups[2:])
    name = "entropix, last layer" if width >= 100 else "entropix"
    rows = [paint.whole([(name, paint.title)], first, width)]
    return [*rows, *([paint.whole([(" " * len(name), paint.title)], second, width)] if second else [])]
