"""The server that writes: what it is, what it tells and takes, and which knobs it passes over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.strip import Strip

from tui_entropy.records.knobs import BY_NAME, is_off
from tui_entropy.records.model import ServerCard
from tui_entropy.ui.drawing.glyphs import fitted, visible
from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View
from tui_entropy.ui.views.wording import wrap

NAME = 24
"""Cells of the name of a fact."""
BANDS = (
    "A server tells its most probable tokens and not the whole distribution: entropy, varentropy and what hangs on "
    "them lie between two bounds, which the chart has as a band (in one row as high as the upper bound, and fainter) "
    "and tables as low…high. Surprisal, rank among those told and margins are exact. What it does not tell is ?."
)


class Server(View):
    """Nothing of it changes while a text is written, but for the knobs."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, card = frame.paint, frame.log.card
        server = card.server if card else None
        if card is None or server is None:
            heading = self.heading(frame, "server", [], width)
            return [heading, *paint.hint("The model is loaded on this machine: no server is asked.", width)][:height]
        heading = self.heading(frame, "server", [server.url], width)
        knobs = [] if server.proxied else [[], *_knobs(frame, server, width)]
        rows = [*_facts(frame, card.name, server, width), *knobs]
        return [heading, *(paint.row(row, width) for row in rows), Strip([]), *paint.hint(BANDS, width)][:height]


def _facts(frame: Frame, model: str, server: ServerCard, width: int) -> Iterator[list[Part]]:
    paint = frame.paint
    yield [(f" {'server':{NAME}}", paint.dim), (visible(server.name, paint.ascii, True), paint.title)]
    if not server.proxied:  # each request names its own
        yield [(f" {'model':{NAME}}", paint.dim), (visible(model, paint.ascii, True), paint.title)]
    for fact in server.facts:
        name = fitted(visible(fact.name, paint.ascii, True), NAME, paint.ascii)
        style = paint.number if fact.known else paint.warning
        value = visible(fact.value, paint.ascii, True) + ("" if fact.known else " (not tried)")
        for n, line in enumerate(wrap([(value, style)], max(width - NAME - 2, 10))):
            yield [(f" {name if not n else '':{NAME}}", paint.dim), *line]


def _knobs(frame: Frame, server: ServerCard, width: int) -> Iterator[list[Part]]:
    """Those that do nothing there, and first those of them that a person has set."""
    paint = frame.paint
    ignored = [name for name in server.ignored_knobs if name in BY_NAME]
    turned = [name for name in ignored if BY_NAME[name].off is not None and not is_off(frame.knobs, name)]
    names = [BY_NAME[name].short for name in [*turned, *(one for one in ignored if one not in turned)]]
    said = ", ".join(map(paint.ours, names)) or "none"
    for n, line in enumerate(wrap([(said, paint.dim)], max(width - NAME - 2, 10))):
        yield [(f" {'knobs without effect' if not n else '':{NAME}}", paint.dim), *line]
    if turned:
        shorts = ", ".join(paint.ours(BY_NAME[name].short) for name in turned)
        yield [(f" {'':{NAME}}", paint.dim), (f"set, and passed over by this server: {shorts}", paint.warning)]
