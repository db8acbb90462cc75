"""What stands where a text will appear until there is one: what is awaited, and what can be done meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from textual.strip import Strip

from tui_entropy.ui.drawing.glyphs import visible
from tui_entropy.ui.drawing.paint import Part
from tui_entropy.ui.keys.needs import GONE, acts
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.wording import wrap

INDENT = "   "
CURL = (
    "curl {url}/chat/completions -d '{{",
    '  "messages": [{{"role": "user", "content": "Why is that?"}}],',
    """  "stream": true, "logprobs": true, "top_logprobs": 5}}' \\""",
    "  -H 'content-type: application/json'",
)
"""A request that anybody can try, with the numbers that a screen wants. Its lines fit beside other panes."""
WITH_KEY = '  -H "authorization: Bearer $OPENAI_API_KEY"'
"""Its last line where a key is asked for here."""


TYPE = "Type a prompt: press i, then Enter to send it."


def first_words(frame: Frame, width: int, height: int) -> list[Strip]:
    paint, log = frame.paint, frame.log
    if log.state in GONE:
        again = "Press ctrl+r to start the engine again." if acts(frame, "restart") else ""
        return _hints(frame, [log.note, again], width)
    if log.endpoint:
        lines = list(_of_applications(frame, width, roomy=True))
        if len(lines) > height:
            lines = list(_of_applications(frame, width, roomy=False))
        return [paint.row(line, width) for line in lines]
    words = ["Here the prompt and the text that the model writes will appear."]
    if acts(frame, "prompt"):
        up = log.state in ("ready", "ended")
        words.append(TYPE if up else "The model is on its way; a prompt can be typed meanwhile: press i.")
    return _hints(frame, words, width)


def _hints(frame: Frame, lines: list[str], width: int) -> list[Strip]:
    shown = (visible(line, frame.paint.ascii, True) for line in lines if line)
    return [strip for line in shown for strip in frame.paint.hint(line, width)]


def _of_applications(frame: Frame, width: int, roomy: bool) -> Iterator[list[Part]]:
    """Where an application sends its requests, what becomes of them, and one to try."""
    paint, log = frame.paint, frame.log
    space: list[list[Part]] = [[]] * roomy
    url = visible(log.endpoint, paint.ascii, True)
    server = log.card.server if log.card else None
    yield [("Waiting for a request of an application.", paint.title)]
    yield from space
    if roomy:
        yield from ([("Give it this base URL:", paint.base)], [], [(INDENT, paint.base), (url, paint.accent)], [])
    else:
        yield [("Give it this base URL: ", paint.base), (url, paint.accent)]
    if log.proxied and server is not None:
        about = f"All it asks goes on to {visible(server.url, paint.ascii, True)} unchanged"
        about += ", its key too, and each request is a run here." if roomy else ": each request is a run."
    else:
        about = "This model answers, and each request is a run here. It asks for the key that `serve` tells."
        about += f" {TYPE}" * (roomy and acts(frame, "prompt"))
    yield from wrap([(about, paint.dim)], width)
    yield from space
    if roomy:
        yield from ([("To try it, in another terminal:", paint.dim)], [])
    lines = CURL if log.proxied else (*CURL[:-1], f"{CURL[-1]} \\", WITH_KEY)
    yield from ([(INDENT * roomy + line.format(url=url), paint.base)] for line in lines)
