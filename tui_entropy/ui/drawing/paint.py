"""Paint: numbers and names turned into styles, bars, sparks and glyphs, as this terminal can show them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from operator import ge, le
from typing import Literal

from rich.color import Color, blend_rgb
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui_entropy.ui.drawing.contrast import ink_on
from tui_entropy.ui.drawing.glyphs import OF_NUMBERS, cells, fitted, visible
from tui_entropy.ui.drawing.items import place
from tui_entropy.ui.drawing.theme import Theme, load

ColorMode = Literal["truecolor", "256", "16", "mono"]

EIGHTHS = " ▏▎▍▌▋▊▉█"
HUGE = 1e6
"""From which on a number is written with a power of ten."""
SPARKS = "▁▂▃▄▅▆▇█"
SPARKS_ASCII = ".:-=+*%#"
SHADES = " ░▒▓█"
SHADES_ASCII = " .:-=+*#"
SPELT = str.maketrans({
    "²": "^2", "σ": "sigma", "√": "sqrt ", "→": "->", "←": "<-", "↑": "^", "↓": "v", "±": "+-", "·": "|", "…": "...",
    "≈": "~", "≠": "!", "×": "x", "‹": "<", "›": ">", "●": "*", "○": "o", "⏎": "\\n", "⇥": "\\t",
})  # fmt: skip
MONO_CALM = ("", "bold", "underline", "bold underline")
MONO_TINT = ("", "", "", "bold", "bold", "underline", "underline", "bold underline")

Part = tuple[str, Style]
Group = str | list[Part] | tuple[list[Part], ...]
"""What stands in a line whole or not at all: a text, its parts, or those of each of its forms, the longest first."""


def size_of(parts: Iterable[tuple[str, object]]) -> int:
    """Cells that texts take, each with whatever goes with it."""
    return sum(cells(text) for text, _ in parts)


def figure(value: float | None) -> str:
    """A number for a table, in at most eight cells; `?` where it is unknown."""
    if value is None or not math.isfinite(value):
        return "?"
    size = abs(value)
    if size >= HUGE:
        return f"{value:.1e}"
    return (
        f"{value:.{0 if size >= 1000 else 1 if size >= 100 else 2}f}" if size >= 0.01 or not value else f"{value:.1g}"
    )


def bounds_figure(low: float, high: float, room: int) -> str:
    """Two bounds for a table, such as 2.1…3.4, as exact as there is room for."""
    for digits in (3, 2, 1):
        text = f"{low:.{digits}g}…{high:.{digits}g}"
        if len(text) <= room:
            break
    return text


class Paint:
    """A theme as a terminal can show it. Styles are made once; a level is 0 ... 1, None where unknown.

    Unknown is always drawn as `?`, never as an empty or full mark.
    """

    def __init__(
        self, theme: Theme | None = None, color: ColorMode = "truecolor", ascii: bool = False, styled: bool = True
    ) -> None:
        """styled: whether anything of a style is seen, if only bold; in a file without colours nothing is."""
        self.theme = theme or load("dark")
        self.styled = styled
        self.color = color
        self.ascii = ascii
        self.rich = color in ("truecolor", "256")
        """Whether a cell's background alone can carry a level."""
        look = self.theme.look(color)

        ground = self.theme.chrome.get("background") if self.rich else None
        self.ground = Style(bgcolor=ground)

        def style(name: str) -> Style:
            parsed = Style.parse(look.styles[name])
            return parsed.without_color if color == "mono" else self.ground + parsed

        self.base, self.dim, self.title, self.focused = map(style, ("base", "dim", "title", "focused"))
        self.number, self.accent, self.good = map(style, ("number", "accent", "good"))
        self.warning, self.error, self.cursor = map(style, ("warning", "error", "cursor"))
        self.selected, self.mark, self.rule = map(style, ("selected", "mark", "rule"))
        self.prompt, self.role, self.model, self.final = map(style, ("prompt", "role", "model", "final"))
        self.match = style("match")
        """What a search finds."""
        self.under, self.faint = Style(underline=True), Style(dim=True)
        """To be laid over another style."""
        if color == "mono":
            self.cursor = Style(bold=True, reverse=True)
        self.column = self.cursor
        """The cursor's column of a chart."""
        if self.rich:
            self.column = Style(color=self.cursor.bgcolor, bgcolor=self.theme.chrome.get("panel"), bold=True)
        self._ramp_styles = self._ramp(look.ramps["heat"])
        self.n_ramp_steps = len(self._ramp_styles)
        self._tint = [self.base, *(self._inked(style) for style in self._ramp_styles[1:])]
        self._calm = [self.base, *(self._inked(style) for style in self._ramp(look.ramps["tint"]))]
        self.hot = self._ramp(look.ramps["tint"])[-1]
        """The hot colour of the tint, for marks."""
        if color == "mono":
            self._calm = [self.base + Style.parse(text) for text in MONO_CALM]
            self._tint = [self.base + Style.parse(text) for text in MONO_TINT]
        self._bare: dict[Style, Style] = {}
        self._raised, self._lowered = self._lighter(self.final), self._lighter(self.model)
        self._cells = [self._inked(style) for style in self._ramp_styles]
        self._blanks = [Style(bgcolor=style.color) for style in self._ramp_styles]  # no ink costs half the bytes
        self._pairs = [[Style(color=a.color, bgcolor=b.color) for b in self._ramp_styles] for a in self._ramp_styles]
        self.shades = SHADES_ASCII if ascii else SHADES
        self.sparks = SPARKS_ASCII if ascii else SPARKS
        self.bars = "#+-" if ascii else "█▒░"
        """Of two shares in one bar: both, the final one alone, the model alone."""
        self.between_bounds = ":" if ascii else "░"
        self.ellipsis = "~" if ascii else "…"
        self.drawn = ">" if ascii else "▶"
        self.diamond = "@" if ascii else "◆"
        self.pin = "^" if ascii else "┴"
        self.foreign = "!" if ascii else "≠"
        self.newline = "\\n" if ascii else "⏎"
        self.up, self.down = ("^", "v") if ascii else ("↑", "↓")
        self.dot_on, self.dot_off = ("*", "o") if ascii else ("●", "○")
        self.line, self.double, self.wall = ("-", "=", "|") if ascii else ("─", "═", "│")
        self.trusted: dict[str, Part] = {
            "exact": (" =", self.good),
            "approximate": (" ~" if ascii else " ≈", self.warning),
            "unchecked": (" ?", self.warning),
            "unavailable": (" x" if ascii else " ×", self.error),
        }
        """The mark of each level of trust."""
        self.root = "sqrt " if ascii else "√"
        self.arrow = "->" if ascii else "→"
        self.times = "x" if ascii else "×"
        self.between = " | " if ascii else " · "

    def step(self, level: float, steps: int | None = None) -> int:
        """Which of `steps` equal steps (those of the heat ramp by default) a level falls in."""
        steps = steps or self.n_ramp_steps
        return min(int(max(level, 0.0) * steps), steps - 1)

    def tint(self, level: float | None, plain: Style | None = None) -> Style:
        """For text: the least step is `plain`, the others colour the ground, or where there is no colour the letters'
        weight."""
        step = 0 if level is None else self.step(level, len(self._tint))
        return self._tint[step] if step else plain or self.base

    def calm_tint(self, step: int, plain: Style | None = None) -> Style:
        """For text: 0 is `plain`, the last step the hot colour."""
        return self._calm[step] if step else plain or self.base

    def ramp_style(self, level: float | None) -> Style:
        """For marks: the ramp as foreground."""
        return self.dim if level is None else self._ramp_styles[self.step(level)]

    def cell(self, level: float | None, width: int = 1, mark: str = "") -> Part:
        """A cell of a grid, with an optional mark of one cell at its right end."""
        mark = mark[:width]
        if level is None or not math.isfinite(level):
            return "?".ljust(width), self.dim
        if self.rich:
            return mark.rjust(width), (self._cells if mark else self._blanks)[self.step(level)]
        return self.shade(level) * (width - len(mark)) + mark, self._ramp_styles[self.step(level)]

    def halves(self, upper: int | None, lower: int | None, n: int = 1) -> Part:
        """n cells with two steps of the heat ramp in each, None for nothing. Only where `rich` and not `ascii`."""
        if upper is None and lower is None:
            return " " * n, self.base
        if lower is None or upper is None:
            return (
                ("▀" * n, self._ramp_styles[upper]) if upper is not None else ("▄" * n, self._ramp_styles[lower or 0])
            )
        return (" " * n, self._blanks[upper]) if upper == lower else ("▀" * n, self._pairs[upper][lower])

    def ours(self, text: str) -> str:
        """A name or a unit of ours, without letters that plain ASCII lacks."""
        return text.translate(SPELT) if self.ascii else text

    def shade(self, level: float) -> str:
        return self.shades[self.step(level, len(self.shades))]

    def spark(self, level: float | None, row: int = 0, rows: int = 1) -> str:
        """The glyph of one column in row `row` (0 the lowest) of a spark `rows` high. The least level still shows."""
        if level is None or not math.isfinite(level):
            return "?" if row == 0 else " "
        eighths = max(round(level * rows * 8), 1) - row * 8
        return " " if eighths <= 0 else self.sparks[min(eighths, 8) - 1]

    def band(self, low: float, high: float, row: int = 0, rows: int = 1) -> str:
        """The same of a level between two: full where it is below the lower one, shaded on to the upper one."""
        if (row + 1) / rows <= low:
            return self.sparks[-1]
        return self.between_bounds if row / rows < high or row == 0 else " "

    def course(self, values: Sequence[float | None]) -> str:
        """A spark of one row, from the least to the most of these values; the same all along where they are equal."""
        known = [value for value in values if value is not None and math.isfinite(value)]
        low, high = min(known, default=0.0), max(known, default=0.0)
        span = high - low or 1.0
        return "".join(self.spark(None if value is None else (value - low) / span) for value in values)

    def bar(self, share: float, width: int) -> str:
        """`share` of `width` cells, filled from the left to an eighth of a cell; something shows for any share."""
        if math.isnan(share):
            return "?".ljust(width)
        share = min(max(share, 0.0), 1.0)
        if self.ascii:
            full = round(share * width)
            return ("#" * full or ("-" if share > 0 else "")).ljust(width)
        eighths = min(max(round(share * width * 8), 1 if share > 0 else 0), width * 8)
        full, rest = divmod(eighths, 8)
        return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)

    def shared_bar(self, model: float, final: float, width: int) -> list[Part]:
        """Two shares of `width` cells in one bar: solid as far as both reach, and then, lighter, what the final one
        has more, or what the model has more. An unknown one is left out."""
        if math.isnan(model):
            return [("?".ljust(width), self.dim)]
        if math.isnan(final):
            return [(self.bar(model, width), self.model)]
        short, long = sorted((min(max(model, 0.0), 1.0), min(max(final, 0.0), 1.0)))
        style, glyph = (self._raised, 1) if final > model else (self._lowered, 2)
        if not self.rich or self.ascii:
            solid, mark = self.bars[0], self.bars[glyph]
            reach = max(round(long * width), 1 if long > 0 else 0)
            full = round(short * width) if short < long else reach
            return [(solid * full, self.final), (mark * (reach - full), style), (" " * (width - reach), self.base)]
        outer = max(round(long * width * 8), 1 if long > 0 else 0)
        inner = round(short * width * 8) if short < long else outer
        full, part = divmod(inner, 8)
        parts: list[Part] = [("█" * full, self.final)]
        if part and outer >= 8 * (full + 1):  # the two meet inside a cell that the longer one fills
            parts.append((EIGHTHS[part], Style(color=self.final.color, bgcolor=style.color)))
            full += 1
        elif part:
            return [*parts, (EIGHTHS[part].ljust(width - full), self.final)]
        rest, end = divmod(outer - 8 * full, 8)
        return [*parts, (("█" * rest + EIGHTHS[end][: end and 1]).ljust(width - full), style)]

    def legend(self, name: str, low: str, high: str, text: bool = False, short: bool = False) -> list[Part]:
        """The ramp between the values of its ends; `text` for the tint of letters, which has none where no style is
        seen."""
        if text and not self.styled:
            return []
        if text:
            ramp = [(" " if self.rich else "a", style) for style in self._tint]
        else:
            ramp = [self.cell((n + 0.5) / self.n_ramp_steps) for n in range(self.n_ramp_steps)]
        every = 2 if short and self.n_ramp_steps >= 8 else 1
        return [(f"{name} {low} ", self.dim), *ramp[every - 1 :: every], (f" {high}", self.dim)]

    def whole(self, first: list[Part], groups: Iterable[Group], width: int, right: str | list[Part] = "") -> Strip:
        """A row of groups with dots between them, most wanted first, behind what always stands there. One that does
        not fit whole is left out; so is `right`, at the end of the row."""
        end = [(right, self.dim)] * bool(right) if isinstance(right, str) else right
        room = width - size_of(first)
        if size_of(end) > room:
            end = []
        laid = self.lines(groups, room - size_of(end) - cells(self.between), gap=self.between)
        row: list[Part] = [*first, (self.between, self.dim), *laid[0]] if laid else first
        return self.row(row, width, end)

    def lines(self, groups: Iterable[Group], width: int, rows: int = 1, gap: str = "  ") -> list[list[Part]]:
        """Groups in as few lines, of at most so many, as they fit into whole, most wanted first."""
        every = [self._forms(group) for group in groups]
        laid = place([[size_of(form) for form in forms] for forms in every], width, cells(gap), rows)
        between = (gap, self.dim if gap.strip() else self.base)
        lines: list[list[Part]] = []
        for line in laid:
            shown = [every[item][form] for item, form in line]
            lines.append([*shown[0], *(part for form in shown[1:] for part in (between, *form))])
        return lines

    def _forms(self, group: Group) -> tuple[list[Part], ...]:
        if isinstance(group, str):
            return ([(group, self.dim)],)
        return group if isinstance(group, tuple) else (group,)

    def hint(self, text: str, width: int) -> list[Strip]:
        """The rows of an empty pane: what will appear in it, and how to get it."""
        return [self.row([(line, self.dim)], width) for line in textwrap.wrap(text, max(width, 1))]

    def row(self, parts: Iterable[Part], width: int, right: Iterable[Part] = ()) -> Strip:
        """One strip of at most `width` cells, cut with …; `right` stands at its end and is left out where it alone is
        too wide. Neighbours of one style become one segment, since each costs bytes. Whatever a caller let through,
        no control character gets further."""
        tail = [self._shown(part) for part in right]
        room = width - size_of(tail)
        if tail and room < 0:
            tail, room = [], width
        row: list[tuple[list[str], Style]] = []
        for text, style in map(self._shown, parts):
            size = cells(text)
            if size > room:
                text, size = self._cut(row, text, room), room
            if row and row[-1][1] is style:
                row[-1][0].append(text)
            elif text:
                row.append(([text], style))
            room -= size
        if tail:
            row += [([" " * room], self.base), *(([text], style) for text, style in tail)]
        whole = width - room if not tail else width
        return Strip([self._segment("".join(texts), style) for texts, style in row if any(texts)], whole)

    def _cut(self, row: list[tuple[list[str], Style]], text: str, room: int) -> str:
        """As much of a text as there is room for behind a row. A number that ends the row, whose unit or end does not
        fit, goes with it."""
        kept = fitted(text, room, self.ascii)
        if kept.strip() in ("", self.ellipsis) and room and row and row[-1][0]:
            before = row[-1][0][-1]
            row[-1][0][-1] = before.rstrip(OF_NUMBERS)
            kept += " " * (cells(before) - cells(row[-1][0][-1]))
        return kept

    def _shown(self, part: Part) -> Part:
        text, style = part
        return part if text.isprintable() else (visible(text, self.ascii, in_table=True), style)

    def _segment(self, text: str, style: Style) -> Segment:
        """Spaces need no ink, and it costs half the bytes."""
        if text.isspace() and style.color and not (style.reverse or style.underline):
            style = self._bare.setdefault(style, Style(bgcolor=style.bgcolor))
        return Segment(text, style)

    def _lighter(self, style: Style) -> Style:
        """The colour half way to the ground, as one of the 256 that is no grey."""
        if not self.rich or style.color is None:
            return style
        ground = Color.parse(self.theme.chrome.get("background") or "#000000").get_truecolor()
        half = blend_rgb(ground, style.color.get_truecolor(), 0.5)
        nearer = (max, ge) if self.theme.dark else (min, le)
        return self.ground + Style(color=Color.from_rgb(*(_of_cube(part, *nearer) for part in half)))

    def _ramp(self, colors: tuple[str, ...]) -> list[Style]:
        if self.color == "mono":
            return [Style()] * 8
        return [self.ground + Style(color=Color.parse(name)) for name in colors]

    def _inked(self, style: Style) -> Style:
        """The colour of `style` as ground, with ink that can be read on it."""
        if style.color is None:
            return style
        return Style(color=ink_on(style.color), bgcolor=style.color)


def _of_cube(part: int, take: Callable[[Iterable[int]], int], holds: Callable[[int, int], bool]) -> int:
    """A part of a colour as the cube of 256 colours has it."""
    return take(level for level in (0, 95, 135, 175, 215, 255) if holds(part, level))


def in_bytes(count: int) -> str:
    """A number of bytes with its unit."""
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
