"""Theme files: the look of the chrome and, apart from it, the ramps that numbers are drawn with.

A file has four tables: [theme] are the fields of a Textual theme, [styles] the styles of Paint (`match`, of what a
search finds, may be left out), [ramps] lists of colours from least to most (`tint`, for text, may be left out), and
[c16] the styles and ramps for terminals with sixteen colours or none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.color import Color, ColorParseError
from rich.errors import StyleSyntaxError
from rich.style import Style
from textual.theme import BUILTIN_THEMES
from textual.theme import Theme as TextualTheme

from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.core.files import text_of

STYLES = (
    "base", "dim", "title", "focused", "number", "accent", "good", "warning", "error", "cursor", "selected", "mark",
    "match", "rule", "prompt", "role", "model", "final",
)  # fmt: skip
RAMPS = ("heat", "tint")
CHROME = (
    "primary", "secondary", "warning", "error", "success", "accent", "foreground", "background", "surface", "panel",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Styles and ramps for one kind of terminal."""

    styles: Mapping[str, str]
    ramps: Mapping[str, tuple[str, ...]]
    """Colours from least to most."""


@dataclass(frozen=True)
class Theme:
    name: str
    dark: bool
    chrome: Mapping[str, Any]
    """Fields of a Textual theme, `name` and `dark` left out."""
    full: Look
    """For 256 colours and more."""
    sixteen: Look
    """In the sixteen colours of the terminal's own palette."""

    def look(self, color: str) -> Look:
        return self.full if color in ("truecolor", "256") else self.sixteen


def load(name: str) -> Theme:
    """The theme of this name. UserError where there is none or its file is broken."""
    files = paths.theme_files()
    if name not in files:
        known = ", ".join(sorted(files))
        raise UserError(f"there is no theme {name!r}: take one of {known}, or put {name}.toml into {paths.themes()}")
    return read(files[name])


def read(path: Path) -> Theme:
    """A theme file. UserError names the file and the field that is wrong."""
    try:
        table = tomllib.loads(text_of(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"theme file {path} cannot be read ({error}): mend it or choose another theme") from error
    chrome = dict(_table(path, table, "theme"))
    for field in CHROME:
        _color(path, f"theme.{field}", chrome.get(field, "default"))
    if unknown := set(chrome) - {*CHROME, "dark", "variables"}:
        raise UserError(f"theme file {path} sets theme.{min(unknown)}, which is not known: remove it")
    full = _look(path, table, "")
    sixteen = _look(path, _table(path, table, "c16"), "c16.")
    return Theme(path.stem, bool(chrome.pop("dark", True)), chrome, full, sixteen)


def textual_theme(theme: Theme, color: str = "truecolor") -> TextualTheme:
    """For App.register_theme. With sixteen colours or none, chrome takes the terminal's own palette."""
    if color in ("truecolor", "256"):
        return TextualTheme(name=theme.name, dark=theme.dark, **theme.chrome)
    plain = BUILTIN_THEMES["ansi-dark" if theme.dark else "ansi-light"]
    return TextualTheme(**{**vars(plain), "name": theme.name})


def _look(path: Path, table: Mapping[str, Any], prefix: str) -> Look:
    styles, ramps = _table(path, table, "styles", prefix), _table(path, table, "ramps", prefix)
    styles = {"match": styles.get("selected"), **styles}
    for name in STYLES:
        try:
            Style.parse(styles[name])
        except KeyError:
            raise UserError(f"theme file {path} lacks {prefix}styles.{name}: give it a style") from None
        except (StyleSyntaxError, AttributeError) as error:
            raise UserError(f"theme file {path} has {prefix}styles.{name} = {styles[name]!r}: {error}") from error
    ramps = {"tint": _calm(ramps.get("heat")), **ramps}
    for name in RAMPS:
        ramp = ramps.get(name)
        if not isinstance(ramp, list) or not 2 <= len(ramp) <= 16:
            raise UserError(f"theme file {path} needs {prefix}ramps.{name} to be a list of 2 to 16 colours")
        for entry in ramp:
            _color(path, f"{prefix}ramps.{name}", entry)
    return Look(styles, {name: tuple(ramps[name]) for name in RAMPS})


def _calm(heat: object) -> list[object]:
    """A tint for a theme that has none: three of the colours of its heat ramp."""
    return [heat[len(heat) // 8], heat[len(heat) // 3], heat[-2]] if isinstance(heat, list) and len(heat) > 1 else []


def _table(path: Path, table: Mapping[str, Any], name: str, prefix: str = "") -> Mapping[str, Any]:
    inner = table.get(name)
    if not isinstance(inner, dict):
        raise UserError(f"theme file {path} lacks the table [{prefix}{name}]: copy one of the themes that ship")
    return inner


def _color(path: Path, field: str, value: object) -> None:
    try:
        Color.parse(value if isinstance(value, str) else "")
    except ColorParseError as error:
        raise UserError(f"theme file {path} has {field} = {value!r}, which is no colour: write #rrggbb") from error
