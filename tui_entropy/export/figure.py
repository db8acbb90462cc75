"""A figure of a run, as one would put it in a paper: uncertainty along the text, heads, blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO

from tui_entropy.core.escape import visible
from tui_entropy.export.recorded_run import Recording
from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.step import normalised

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Array = npt.NDArray[np.float64]

SIZE = (8.0, 7.5)
"""Inches: the width of a page."""
INK, MARK = "#2a4d8f", "#b3541e"
ALONG = ("entropy", "varentropy", "surprisal")
STYLE: Any = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "tui_entropy"}
LABEL, LABEL_ROWS = 6, 5
"""Points of the names of marks, and rows of them above the picture at most."""
LETTER = 0.68
"""Width of a letter, at most on the average, in parts of its size."""
AXES_WIDTH = 470.0
"""Points of the axes that marks stand in, at least."""


def svg(recording: Recording, file: BinaryIO) -> None:
    _save(recording, file, "svg", {"Date": None})


def png(recording: Recording, file: BinaryIO) -> None:
    _save(recording, file, "png", {})


def _save(recording: Recording, file: BinaryIO, form: str, metadata: dict[str, None]) -> None:
    """Raises ModuleNotFoundError without matplotlib."""
    with rc():
        figure(recording).savefig(file, format=form, dpi=200, metadata=metadata)


def rc() -> AbstractContextManager[None]:
    """The settings of matplotlib that a figure is made and saved with."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def figure(recording: Recording) -> Figure:
    """Entropy, varentropy and surprisal over the written tokens; below them heads and norms side by side."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=SIZE, layout="constrained")
    grid = drawn.add_gridspec(len(ALONG) + 1, 2, height_ratios=(*[1] * len(ALONG), 2))
    first = None
    for row, name in enumerate(ALONG):
        axes = drawn.add_subplot(grid[row, :], sharex=first)
        first = first or axes
        _along(axes, recording, BY_NAME[name])
        _marks(axes, recording, named=axes is first)
        axes.tick_params(labelbottom=row == len(ALONG) - 1)
    axes.set_xlabel("written token")
    _heads(drawn.add_subplot(grid[-1, 0]), recording)
    _norms(drawn.add_subplot(grid[-1, 1]), recording)
    name = visible(recording.card.name, in_table=True)
    title = f"{name} · {len(recording.log.steps)} tokens · seed {recording.started.knobs.seed}"
    drawn.suptitle(title, fontsize=9, parse_math=False)
    return drawn


def _along(axes: Axes, recording: Recording, metric: Metric) -> None:
    """A bar for each written token; none where it is unknown."""
    bits = recording.bits
    values = (metric.shown(value, bits) for value in recording.log.steps.values(metric))
    shown = [math.nan if value is None else value for value in values]
    many = len(shown) > 5000  # a picture within the SVG is smaller than so many edges
    axes.fill_between(range(1, len(shown) + 1), shown, step="mid", color=INK, linewidth=0, rasterized=many)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0.5, max(len(shown), 1) + 0.5)
    axes.set_ylabel(f"{metric.name} ({metric.unit(bits)})")


def _marks(axes: Axes, recording: Recording, named: bool) -> None:
    labels = {index: visible(label, in_table=True) for index, label in recording.labels.items()}
    for index in labels:
        axes.axvline(index + 0.5, color=MARK, linewidth=0.7, linestyle="--")
    if not named:
        return
    for index, row, to_left in rows_of(labels, len(recording.log.steps)):
        axes.annotate(
            labels[index], (index + 0.5, 1), (0, 2 + row * LABEL * 1.3),
            xycoords=("data", "axes fraction"), textcoords="offset points",
            va="bottom", ha="right" if to_left else "left", fontsize=LABEL, color=MARK, parse_math=False,
        )  # fmt: skip


def rows_of(labels: Mapping[int, str], n_steps: int) -> Iterator[tuple[int, int, bool]]:
    """(index, row, whether it stands to the left of its mark) of the labels that there is room for, so that none
    covers another: each in the lowest row that is free there. One that finds no row is left out."""
    ends = [0.0] * LABEL_ROWS
    for index, label in sorted(labels.items()):
        at, wide = index / max(n_steps, 1) * AXES_WIDTH, (len(label) + 1) * LABEL * LETTER
        to_left = at + wide > AXES_WIDTH
        begin, end = (at - wide, at) if to_left else (at, at + wide)
        row = next((row for row, last in enumerate(ends) if last <= begin), None)
        if row is not None and begin >= 0:
            ends[row] = end
            yield index, row, to_left


def _heads(axes: Axes, recording: Recording) -> None:
    mean = _mean_heads(recording)
    extent = (0.5, mean.shape[1] + 0.5, 0.5, mean.shape[0] + 0.5)
    picture = axes.imshow(mean, aspect="auto", origin="lower", extent=extent, vmin=0, vmax=1, cmap="viridis")
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    axes.figure.colorbar(picture, ax=axes, label="attention entropy / ln n, mean over tokens")
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)


def _mean_heads(recording: Recording) -> Array:
    """(n_layers, n_heads) mean over steps of entropy / ln n; NaN where a layer has no attention."""
    import numpy as np

    shape = recording.card.n_layers, recording.card.n_heads
    total, known = np.zeros(shape), np.zeros(shape)
    for step in recording.log.steps:
        rows = zip(step.head_entropy.rows(), step.visible_keys, strict=True)
        shares = np.array([normalised(row, keys) for row, keys in rows], dtype=float)
        total += np.nan_to_num(shares)
        known += ~np.isnan(shares)
    mean: Array = np.divide(total, known, out=np.full(shape, np.nan), where=known > 0)
    return mean


def _norms(axes: Axes, recording: Recording) -> None:
    """Per block the median over steps, and the band that half of them are in."""
    import numpy as np
    from matplotlib.ticker import LogLocator, NullFormatter

    blocks = range(1, recording.card.n_layers + 1)
    norms = [np.array(recording.log.steps.norms(block)) for block in blocks]
    if not len(recording.log.steps):
        return
    low, middle, high = np.nanquantile(np.array(norms), (0.25, 0.5, 0.75), axis=1)
    axes.fill_between(blocks, low, high, color=INK, alpha=0.25, linewidth=0, label="quartiles over tokens")
    axes.plot(blocks, middle, color=INK, linewidth=1, label="median over tokens")
    axes.set_xlabel("block")
    axes.set_ylabel("residual stream (L2 norm)")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False)
