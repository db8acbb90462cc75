"""Rows of text as a table for people: columns side by side, whatever the cells hold on one line each."""

from __future__ import annotations

from collections.abc import Sequence

from tui_entropy.core.escape import visible


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    shown = [[visible(cell, in_table=True) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in shown]
