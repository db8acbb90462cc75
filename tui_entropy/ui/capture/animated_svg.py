"""A film as one SVG file that plays wherever pictures are shown, a README among them: no script, no font to fetch.

Every screen is a group that draws only the cells which changed, over those before it, and stays until the film begins
again. Without animation, in a viewer that has none or for a person who asks for reduced motion, all groups show: that
is the last screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from textual.strip import Strip

from tui_entropy.ui.capture.moment import Moment

WIDE, HIGH, BASELINE, FONT = 12, 24, 18, 20
"""Units of a cell, and of its letters, which are 0.6 of their size wide."""
MARGIN = 12
SHOWN_AT = 0.75
"""Pixels of a unit."""
REST = 3.0
"""Seconds that the last screen stays."""
APART = 0.1
"""Seconds between two screens, at least: what changes faster nobody reads."""
NEAR = 2
"""Cells between two that changed which are drawn with them: fewer than another piece would cost."""
LONG = 4
"""Cells of a text from which on it says how wide it is: fonts differ a little, which shows in long ones."""

EIGHTHS_UP = {glyph: n for n, glyph in enumerate("▁▂▃▄▅▆▇█", 1)}
EIGHTHS_RIGHT = {glyph: 8 - n for n, glyph in enumerate("▉▊▋▌▍▎▏", 1)}


class Cell(NamedTuple):
    glyph: str
    """Empty for the second half of a wide one."""
    ink: str
    ground: str
    bold: bool
    underline: bool


class AnimatedSvg:
    """A film, screen after screen. The same screens give the same bytes."""

    def __init__(self, size: tuple[int, int], title: str, theme: TerminalTheme) -> None:
        self._size, self._title, self._theme = size, title, theme
        self._ground = theme.background_color.hex
        self._looks: dict[Style | None, tuple[str, str, bool, bool]] = {}
        self._classes: dict[str, str] = {}
        """Declaration -> class."""
        self._shown: list[list[Cell]] = []
        self._groups: list[tuple[float, str]] = []
        self._waiting: Moment | None = None
        self._due = 0.0
        """When the next screen can be drawn."""

    def take(self, moment: Moment) -> None:
        """The next screen. Of those that follow each other too fast the last is drawn."""
        if self._waiting is not None and moment.at > self._due:
            self._draw(self._due, self._waiting)
        self._waiting = moment
        if moment.at >= self._due:
            self._draw(moment.at, moment)

    def text(self) -> str:
        """The file."""
        if self._waiting is not None:
            self._draw(self._due, self._waiting)
        columns, rows = self._size
        width, height = columns * WIDE + 2 * MARGIN, rows * HIGH + 2 * MARGIN
        seconds = (self._groups[-1][0] if self._groups else 0.0) + REST
        frames, body = [], []
        for n, (at, drawn) in enumerate(self._groups):
            if at == 0:
                body.append(f"<g>{drawn}</g>")
                continue
            frames.append(
                f"@keyframes k{n}{{0%{{visibility:hidden}}{100 * at / seconds:.4g}%,to{{visibility:visible}}}}"
            )
            body.append(f'<g style="animation-name:k{n}">{drawn}</g>')
        styles = [f".{name}{{{declaration}}}" for declaration, name in self._classes.items()]
        return "".join([
            '<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" '
            f'viewBox="{-MARGIN} {-MARGIN} {width} {height}" '
            f'width="{width * SHOWN_AT:.0f}" height="{height * SHOWN_AT:.0f}">',
            f"<title>{escape(self._title)}</title><style>",
            f"text{{font:{FONT}px 'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace}}",
            f"g{{animation:{seconds:.4g}s step-end infinite}}",
            "path{shape-rendering:crispEdges}",
            "@media(prefers-reduced-motion){g{animation:none}}",
            *styles, *frames, "</style>",
            f'<path fill="{self._ground}" d="M{-MARGIN} {-MARGIN}h{width}v{height}h{-width}z"/>',
            *body, "</svg>\n",
        ])  # fmt: skip

    # --- One screen --------------------------------------------------------------------------------------------

    def _draw(self, at: float, moment: Moment) -> None:
        self._waiting, self._due = None, at + APART
        cells = [self._cells(row) for row in moment.rows]
        layers = Layers()
        for y, row in enumerate(cells):
            before = self._shown[y] if y < len(self._shown) else self._cells(Strip([]))
            for first, last in changed_runs(before, row):
                layers.cover(row, before, range(first, last), y)
                for x, n in _pieces(row, first, last):
                    layers.draw(row[x : x + n], x, y)
        self._shown = cells
        if drawn := layers.drawn(self._class):
            self._groups.append((round(at, 3), drawn))

    def _cells(self, row: Strip) -> list[Cell]:
        """As many as the screen is wide."""
        cells: list[Cell] = []
        for text, style, control in row.adjust_cell_length(self._size[0]):
            if not control:
                look = self._look(style)
                for glyph in text:
                    wide = cell_len(glyph)
                    if wide:
                        cells += [Cell(glyph, *look), *[Cell("", *look)] * (wide - 1)]
                    elif cells:  # a mark that stands over the letter before
                        cells[-1] = cells[-1]._replace(glyph=cells[-1].glyph + glyph)
        return cells

    def _look(self, style: Style | None) -> tuple[str, str, bool, bool]:
        """(ink, ground, bold, underlined)."""
        if style not in self._looks:
            known = style or Style()
            colors = known.color or Color.default(), known.bgcolor or Color.default()
            ink, ground = ("#{:02x}{:02x}{:02x}".format(*each.get_truecolor(self._theme, n == 0))
                           for n, each in enumerate(colors))  # fmt: skip
            if known.reverse:
                ink, ground = ground, ink
            self._looks[style] = ink, ground, bool(known.bold), bool(known.underline)
        return self._looks[style]

    def _class(self, declaration: str) -> str:
        return self._classes.setdefault(declaration, f"c{len(self._classes)}")


class Layers:
    """What one screen draws over the one before: grounds, blocks on them as thick lines, so that they look alike in
    every font, and text."""

    def __init__(self) -> None:
        self._grounds: dict[str, list[str]] = {}
        """Colour -> lines as high as a row."""
        self._rows: dict[str, list[str]] = {}
        self._columns: dict[str, dict[int, list[tuple[int, int]]]] = {}
        """Colour -> column -> (from, to) of lines as wide as a cell."""
        self._words: dict[tuple[int, str], list[tuple[int, str]]] = {}
        """(row, look) -> (column, text) of short ones."""

    def cover(self, row: Sequence[Cell], before: Sequence[Cell], columns: range, y: int) -> None:
        """The grounds of cells, where something else is there."""
        for ground, run in groupby(columns, key=lambda x: row[x].ground):
            cells = list(run)
            if any(before[x].ground != ground or before[x].glyph != " " or before[x].underline for x in cells):
                self._grounds.setdefault(ground, []).append(_line(cells[0] * WIDE, y, len(cells) * WIDE))

    def draw(self, cells: Sequence[Cell], x: int, y: int) -> None:
        """A piece."""
        cell, n = cells[0], len(cells)
        if cell.glyph in EIGHTHS_RIGHT:
            self._rows.setdefault(cell.ink, []).append(_line(x * WIDE, y, WIDE * EIGHTHS_RIGHT[cell.glyph] / 8))
        elif cell.glyph == "█" and n > 1:
            self._rows.setdefault(cell.ink, []).append(_line(x * WIDE, y, n * WIDE))
        elif cell.glyph in EIGHTHS_UP or cell.glyph == "▀":
            top = y * HIGH if cell.glyph == "▀" else (y + 1) * HIGH - HIGH * EIGHTHS_UP[cell.glyph] // 8
            end = top + HIGH // 2 if cell.glyph == "▀" else (y + 1) * HIGH
            for column in range(x, x + n):
                lines = self._columns.setdefault(cell.ink, {}).setdefault(column, [])
                if lines and lines[-1][1] == top:  # it goes on from the row above
                    top_of_it, _ = lines.pop()
                    lines.append((top_of_it, end))
                else:
                    lines.append((top, end))
        else:
            self._write(cells, x, y)

    def _write(self, cells: Sequence[Cell], x: int, y: int) -> None:
        ink, bold, line = cells[0].ink, cells[0].bold, cells[0].underline
        look = f"fill:{ink}" + ";font-weight:bold" * bold + ";text-decoration:underline" * line
        self._words.setdefault((y, look), []).append((x, "".join(cell.glyph for cell in cells)))

    def drawn(self, name: Callable[[str], str]) -> str:
        """The elements, the lowest first. name: a look -> its class."""
        rows = f"stroke-width:{HIGH}"
        paths = [
            (name(f"stroke:{color};{rows}"), "".join(lines))
            for layer in (self._grounds, self._rows)
            for color, lines in layer.items()
        ]
        for color, columns in self._columns.items():
            lines = (
                f"M{column * WIDE + WIDE // 2} {top}v{end - top}"
                for column, ranges in columns.items()
                for top, end in ranges
            )
            paths.append((name(f"stroke:{color};stroke-width:{WIDE}"), "".join(lines)))
        drawn = [f'<path class="{each}" d="{lines}"/>' for each, lines in paths]
        return "".join([*drawn, *(self._line(name(look), y, words) for (y, look), words in self._words.items())])

    @staticmethod
    def _line(name: str, y: int, words: Sequence[tuple[int, str]]) -> str:
        """Texts of one look in one row. One that must say how wide it is has an element of its own, since not every
        browser lets a part of one do so."""
        start, drawn, short = f'<text class="{name}" y="{y * HIGH + BASELINE}"', [], []
        for x, text in words:
            if (wide := cell_len(text)) >= LONG:
                drawn.append(f'{start} x="{x * WIDE}" textLength="{wide * WIDE}">{escape(text, quote=False)}</text>')
            else:
                short.append((x * WIDE, escape(text, quote=False)))
        if len(short) == 1:
            drawn.append(f'{start} x="{short[0][0]}">{short[0][1]}</text>')
        elif short:
            parts = "".join(f'<tspan x="{x}">{text}</tspan>' for x, text in short)
            drawn.append(f"{start}>{parts}</text>")
        return "".join(drawn)


def changed_runs(before: Sequence[Cell], row: Sequence[Cell]) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of the cells that differ, near ones together, with both halves of wide letters."""
    first = last = -1
    for x, cell in enumerate(row):
        if x < len(before) and before[x] == cell:
            continue
        begin, end = x, x + 1
        while begin > 0 and (not row[begin].glyph or (begin < len(before) and not before[begin].glyph)):
            begin -= 1
        while end < len(row) and (not row[end].glyph or (end < len(before) and not before[end].glyph)):
            end += 1
        if first >= 0 and begin - last <= NEAR:
            last = max(last, end)
        else:
            if first >= 0:
                yield first, last
            first, last = begin, end
    if first >= 0:
        yield first, last


def _pieces(row: Sequence[Cell], first: int, last: int) -> Iterator[tuple[int, int]]:
    """(first cell, how many) of what is drawn at once: a text of one look without the blanks at its ends, or blocks
    that are alike. A wide letter stands alone, since where the next one begins hangs on the font."""
    x = first
    while x < last:
        cell, end = row[x], x + 1
        if cell.glyph in EIGHTHS_UP or cell.glyph == "▀":
            while end < last and row[end][:2] == cell[:2]:
                end += 1
        elif not cell.glyph.strip() and not cell.underline:
            x = end
            continue
        elif end < last and not row[end].glyph:
            end += 1
        elif cell.glyph not in EIGHTHS_RIGHT:
            while end < last and _follows(row, end, cell):
                end += 1
            while not cell.underline and row[end - 1].glyph == " ":
                end -= 1
        yield x, end - x
        x = end


def _follows(row: Sequence[Cell], x: int, cell: Cell) -> bool:
    """Whether a cell is of the text that `cell` begins. A blank has no ink."""
    here = row[x]
    is_wide = x + 1 < len(row) and not row[x + 1].glyph
    is_block = here.glyph in EIGHTHS_UP or here.glyph in EIGHTHS_RIGHT or here.glyph in ("▀", "")
    alike = (here.ink, here.bold) == (cell.ink, cell.bold) or here.glyph == " "
    return alike and here.underline == cell.underline and not is_block and not is_wide


def _line(x: int, y: int, wide: float) -> str:
    """Along a row."""
    return f"M{x} {y * HIGH + HIGH // 2}h{wide:g}"
