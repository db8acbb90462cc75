"""Curves of results as a picture, as one would put it in a paper."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tui_entropy.core.errors import UserError
from tui_entropy.core.escape import visible
from tui_entropy.export.figure import INK, MARK, rc
from tui_entropy.metrics.metric import LN2
from tui_entropy.records.corpus.results import Curve, CurveChart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMS = (".svg", ".png", ".pdf")
EACH = 4.0
"""Inches of a picture, along either side of a chart."""
MAX_CHARTS = 6
FAINT = "#9aa3b5"
LOOKS = {0: (FAINT, 0.5, 0.5), 1: (INK, 1.4, 1.0), 2: (MARK, 1.0, 1.0)}
"""Colour, width in points and opacity, by emphasis."""


def check_picture(path: Path) -> None:
    """Raise UserError for a name of a form that cannot be drawn."""
    if path.suffix not in FORMS:
        raise UserError(f"--plot {path}: wanted a name that ends in {', '.join(FORMS)}")


def write_charts(charts: tuple[CurveChart, ...], path: Path, bits: bool = True) -> None:
    """Charts side by side in a file. Raises UserError for a name of another form, for a file that cannot be written
    and without matplotlib."""
    check_picture(path)
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError("pictures of curves need matplotlib: pip install 'tui-entropy[plots]'") from None
    shown = charts[:MAX_CHARTS]
    columns = min(len(shown), 3)
    rows = -(-len(shown) // max(columns, 1))
    with rc():
        figure = Figure(figsize=(EACH * columns, EACH * rows), layout="constrained")
        for place, chart in enumerate(shown, 1):
            _draw(figure.add_subplot(rows, columns, place), chart, bits)
        metadata = (
            {"Date": None} if path.suffix == ".svg" else {"CreationDate": None} if path.suffix == ".pdf" else {}
        )
        try:
            figure.savefig(path, dpi=200, metadata=metadata)
        except OSError as refused:
            raise UserError(f"{path} cannot be written ({refused.strerror}): name another file") from refused


def _draw(axes: Axes, chart: CurveChart, bits: bool) -> None:
    factor, unit = _shown(chart.y.unit, bits)
    if chart.low:
        low, high = ([math.nan if v is None else factor * v for v in edge] for edge in (chart.low, chart.high))
        axes.fill_between(chart.curves[0].x, low, high, color=FAINT, alpha=0.3, linewidth=0)
    named: set[str] = set()
    for curve in sorted(chart.curves, key=lambda curve: (curve.emphasis != 0, curve.emphasis != 2)):
        _line(axes, curve, factor, named)
    axes.set_title(_plain(chart.title))
    axes.set_xlabel(_plain(chart.x))
    axes.set_ylabel(_plain(f"{chart.y.name} ({unit})" if unit else chart.y.name))
    if named:
        axes.legend(frameon=False)


def _line(axes: Axes, curve: Curve, factor: float, named: set[str]) -> None:
    colour, width, opacity = LOOKS[curve.emphasis]
    label = _plain(curve.name) if curve.emphasis and curve.name not in named else None
    named.update([curve.name] if label else [])
    values = [math.nan if value is None else factor * value for value in curve.y]
    marker = "o" if curve.emphasis == 1 else None
    axes.plot(curve.x, values, color=colour, linewidth=width, alpha=opacity, label=label, marker=marker, markersize=3)


def _shown(unit: str, bits: bool) -> tuple[float, str]:
    """What values are multiplied by, and the unit that they then have."""
    power = {"nats": 1, "nats²": 2}.get(unit, 0) if bits else 0
    return (100.0, "%") if unit == "share" else (LN2**-power, unit.replace("nats", "bits") if bits else unit)


def _plain(text: str) -> str:
    """Without what matplotlib takes for a formula."""
    return visible(text).replace("$", r"\$")
