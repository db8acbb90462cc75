"""The tint of a text: TintScale, of a value by where it stands among those of its text or by a fixed ceiling, and
AttentionTint, of a token by how much the one under the cursor looked at it."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

from rich.style import Style

from tui_entropy.metrics.metric import Metric
from tui_entropy.state.step_store import StepStore
from tui_entropy.ui.drawing.paint import Paint, Part, figure
from tui_entropy.ui.views.attention_rows import SINK, row_of
from tui_entropy.ui.views.frame import Frame

SHARES = (0.5, 0.8, 0.95)
"""Of the tokens of a text, those up to which each step of the tint begins: half of a text has no colour, and one in
twenty has the hot one."""
HOT_SHARE = f"top {100 * (1 - SHARES[-1]):.0f} %"
FEW = 24
"""Tokens with which a text has no quantiles yet; then the steps begin at these shares of the ceiling."""
CEILING_SHARES = (0.5, 0.75, 1.0)
HOT_LEVEL = 7 / 8
"""The share of a fixed ceiling from which a token is hot."""
GROWTH = 1.25
"""How much longer a text must be for its quantiles to be taken again: then everything on screen is drawn anew."""

MAX_GROWTH = 256
"""Tokens, after so many more of which they are taken again at the latest."""
SPAN = 1024
"""The newest tokens that are looked at for it, at most: of a long recording the rest is not read from its file."""

ROW_SHARES = (0.1, 0.3, 0.6)
"""Of the largest weight of the row (but that of the first key), those from which on each step of the tint begins."""

_spreads: WeakKeyDictionary[StepStore, dict[tuple[str, int], Spread]] = WeakKeyDictionary()
"""Steps -> (metric, how many of them) -> how their values are spread."""


@dataclass(frozen=True)
class TintScale:
    metric: Metric
    cuts: tuple[float, ...]
    """The sizes above which steps 1, 2, ... begin, ascending; none where the ceiling of the metric is the scale."""
    of_text: bool = False
    """Whether they are quantiles of the text."""

    def style(self, paint: Paint, raw: float | None, plain: Style | None = None) -> Style:
        """The style of text with this value; `plain` where it has no colour."""
        if not self.cuts:
            return paint.tint(self.metric.level(raw), plain)
        return paint.calm_tint(self.step(raw), plain)

    def step_style(self, frame: Frame, index: int) -> Style:
        """Of the text of a step."""
        return self.style(frame.paint, middle(frame, index))

    def prompt_style(self, frame: Frame, at: int) -> Style:
        """Of the text of a token of the prompt."""
        column = frame.log.prompt_scores.get(self.metric.prompt, ())
        if at >= len(column) or math.isnan(column[at]):
            return frame.paint.prompt
        return self.style(frame.paint, column[at], frame.paint.prompt)

    def step(self, raw: float | None) -> int:
        """0 for no colour, len(SHARES) for the hot one."""
        return 0 if raw is None or math.isnan(raw) else bisect_left(self.cuts, abs(raw))

    def is_hot(self, raw: float | None) -> bool:
        """Whether it is of those that are to be looked at first: has the hot colour, or is near a fixed ceiling."""
        return self.step(raw) == len(self.cuts) if self.cuts else (self.metric.level(raw) or 0.0) >= HOT_LEVEL

    def legend(self, paint: Paint, bits: bool, short: bool = False) -> list[Part]:
        """The values at which the steps begin, each on the colour of its step; `short`: of the hot one alone, and
        without the distribution."""
        metric, unit = self.metric, paint.ours(self.metric.unit(bits))
        name = f"tint: {metric.name}" + (f" ({metric.distribution})" if metric.distribution and not short else "")
        if not self.cuts:
            return paint.legend(name, "0", f"{metric.top(bits):.3g} {unit}".rstrip(), text=True)
        *calm, hot = (figure(metric.shown(cut, bits)) for cut in self.cuts)
        share = f"{HOT_SHARE} " if self.of_text else ""
        blank = " " if paint.color != "mono" else "a"
        swatches = [(blank if short else f" {cut} ", paint.calm_tint(step)) for step, cut in enumerate(calm, 1)]
        return [
            (name if short else f"{name}  from", paint.dim),
            *(part for swatch in swatches for part in ((" ", paint.base), swatch)),
            (" ", paint.base),
            (f" {share}{hot} {unit} ".replace("  ", " "), paint.calm_tint(len(self.cuts))),
        ]


@dataclass(frozen=True)
class AttentionTint:
    """The row of one query as colours. Weights are shares of the whole row; the first key, which often takes nearly
    all of it, has no colour but a line below it."""

    name: str
    weights: Mapping[int, float] = field(default_factory=dict)
    """Position -> weight, of the keys that are known; the first one not among them."""
    sink: float | None = None
    """What the first key gets; None where that is unknown or nothing."""

    @property
    def cuts(self) -> tuple[float, ...]:
        """The weights from which on steps 1, 2, ... begin."""
        largest = max(self.weights.values(), default=0.0)
        return tuple(share * largest for share in ROW_SHARES) if largest > 0 else ()

    def step(self, position: int) -> int:
        """0 for no colour, len(ROW_SHARES) for the hot one."""
        weight, cuts = self.weights.get(position, 0.0), self.cuts
        return bisect_right(cuts, weight) if cuts else 0

    def style(self, paint: Paint, position: int, plain: Style | None = None) -> Style:
        """Of the token at a position of the context; `plain` where it has no colour."""
        if position == SINK and self.sink is not None:
            return paint.accent + paint.under
        return paint.calm_tint(self.step(position), plain)

    def step_style(self, frame: Frame, index: int) -> Style:
        """Of the text of a step."""
        return self.style(frame.paint, index + (len(frame.log.started.prompt_tokens) if frame.log.started else 0))

    def prompt_style(self, frame: Frame, at: int) -> Style:
        """Of the text of a token of the prompt."""
        return self.style(frame.paint, at, frame.paint.prompt)

    def legend(self, paint: Paint, bits: bool, short: bool = False) -> list[Part]:
        """Which row it is, the weights at which the steps begin, each on its colour, and what the first key gets."""
        if not (self.weights or self.sink):
            return [(f"tint: {self.name} (not known here)", paint.dim)]
        *calm, hot = (figure(cut) for cut in self.cuts or (0.0,))
        blank = " " if paint.color != "mono" else "a"
        parts: list[Part] = [(f"tint: {self.name}" + ("" if short else "  from"), paint.dim)]
        for step, cut in enumerate(calm, 1):
            parts += [(" ", paint.base), (blank if short else f" {cut} ", paint.calm_tint(step))]
        if self.cuts:
            parts += [(" ", paint.base), (f" {hot} ", paint.calm_tint(len(self.cuts)))]
        if self.sink is not None:
            parts += [("  ", paint.base), ("first token" if not short else "first", paint.accent + paint.under)]
            parts.append((f" {figure(self.sink)}", paint.dim))
        return parts


def tint_of(frame: Frame) -> TintScale | AttentionTint:
    """The tint of the text: by a metric, or by what the token under the cursor looked at."""
    return attention_tint(frame) if frame.attention_tint else scale_of(frame)


def attention_tint(frame: Frame) -> AttentionTint:
    """Of the layer and head that are looked at, or the mean of heads where that head is not known at this step."""
    shown = row_of(frame)
    if shown is None:
        head = "mean of heads" if frame.head is None else f"head {frame.head}"
        return AttentionTint(f"attention, layer {frame.layer} {head}")
    (row,) = shown.rows
    return AttentionTint(f"attention, layer {shown.layer} {shown.kind}", dict(row.weights()), row.sink)


def scale_of(frame: Frame, metric: Metric | None = None) -> TintScale:
    """The scale of a metric (that of the tint by default) in the text of a frame."""
    metric = metric or frame.tint
    if not frame.relative:
        return TintScale(metric, ())
    cuts = _spread(frame.log.steps, metric, _basis(len(frame.log.steps), frame.log.state == "ended")).cuts
    if not cuts:
        return TintScale(metric, tuple(metric.ceiling * share for share in CEILING_SHARES))
    return TintScale(metric, cuts, of_text=True)


def middle(frame: Frame, index: int) -> float | None:
    """The value that a step is tinted by, or the middle of its bounds where it is only known between what it lies."""
    return next(middles(frame.log.steps, frame.tint, index, index + 1))


def middles(steps: StepStore, metric: Metric, first: int, last: int) -> Iterator[float | None]:
    """The same of the steps from first to last - 1, as of some metric."""
    bounds = steps.bounds(metric, first, last)
    for index, raw in enumerate(steps.values(metric, first, last), first):
        lies = bounds.get(index) if raw is None else None
        yield raw if lies is None else sum(metric.sizes(*lies)) / 2


def hottest_of(frame: Frame, metric: Metric) -> float | None:
    """The largest size that a text, or its end, is tinted by; None where there is none."""
    steps, n = frame.log.steps, len(frame.log.steps)
    known = _spread(steps, metric, _basis(n, frame.log.state == "ended"))
    newer = (abs(value) for value in middles(steps, metric, known.n, n) if value is not None)
    return max([*newer, *([] if known.hottest is None else [known.hottest])], default=None)


def peak_of(frame: Frame, metric: Metric) -> tuple[int, float] | None:
    """(step, size) of the largest value of a text, or of its end; None where there is none."""
    steps, n = frame.log.steps, len(frame.log.steps)
    known = _spread(steps, metric, _basis(n, frame.log.state == "ended"))
    newer = _peak(steps, metric, known.n, n)
    return max((peak for peak in (known.peak, newer) if peak), key=lambda peak: peak[1], default=None)


def round_up(value: float) -> float:
    """The next larger number that is easily read, 1, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten.

    round_up(9.1) is 10, round_up(0.13) is 0.15; what is not above 0 becomes 1.
    """
    if not 0 < value < math.inf:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        float(f"{step * power:.3g}") for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15) if step * power >= value
    )


def _basis(n: int, ended: bool) -> int:
    """Of n tokens, those whose quantiles are taken: all when the text has ended, else as many as at the last time
    that they were taken. A function of n alone, so that a picture of a moment is the same whenever it is made."""
    if ended:
        return n
    basis = FEW
    while (longer := min(int(basis * GROWTH), basis + MAX_GROWTH)) <= n:
        basis = longer
    return basis if n >= FEW else 0


class Spread(NamedTuple):
    """How the values of the first n tokens of a text are spread, or of the last SPAN of those."""

    n: int
    cuts: tuple[float, ...]
    """The sizes above which at most 1 - share of them lie, for each of SHARES; none where they are too few."""
    peak: tuple[int, float] | None
    """(step, size) of the largest of those that are known."""
    hottest: float | None
    """The largest size, of those too of which bounds are known, by their middle."""


def _spread(steps: StepStore, metric: Metric, n: int) -> Spread:
    known = _spreads.setdefault(steps, {})
    if (metric.name, n) not in known:
        first = max(n - SPAN, 0)
        sizes = sorted(abs(value) for value in middles(steps, metric, first, n) if value is not None)
        at = [math.ceil(share * len(sizes)) - 1 for share in SHARES] if len(sizes) >= FEW else []
        cuts, hottest = tuple(sizes[nth] for nth in at), sizes[-1] if sizes else None
        known[metric.name, n] = Spread(n, cuts, _peak(steps, metric, first, n), hottest)
    return known[metric.name, n]


def _peak(steps: StepStore, metric: Metric, first: int, last: int) -> tuple[int, float] | None:
    sizes = (
        (at, abs(value)) for at, value in enumerate(steps.values(metric, first, last), first) if value is not None
    )
    return max(sizes, key=lambda one: one[1], default=None)
