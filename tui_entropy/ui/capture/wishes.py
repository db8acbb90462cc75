"""Snapshot: a picture that is wanted, and how a person asks for one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.ui.keys.keymap import PAGES
from tui_entropy.ui.views.pane_layout import PANES

KINDS = (".svg", ".png", ".txt")
SPEC = re.compile(
    r"(?P<file>.+?)(@(?P<width>\d+)x(?P<height>\d+))?(:(?P<wishes>\w+(=[\w ]+)?(,\w+(=[\w ]+)?)*))?",
    re.DOTALL | re.ASCII,
)
NUMBER = re.compile(r"\d{1,9}", re.ASCII)
PICTURED = tuple(page for page in PAGES if page != "sessions")
"""Pages of a recording; that of sessions tells of the machine that it is on."""
SMALLEST, LARGEST = (20, 8), (1000, 500)
MEAN = 0
"""As a head: the mean of all."""


@dataclass(frozen=True)
class Snapshot:
    """A picture that is wanted."""

    file: Path
    size: tuple[int, int] = (120, 36)
    token: int | None = None
    """Where the cursor stands, counted from 1; None for the newest."""
    page: str = ""
    """One of PICTURED in place of the usual screen."""
    pane: str = ""
    """One of PANES that must be there, on a small screen in place of others."""
    zoom: bool = False
    """That pane, or the text, alone."""
    layer: int | None = None
    head: int | None = None
    """Counted from 1, MEAN for the mean; None for those that the screen begins with, as for the layer."""
    tint: str = ""
    """The name of a metric, or ATTENTION."""
    run: int | None = None
    """None for that of the command."""
    lane: int = 1
    """Of two lanes the one that panes of one token show."""


def _number(text: str) -> int:
    if not NUMBER.fullmatch(text):
        raise ValueError
    return int(text)


def _head(text: str) -> int:
    if text == "mean":
        return MEAN
    if head := _number(text):
        return head
    raise ValueError


def _flag(text: str) -> bool:
    if text:
        raise ValueError
    return True


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return read


ATTENTION = "attention"
"""As a tint: what the token under the cursor looked at."""
TINT_NAMES = {name.replace(" ", "_"): name for name in (*BY_NAME, ATTENTION)}
OPTIONS: dict[str, tuple[Callable[[str], object], str]] = {
    "token": (_number, "80"),
    "page": (_one_of(PICTURED), f"one of {', '.join(PICTURED)}"),
    "pane": (_one_of(PANES), f"one of {', '.join(PANES)}"),
    "layer": (_number, "12"),
    "head": (_head, "3 or mean"),
    "tint": (lambda text: TINT_NAMES[text.replace(" ", "_")], "attention, entropy, varentropy or any other number"),
    "run": (_number, "2"),
    "lane": (lambda text: int(_one_of(("1", "2"))(text)), "1 or 2"),
    "zoom": (_flag, ""),
}
"""What can stand behind a file's name -> how it is read, and what is to be given."""


def parse_snapshot(text: str, size: tuple[int, int] = (120, 36)) -> Snapshot:
    """FILE[@WxH][:token=N,page=NAME,...] -> what to picture, of this size where none is named. Raises UserError."""
    match = SPEC.fullmatch(text or " ")
    assert match  # `.+?` takes whatever the rest does not
    file, fields = Path(match["file"]), {}
    if file.suffix not in KINDS:
        raise UserError(f"--snapshot {text}: wanted FILE.svg, .png or .txt, then perhaps @120x36 and {_options()}")
    for wish in (match["wishes"] or "").split(","):
        name, _, value = wish.partition("=")
        if name not in OPTIONS:
            if wish:
                raise UserError(
                    f"--snapshot {text}: there is no {name}: behind the file's name can stand {_options()}"
                )
            continue
        read, wanted = OPTIONS[name]
        try:
            fields[name] = read(value)
        except (ValueError, KeyError):
            raise UserError(
                f"--snapshot {text}: {wish} cannot be: give {name}{f'={wanted}' if wanted else ''}"
            ) from None
    if match["width"]:
        size = parse_size(f"{match['width']}x{match['height']}")
    return replace(Snapshot(file, size), **fields)  # type: ignore[arg-type]


def _options() -> str:
    return ":" + ",".join(name if name == "zoom" else f"{name}=..." for name in OPTIONS)


def parse_size(text: str) -> tuple[int, int]:
    """'120x36' -> columns and rows. Raises UserError."""
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(least <= side <= most for least, side, most in zip(SMALLEST, size, LARGEST, strict=True)):
        raise UserError(f"{text} is no size: give columns x rows such as 120x36, at least 20x8 and at most 1000x500")
    return size
