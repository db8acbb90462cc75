"""TintScale: the step of colour of a value, by where it stands among the values of its text or by a fixed ceiling."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

from rich.style import Style

from tui_entropy.metrics.metric import Metric
from tui_entropy.state.step_store import StepStore
from tui_entropy.ui.drawing.paint import Paint, Part, figure
from tui_entropy.ui.views.frame import Frame

SHARES = (0.5, 0.8, 0.95)
"""Of the tokens of a text, those up to which each step of the tint begins: half of a text has no colour, and one in
twenty has the hot one."""
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
        share = f"top {100 * (1 - SHARES[-1]):.0f} % " if self.of_text else ""
        blank = " " if paint.color != "mono" else "a"
        swatches = [(blank if short else f" {cut} ", paint.calm_tint(step)) for step, cut in enumerate(calm, 1)]
        return [
            (name if short else f"{name}  from", paint.dim),
            *(part for swatch in swatches for part in ((" ", paint.base), swatch)),
            (" ", paint.base),
            (f" {share}{hot} {unit} ".replace("  ", " "), paint.calm_tint(len(self.cuts))),
        ]


def scale_of(frame: Frame, metric: Metric | None = None) -> TintScale:
    """The scale of a metric (that of the tint by default) in the text of a frame."""
    metric = metric or frame.tint
    if not frame.relative:
        return TintScale(metric, ())
    cuts = _spread(frame.log.steps, metric, _basis(len(frame.log.steps), frame.log.state == "ended")).cuts
    if not cuts:
        return TintScale(metric, tuple(metric.ceiling * share for share in CEILING_SHARES))
    return TintScale(metric, cuts, of_text=True)


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
    """(step, size) of the largest."""


def _spread(steps: StepStore, metric: Metric, n: int) -> Spread:
    known = _spreads.setdefault(steps, {})
    if (metric.name, n) not in known:
        first = max(n - SPAN, 0)
        sizes = sorted(abs(value) for value in steps.values(metric, first, n) if value is not None)
        at = [math.ceil(share * len(sizes)) - 1 for share in SHARES] if len(sizes) >= FEW else []
        known[metric.name, n] = Spread(n, tuple(sizes[nth] for nth in at), _peak(steps, metric, first, n))
    return known[metric.name, n]


def _peak(steps: StepStore, metric: Metric, first: int, last: int) -> tuple[int, float] | None:
    sizes = (
        (at, abs(value)) for at, value in enumerate(steps.values(metric, first, last), first) if value is not None
    )
    return max(sizes, key=lambda one: one[1], default=None)
