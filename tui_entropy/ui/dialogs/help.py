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

from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.model import TRUSTED
from tui_entropy.ui.drawing.glyphs import visible
from tui_entropy.ui.keys.keymap import KEYS, key_names
from tui_entropy.ui.keys.pane_words import PANES
from tui_entropy.ui.protocol.dispatch import ClosedOnce
from tui_entropy.ui.views.frame import Frame

WIDTH_OF_KEYS = 26


class HelpScreen(ClosedOnce, ModalScreen[None]):
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
                lacking = key.name in frame.lacking
                name = f"  {key_names(key.keys, paint.ascii):<{WIDTH_OF_KEYS}}"
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


GROUPS = list(dict.fromkeys(key.group for key in sorted(KEYS, key=lambda key: bool(key.where))))
"""Those that hold everywhere first."""
