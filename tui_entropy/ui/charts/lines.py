"""Lines through points as rows of glyphs."""

from __future__ import annotations

from collections.abc import Iterable

Points = tuple[list[float], list[float]] | tuple[list[int], list[float]]
"""Places and values of what is joined."""


def drawn_lines(
    stretches: Iterable[Points],
    x: tuple[float, float],
    y: tuple[float, float],
    width: int,
    high: int,
    ascii_only: bool,
) -> list[str]:
    """`high` rows, each `width` wide, from the top down. x, y: what lies at the edges. No point may lie beyond them:
    every dot on the way to it would be drawn."""
    import plotext

    plotext.main()  # the figure that holds all, and not the last one drawn on
    plotext.clear_figure()
    plotext.limitsize(False, False)
    plotext.plotsize(width, high)
    plotext.theme("clear")
    plotext.frame(False)
    plotext.xaxes(False, False)
    plotext.yaxes(False, False)
    plotext.xticks([])
    plotext.yticks([])
    plotext.xlim(*x)
    plotext.ylim(*y)
    for places, values in stretches:
        plotext.plot(places, values, marker="*" if ascii_only else "braille")
    rows = plotext.uncolorize(plotext.build()).split("\n")[:high]
    blank = [" " * width] * high  # which plotext leaves out where there is nothing to plot
    return [row.ljust(width)[:width] for row in [*rows, *blank][:high]]
