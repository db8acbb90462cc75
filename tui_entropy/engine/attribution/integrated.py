"""Integrated gradients along a straight path, refined where it does not add up (Sundararajan et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

FIRST_CELLS = 4
CALM = 3
"""Times after another that the gap must be small: it may be so once by luck."""


class Point(NamedTuple):
    """The target at a place of the path, and how it grows along each dimension there."""

    at: float
    value: float
    gradient: Tensor
    """(n, d)"""


@dataclass(frozen=True)
class Integrated:
    attributions: Tensor
    """(n,) of each token."""
    value: float
    """The target at the text itself."""
    baseline: float
    """The same at the other end of the path."""
    steps: int
    """Gradients that were computed."""

    @property
    def gap(self) -> float:
        """What the attributions miss of the difference that they should sum to."""
        return float(self.attributions.sum()) - (self.value - self.baseline)

    @property
    def gap_share(self) -> float:
        return abs(self.gap) / max(abs(self.value - self.baseline), 1e-9)


def integrated_gradients(
    gradient: Callable[[Tensor], tuple[float, Tensor]],
    vectors: Tensor,
    baseline: Tensor,
    wanted: float,
    budget: int,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Integrated:
    """Integrate from a baseline to a text, both (n, d), with more and more steps until the gap is small enough.

    What two places of the path differ by is known to the target itself, so it is known where the sum is off: a
    cell is halved where it misses most, and what was computed before is kept. wanted: the gap, as a share of the
    whole difference, that ends it once it stays so small. budget: gradients that may be computed at most.
    """
    path = vectors - baseline

    def point(at: float) -> Point:
        return Point(at, *gradient(baseline + at * path))

    def cell(first: Point, middle: Point, last: Point) -> Cell:
        slopes = [float((one.gradient * path).sum()) for one in (first, middle, last)]
        integral = (slopes[0] + 4 * slopes[1] + slopes[2]) * (last.at - first.at) / 6
        return Cell(first, middle, last, integral - (last.value - first.value))

    points: list[Point] = []
    for n in range(2 * FIRST_CELLS + 1):
        progress(n, budget)
        points.append(point(n / (2 * FIRST_CELLS)))
    cells = [cell(*points[n : n + 3]) for n in range(0, 2 * FIRST_CELLS, 2)]
    n_calm = 0
    while True:
        found = _summed(cells, path)
        n_calm = n_calm + 1 if found.gap_share <= wanted else 0
        if n_calm == CALM or found.steps + 2 > budget:
            return found
        progress(found.steps, budget)
        worst = max(range(len(cells)), key=lambda n: abs(cells[n].miss))
        first, middle, last, _ = cells[worst]
        cells[worst : worst + 1] = [
            cell(first, point((first.at + middle.at) / 2), middle),
            cell(middle, point((middle.at + last.at) / 2), last),
        ]


class Cell(NamedTuple):
    """A stretch of the path with its middle."""

    first: Point
    middle: Point
    last: Point
    miss: float
    """By how much its integral is off what the target itself says of the two ends."""

    @property
    def integral(self) -> Tensor:
        """(n, d) of the gradient, by Simpson's rule."""
        weighted: Tensor = self.first.gradient + 4 * self.middle.gradient + self.last.gradient
        return weighted * ((self.last.at - self.first.at) / 6)


def _summed(cells: Sequence[Cell], path: Tensor) -> Integrated:
    total = torch.stack([cell.integral for cell in cells]).sum(0)
    return Integrated((total * path).sum(-1), cells[-1].last.value, cells[0].first.value, 2 * len(cells) + 1)
