"""A film as an SVG: at every moment it shows the cells of the screen, read here as a viewer of pictures reads it."""

import re
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import recorded
from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui_entropy.cli import main
from tui_entropy.ui.capture.animated_svg import APART, HIGH, REST, WIDE, AnimatedSvg
from tui_entropy.ui.capture.moment import Moment
from tui_entropy.ui.capture.snapshot import terminal

SVG = "{http://www.w3.org/2000/svg}"
THEME = terminal(dark=True)
BLOCKS = "▁▂▃▄▅▆▇█▏▎▍▌▋▊▉▀"


class Viewer:
    """Paints what of a file is visible at a time: for each cell its ground, what stands in it, in which colour."""

    def __init__(self, text: str, columns: int, rows: int) -> None:
        root = ElementTree.fromstring(text)
        css = next(root.iter(f"{SVG}style")).text or ""
        self.fills = dict(re.findall(r"\.(c\d+)\{fill:(#[0-9a-f]{6})", css))
        self.strokes = {
            name: (color, int(thick))
            for name, color, thick in re.findall(r"\.(c\d+)\{stroke:(#[0-9a-f]{6});stroke-width:(\d+)", css)
        }
        self.starts = {name: float(share) / 100 for name, share in re.findall(
            r"@keyframes (k\d+)\{0%\{visibility:hidden\}([\d.]+)%,to\{visibility:visible\}\}", css)}  # fmt: skip
        self.seconds = float(re.search(r"g\{animation:([\d.]+)s step-end infinite\}", css)[1])
        self.groups = list(root.iter(f"{SVG}g"))
        self.size = columns, rows
        ground = next(root.iter(f"{SVG}path")).attrib["fill"]
        self.blank = [[(ground, " ", "")] * columns for _ in range(rows)]

    def start(self, group) -> float:
        style = group.attrib.get("style", "")
        return self.starts[style.removeprefix("animation-name:")] * self.seconds if style else 0.0

    def at(self, time: float) -> list[list[tuple[str, str, str]]]:
        cells = [row[:] for row in self.blank]
        for group in self.groups:
            if self.start(group) <= time + 1e-3:
                for shape in group:
                    (self._path if shape.tag == f"{SVG}path" else self._text)(shape, cells)
        return cells

    def _path(self, shape, cells) -> None:
        color, thick = self.strokes[shape.attrib["class"]]
        for left, middle, way, length in re.findall(r"M([\d.]+) ([\d.]+)([hv])([\d.]+)", shape.attrib["d"]):
            left, middle, length = map(float, (left, middle, length))
            if way == "h":
                assert thick == HIGH and middle % HIGH == HIGH / 2
                y = int(middle // HIGH)
                for x in range(int(left // WIDE), int(-(-(left + length) // WIDE))):
                    cells[y][x] = (color, " ", "") if length % WIDE == 0 else (cells[y][x][0], "block", color)
            else:
                assert thick == WIDE and left % WIDE == WIDE / 2
                x, top, end = int(left // WIDE), middle, middle + length
                for y in range(int(top // HIGH), int(-(-end // HIGH))):
                    full = top <= y * HIGH and (y + 1) * HIGH <= end
                    cells[y][x] = (color, " ", "") if full else (cells[y][x][0], "block", color)

    def _text(self, shape, cells) -> None:
        y = int(shape.attrib["y"]) // HIGH
        for part in list(shape) or [shape]:
            x = int(part.attrib["x"]) // WIDE
            assert int(part.attrib.get("textLength", 0)) in (0, WIDE * cell_len(part.text))
            for glyph in part.text:
                for n in range(cell_len(glyph)):
                    cells[y][x] = (cells[y][x][0], "" if n else glyph, self.fills[shape.attrib["class"]])
                    x += 1


def expected(rows: list[Strip], columns: int) -> list[list[tuple[str, str, str]]]:
    """The same of the rows of a screen. A full block cannot be told from a ground of its colour."""
    found = []
    for row in rows:
        cells = []
        for text, style, _ in row:
            style = style or Style()
            ink = (style.color or Color.default()).get_truecolor(THEME, foreground=True).hex
            ground = (style.bgcolor or Color.default()).get_truecolor(THEME, foreground=False).hex
            if style.reverse:
                ink, ground = ground, ink
            for glyph in text:
                if glyph == "█":
                    cells.append((ink, " ", ""))
                elif glyph in BLOCKS:
                    cells.append((ground, "block", ink))
                elif glyph == " ":
                    cells.append((ground, " ", ""))
                else:
                    cells += [(ground, glyph, ink), *[(ground, "", ink)] * (cell_len(glyph) - 1)]
        found.append((cells + [(THEME.background_color.hex, " ", "")] * columns)[:columns])
    return found


def simple(cells):
    """Without the colour of blanks, which nobody sees."""
    return [[(ground, glyph, ink if glyph.strip() else "") for ground, glyph, ink in row] for row in cells]


STYLES = st.sampled_from([
    Style.parse(text)
    for text in ("#d0d0d0 on #121212", "#ffffff on #5f5f87", "red", "reverse", "bold #00ff00 on #121212")
])  # fmt: skip
PIECES = st.lists(st.tuples(st.text("ab <&·語█▄▌▀ ", max_size=5), STYLES), max_size=5)


def strip(pieces) -> Strip:
    return Strip([Segment(text, style) for text, style in pieces])


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(PIECES, min_size=3, max_size=3)), min_size=1, max_size=6))
def test_at_every_moment_the_cells_are_those_of_the_screen(drawn):
    columns, at, film = 60, 0.0, AnimatedSvg((60, 3), "<a & b>", THEME)
    moments = []
    for wait, rows in drawn:
        moments.append(Moment(at, [strip(row) for row in rows]))
        film.take(moments[-1])
        at += APART + wait / 4
    viewer = Viewer(film.text(), columns, 3)
    for moment in moments:
        assert simple(viewer.at(moment.at)) == simple(expected(moment.rows, columns))
    assert simple(viewer.at(viewer.seconds)) == simple(expected(moments[-1].rows, columns))


def test_of_screens_too_fast_to_read_the_last_is_drawn_and_none_is_lost_at_the_end():
    film = AnimatedSvg((4, 1), "", THEME)
    for n in range(26):
        film.take(Moment(n * APART / 8, [Strip([Segment(chr(ord("a") + n))])]))
    viewer = Viewer(film.text(), 4, 1)
    assert len(viewer.groups) <= 5
    assert viewer.at(viewer.seconds)[0][0][1] == "z"
    starts = [viewer.start(group) for group in viewer.groups]
    assert all(after - before > APART * 0.9 for before, after in pairwise(starts))
    assert viewer.seconds == pytest.approx(starts[-1] + REST, abs=0.01)


def test_a_screen_in_which_nothing_changed_costs_nothing():
    film = AnimatedSvg((4, 1), "", THEME)
    for n in range(9):
        film.take(Moment(n / 2, [Strip([Segment("same")])]))
    assert film.text().count("<g") == 1


def test_the_command_makes_the_same_bytes_each_time_without_script_or_font(tmp_path, monkeypatch):
    file = recorded(tmp_path / "story.tui")
    for name in ("a.svg", "b.svg"):
        told = ["replay", str(file), "--cast", str(tmp_path / name), "--size", "100x28", "--to", "30"]
        monkeypatch.setattr(sys, "argv", ["tui-entropy", *told])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert not re.search(r"<script|@font-face|@import|href|url\(", text)
    viewer = Viewer(text, 100, 28)
    last = "\n".join("".join(glyph for _, glyph, _ in row) for row in viewer.at(viewer.seconds))
    assert "step 30 of 30" in last and "replay" not in last and "? help" not in last
