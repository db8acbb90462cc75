"""The pictures of an analysis: trajectories through the layers, by matplotlib, which is imported to draw one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tui_entropy.analysis.corpus.layer_metrics import LayerMetric

Floats = npt.NDArray[np.float64]
MISSING = "no plots are drawn, since matplotlib is not installed: pip install 'tui-entropy[plots]', and run it again"
STANDARD, CONTROL, CHANGE = "tab:blue", "tab:red", "tab:purple"
PERPLEXITIES = "layer_perplexities"
"""Those of inner layers are so large that a plain scale shows nothing else."""
MOST_LINES = 500
"""Sentences that are drawn one by one; the mean is of all."""


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def trajectories(path: Path, title: str, metric: LayerMetric, table: Floats) -> None:
    """One panel: each sentence, the mean in black, a standard deviation to both sides in grey.

    table: (sentences, layers).
    """
    figure, (axes,) = _panels(1)
    _draw(axes, title, metric, table, STANDARD)
    _save(figure, path)


def comparison(path: Path, title: str, metric: LayerMetric, standard: Floats, control: Floats) -> None:
    """Both side by side, on the same scale."""
    figure, axes = _panels(2, share=True)
    _draw(axes[0], f"{title}: standard", metric, standard, STANDARD)
    _draw(axes[1], f"{title}: control", metric, control, CONTROL)
    _save(figure, path)


def differences(path: Path, title: str, metric: LayerMetric, standard: Floats, control: Floats) -> None:
    """Each sentence's change, and the mean size of it at each layer."""
    figure, axes = _panels(2)
    change = control - standard
    _draw(axes[0], f"{title}: control - standard", metric, change, CHANGE)
    axes[0].axhline(0, color="0.4", linewidth=0.8, linestyle=":")
    axes[1].bar(_layers(metric, change), np.abs(change).mean(0), color=CHANGE)
    axes[1].set(title="mean size of the change", xlabel="layer")
    if metric.name == PERPLEXITIES:
        axes[1].set_yscale("symlog")
    _save(figure, path)


def _panels(n: int, share: bool = False) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 5.5 * n, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, np.atleast_1d(figure.subplots(1, n, sharey=share))


def _layers(metric: LayerMetric, table: Floats) -> Floats:
    return np.arange(metric.first, metric.first + table.shape[1])


def _draw(axes: Any, title: str, metric: LayerMetric, table: Floats, colour: str) -> None:
    layers, mean = _layers(metric, table), table.mean(0)
    spread = table.std(0)
    axes.plot(layers, table[:MOST_LINES].T, color=colour, alpha=max(0.08, min(0.4, 8 / len(table))), linewidth=0.8)
    axes.fill_between(layers, mean - spread, mean + spread, color="0.5", alpha=0.3, linewidth=0)
    axes.plot(layers, mean, color="black", linewidth=1.8)
    if metric.name == PERPLEXITIES:
        axes.set_yscale("log" if (table > 0).all() else "symlog")
    axes.set_title(title.replace("$", r"\$"), fontsize="medium")
    axes.set(xlabel="layer" if metric.first else "layer (0 is the embedding)", ylabel=metric.title)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _save(figure: Any, path: Path) -> None:
    # Straight to the canvas, since savefig draws twice. The same bytes, whatever version drew it.
    figure.canvas.print_png(path, metadata={"Software": None})
