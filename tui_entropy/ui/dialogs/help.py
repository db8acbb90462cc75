"""The help panel: the table of keys, and what each number means."""

from __future__ import annotations

from itertools import groupby
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.model import TRUSTED
from tui_entropy.ui.drawing.glyphs import visible
from tui_entropy.ui.keys.keymap import KEYS, LANES, LOOKING, TRYING, holds, key_names, keys_of
from tui_entropy.ui.keys.pane_words import PANES
from tui_entropy.ui.protocol.dispatch import ClosedOnce
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.terminal_sized import TerminalSized

WIDTH_OF_KEYS = 26


class HelpScreen(TerminalSized, ClosedOnce, ModalScreen[None]):
    """What is typed leaves the lines that hold it, with what they stand under."""

    AUTO_FOCUS = "VerticalScroll"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,f1", "dismiss", "close", show=False)]

    def __init__(self, frame: Frame, pane: str = "") -> None:
        """pane: the one in focus, whose keys come first."""
        super().__init__()
        self.frame, self.pane, self.typed = frame, pane, ""

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(help_text(self.frame, self.pane))

    def on_key(self, event: events.Key) -> None:
        """Escape takes back what was typed, and then closes."""
        if event.key == "escape":
            if not self.typed:
                self.dismiss()
                event.stop()
                return
            self.typed = ""
        elif event.key == "backspace":
            self.typed = self.typed[:-1]
        elif event.is_printable and event.character and event.key != "question_mark":
            self.typed += event.character
        else:
            return
        event.stop()
        event.prevent_default()
        self.query_one(Static).update(help_text(self.frame, self.pane, self.typed))
        self.query_one(VerticalScroll).scroll_home(animate=False)


def help_text(frame: Frame, pane: str = "", typed: str = "") -> Text:
    """All of it, or the lines that hold what was typed, each under its title."""
    paint = frame.paint
    head = Text(style=paint.base).append("tui-entropy", paint.focused)
    if typed:
        head.append(f"   {visible(typed, paint.ascii, True)}", paint.number)
    head.append(f"   {SEARCHED if typed else CLOSES}\n", paint.dim)
    everything = _everything(frame, pane)
    return head + (_holding(everything, typed.lower()) if typed else everything)


def _holding(text: Text, typed: str) -> Text:
    """The lines that hold it, each after the title over it."""
    found, title = Text(), None
    for line in text.split("\n", include_separator=True, allow_blank=False):
        if line.plain.strip() and not line.plain.startswith(" "):
            title = line
        elif typed in line.plain.lower():
            if title is not None:
                found.append("\n").append_text(title)
                title = None
            found.append_text(line)
    return found if found else Text("\nnothing here holds that: escape takes it back\n")


def _everything(frame: Frame, pane: str) -> Text:
    paint = frame.paint
    text = Text()
    groups = sorted(GROUPS, key=lambda group: group not in _first(frame, pane))
    for group, keys in groupby(sorted(KEYS, key=lambda key: groups.index(key.group)), lambda key: key.group):
        text.append(f"\n{group}\n", paint.title)
        for key in keys:
            if key.shown:
                lacking = key.name in frame.lacking
                name = f"  {key_names(keys_of(key, frame.keymap), paint.ascii):<{WIDTH_OF_KEYS}}"
                text.append(name, paint.dim if lacking else paint.number)
                text.append(f"{key.label}\n", paint.dim if lacking else None)
    text.append("\nWhat the panes show\n", paint.title)
    for name, about in PANES.items():
        text.append(f"\n  {name}\n", paint.title).append(f"    {paint.ours(about)}\n")
    text.append("\nWhat the numbers mean\n", paint.title)
    for distribution, about in ABOUT.items():
        text.append(f"\n  {about}\n", paint.title)
        for metric in METRICS:
            if metric.distribution == distribution:
                text.append(f"  {metric.name} ", paint.number)
                text.append(f"{paint.ours(metric.unit(frame.bits))}\n", paint.dim)
                text.append(f"    {paint.ours(metric.meaning)}\n")
    for title, lines in (("The state of the model", STATE), ("The four quadrants", QUADRANTS)):
        text.append(f"\n{title}\n", paint.title).append("".join(f"  {line}\n" for line in lines))
    _trust(text, frame)
    return text


def _first(frame: Frame, pane: str) -> set[str]:
    """The groups of what is in focus: those of a pane or page with keys of its own, else of what the pane shows."""
    own = {key.group for key in KEYS if frame.place and key.where and holds(key.where, frame.place)}
    return own or OF_PANE.get(pane, set())


def _trust(text: Text, frame: Frame) -> None:
    """The legend of the marks in titles: what each stands for, and why."""
    paint = frame.paint
    text.append("\nHow far the numbers can be believed on this model and machine\n", paint.title)
    for level, (mark, style) in paint.trusted.items():
        text.append(f" {mark} ", style).append(f"{level}  ", paint.dim)
    text.append("\n")
    own = [name for name in (frame.log.card.trust if frame.log.card else ()) if name not in TRUSTED]
    for group in (*TRUSTED, *own):
        if trust := frame.trust(group):
            text.append(f"  {group:<10}", paint.number).append(*paint.trusted[trust.level])
            text.append(f"  {visible(trust.reason, paint.ascii, True)}\n")


ABOUT = {
    "model": "Of the model: its own distribution, after control vectors and before any sampling stage",
    "final": "Of the draw: the final distribution, the one that the token was drawn from",
    "attention": "Of attention: the rows of the newest query over the keys that it can see",
    "residual": "Of the residual stream: after the last block, at the newest token",
    "": "Of the machine",
}
"""Distribution of series -> what it is."""
STATE = (
    "Entropy and head entropy are compared with their means over recent steps; one standard deviation above is high.",
    "Uncertain: both high. Overconfident: both low. Confident: both usual. Conflicted: one high, the other low.",
    "Leaning uncertain or overconfident: one is high or low, the other usual. Warming up: too few steps to compare.",
    "All of it is relative to this text: 'overconfident' is a name for low and low, not evidence of an error.",
)
QUADRANTS = (
    "Entropix sorts steps by entropy and varentropy, and its samplers (A) act by where a step falls:",
    "flowing: both low, one token has it; the most probable is taken.",
    "asking: entropy high, varentropy low, many tokens alike; the clarifier is written, or heat is added.",
    "exploring: entropy low, varentropy high, a few ways to go on; a little more heat.",
    "resampling: both high, spread with a long tail; much more heat. adaptive: everything in between.",
    "No evaluation shows that it improves text: a heuristic to look at. S1 and S3 are its published thresholds,",
    "own takes quantiles of this text's recent steps.",
)


CLOSES = "esc or ? closes, arrows scroll, what you type is searched"
SEARCHED = "esc takes it back"
OF_PANE = {
    "stream": {LOOKING}, "twin": {LOOKING, LANES}, "candidates": {TRYING}, "heads": {LOOKING}, "attention": {LOOKING},
    "chart": {LOOKING},
}  # fmt: skip
"""A pane -> the groups of keys that are about what it shows."""
GROUPS = list(dict.fromkeys(key.group for key in sorted(KEYS, key=lambda key: bool(key.where))))
"""Those that hold everywhere first."""
