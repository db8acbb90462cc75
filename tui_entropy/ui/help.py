"""The help panel: the table of keys, and what each number means."""

from __future__ import annotations

from itertools import groupby
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_entropy.series import SERIES
from tui_entropy.ui.keys import KEYS, named
from tui_entropy.ui.view import Frame

WIDTH_OF_KEYS = 26


class HelpScreen(ModalScreen[None]):
    AUTO_FOCUS = "VerticalScroll"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1", "dismiss", "close", show=False)]

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(help_text(self.frame))


def help_text(frame: Frame) -> Text:
    paint = frame.paint
    text = Text(style=paint.base)
    text.append("tui-entropy", paint.focused).append("   esc or ? closes, arrows scroll\n", paint.dim)
    for group, keys in groupby(sorted(KEYS, key=lambda key: GROUPS.index(key.group)), lambda key: key.group):
        text.append(f"\n{group}\n", paint.title)
        for key in keys:
            if key.shown:
                text.append(f"  {named(key.keys, paint.ascii):<{WIDTH_OF_KEYS}}", paint.number)
                text.append(f"{key.label}\n")
    text.append("\nWhat the numbers mean\n", paint.title)
    for series in SERIES:
        unit = series.unit(frame.bits)
        about = ", ".join(part for part in (series.distribution, unit) if part)
        text.append(f"  {series.name}", paint.number).append(f" ({about})\n", paint.dim)
        text.append(f"    {series.meaning}\n")
    text.append(
        "\n  model is the distribution of the model itself, after control vectors and before any sampling stage; "
        "final is the one the token was drawn from.\n",
        paint.dim,
    )
    return text


GROUPS = list(dict.fromkeys(key.group for key in sorted(KEYS, key=lambda key: bool(key.where))))
"""Those that hold everywhere first."""
