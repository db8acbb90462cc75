"""Every place that keys have, how to come there, and what a key pressed there is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import fake_engine
import made
from asking import fan_answer
from inspectors import HEADS, LAYERS, begun, ready, settled, up
from msgspec.structs import replace as changed

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.commands import (
    SetVector,
)
from tui_entropy.records.events import (
    BreakpointsChanged,
    Ended,
    Paused,
    Proposed,
    WatchesChanged,
)
from tui_entropy.records.probes.continuations import Continuation, ContinuationOptions, SampledContinuations
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Watch
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.keys.keymap import KEYS, PAGES, Key, holds
from tui_entropy.ui.views.jump_targets import MATCHES

PLACES = ("", "knobs", "prompt", "ask", *PAGES)
N, AT = 30, 12
POSITION = len(begun(1, 0)[0].prompt_tokens) + AT
KNOBS = Knobs(top_k=40, top_p=0.9, min_p=0.1, repetition_penalty=1.1)


def events() -> list[Any]:
    rows = tuple(Continuation(f" x{n}", (n,), -1.0, False, n) for n in range(3))
    fan = fan_answer(SampledContinuations(rows, 16, "normalised", 1.0), 2, POSITION)
    return [
        ready(), *begun(1, 10), Ended(1, "end of text"), *begun(2, N),
        BreakpointsChanged((Breakpoint(1, "rank > 3"), Breakpoint(2, "rank > 4"))),
        WatchesChanged(2, 0, (Watch(" Yes", 9, b" Yes", 1), Watch(" No", 8, b" No", 1))),
        fan,
        Proposed(fake_engine.step(N, 6, LAYERS, HEADS, run=2)),
        Paused(2, "after a step"),
    ]  # fmt: skip


@asynccontextmanager
async def screen(size: tuple[int, int]) -> Any:
    app = up()
    app.copied, app.left = [], False
    app.copy_to_clipboard = app.copied.append
    app.exit = lambda *_, **__: setattr(app, "left", True)
    async with app.run_test(size=size) as pilot:
        app.take(events())
        await settled(app, pilot)
        yield app, pilot


async def bring_to(app: InspectorApp, pilot: Any, place: str) -> None:
    """Paused, an earlier step looked at with a candidate chosen, and the place open."""
    if len(app.screen_stack) > (1 if app.page is None else 2):
        app.pop_screen()
    app.actions["no_answer"]()
    app.actions["close_prompt"]()
    app.actions["escape"]()
    app.left = False
    vectors = tuple(changed(vector, on=n == 0, strength=1.0) for n, vector in enumerate(app.frame.log.vectors))
    app.show(
        cursor=AT, following=False, token=2, knobs=KNOBS, vectors=vectors, layer=3, head=2, bits=True, typed="",
        tint=BY_NAME["varentropy"], knob="top_k", raw=False, rebuild=False, second=False,
        chart_series=(BY_NAME["entropy"],), row=1, notice="",
        pages=made.kept_by_pages(
            chosen=BY_NAME["rank"], stage=3, branch=1, hidden=False, temperature=1.0, lane=None, typed_lanes=(),
            run=2, position=POSITION, options=ContinuationOptions(n=8, tokens=16),
            kind=MATCHES, query="e",
        ),
    )  # fmt: skip
    await go(app, pilot, place)
    if place in PAGES:
        app.show(row=3 if place == "lanes" else 1)
        await pilot.pause()
    if place == "prompt":
        app.prompts.box.text.text = "one"
    assert app.place == place
    app.sent.clear()


async def go(app: InspectorApp, pilot: Any, place: str) -> None:
    if place == "knobs":
        app.focus_on("knobs")
    elif place == "prompt":
        await app.actions["prompt"]()
        while app.prompts.box is not None and not app.prompts.box.chat:
            app.actions["chat_or_raw"]()
    elif place == "ask":
        app.ask("how many?", lambda answer: None)
    elif place:
        app.actions["open"](place)
    await pilot.pause()


@dataclass(frozen=True)
class Seen:
    """What a key can change."""

    frame: Any
    sent: list[Any]
    page: str
    focus: str
    over: str
    asked: str
    box: str
    typed: str
    """In the box."""
    classes: frozenset[str]
    copied: int
    left: bool


Effect = Callable[[Seen, Seen], object]


def sends(kind: type, **fields: Any) -> Effect:
    return lambda before, after: any(
        isinstance(one, kind) and all(getattr(one, name) == value for name, value in fields.items())
        for one in after.sent
    )


def typed(letter: str) -> Effect:
    return lambda before, after: after.frame.typed == before.frame.typed + letter


def vector(n: int) -> Effect:
    def holds(before: Seen, after: Seen) -> object:
        if n > len(before.frame.vectors):
            return "there is no vector" in after.frame.notice
        return after.frame.vectors[n - 1].on != before.frame.vectors[n - 1].on and sends(SetVector)(before, after)

    return holds


def pressed(place: str) -> Iterator[tuple[str, Key]]:
    """Every key that the table has at a place, with what it says of it: rows of one pane go before the others."""
    met = set()
    for key in KEYS:
        in_text = place in ("prompt", "ask") and key.where != place
        if key.id == "suspend" or in_text or not (holds(key.where, place) or not key.where) or key.where == "replay":
            continue
        for name in key.keys.split(","):
            if name not in met:
                met.add(name)
                yield name, key
