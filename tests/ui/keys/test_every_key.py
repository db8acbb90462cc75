"""Every key of the table, pressed wherever the table says that it acts, at three sizes: what happens is what its
label says."""

from __future__ import annotations

from typing import Any

import made
import pytest
from asking import is_rows
from key_presses import AT, PLACES, Effect, Seen, bring_to, pressed, screen, sends, typed, vector

from tui_entropy.records.commands import (
    Advance,
    Branch,
    Continue,
    Go,
    Label,
    SetBreakpoints,
    SetKnobs,
    SetShadow,
    Stop,
    Twin,
    Write,
)
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.keys.keymap import KEYS, PAGES, Key
from tui_entropy.ui.protocol.prompt import Purpose
from tui_entropy.ui.views.pane_layout import PaneLayout

SIZES = [(80, 24), (120, 36), pytest.param((200, 60), marks=pytest.mark.slow)]


# --- A screen where every key has something to do ------------------------------------------------------------------


def seen(app: InspectorApp) -> Seen:
    """As things are. That a pane asked for its attention rows meanwhile is no key's doing."""
    box = app.prompts.box
    focused = app.base.focused
    return Seen(
        app.frame,
        [one for one in app.sent if not is_rows(one)],
        app.page.called if app.page else "",
        (focused.id or "") if focused else "",
        type(app.screen).__name__,
        app.questions.question.question if app.questions.asking else "",
        box.purpose.name if box is not None and box.display and box.has_focus_within else "",
        "" if box is None else box.text.text,
        frozenset(app.base.classes),
        len(app.copied),
        app.left,
    )


def asked_of_probe(name: str, **options: object) -> Effect:
    """A probe of this name is asked, under these options among others."""
    return lambda before, after: any(
        isinstance(one, AskProbe) and one.name == name and one.options.items() >= options.items()
        for one in after.sent
    )


# --- What each label means -----------------------------------------------------------------------------------------


def turned(name: str, by: int) -> Effect:
    def holds(before: Seen, after: Seen) -> object:
        was, now = (getattr(one.frame.knobs, name) for one in (before, after))
        return (now > was) == (by > 0) and now != was and any(isinstance(one, SetKnobs) for one in after.sent)

    return holds


def now(name: str, value: Any) -> Effect:
    return lambda before, after: made.value(after.frame, name) == value


def by(name: str, change: Any) -> Effect:
    return lambda before, after: made.value(after.frame, name) == made.value(before.frame, name) + change


def toggled(name: str) -> Effect:
    return lambda before, after: made.value(after.frame, name) != made.value(before.frame, name)


def opened(page: str) -> Effect:
    """Or closed, by the key of the page that is open."""
    return lambda before, after: after.page == ("" if before.page == page else page)


def asks(word: str) -> Effect:
    return lambda before, after: word in after.asked


def boxed(purpose: Purpose) -> Effect:
    return lambda before, after: after.box == purpose.name and after.page == ""


def pane(name: str) -> Effect:
    return lambda before, after: (after.focus == name) == (before.focus != name) and after.page == ""


def each(*effects: Effect) -> Effect:
    return lambda before, after: all(effect(before, after) for effect in effects)


def strength(sign: int) -> Effect:
    return lambda before, after: (
        sign * sum(v.strength for v in after.frame.vectors) > sign * sum(v.strength for v in before.frame.vectors)
    )


def closed(before: Seen, after: Seen) -> object:
    return after.page == "" and before.page


def widened(before: Seen, after: Seen) -> object:
    if "-w1" in after.classes:
        return "one column" in after.frame.notice
    return after.frame.of(PaneLayout) != before.frame.of(PaneLayout) and after.page == ""


NOTHING: Effect = lambda before, after: True  # noqa: E731
ANYWHERE: dict[str, Effect] = {
    "prompt.send": sends(Write, prompt="one"),
    "prompt.newline": lambda before, after: (
        after.typed.count("\n") == before.typed.count("\n") + 1 and not after.sent
    ),
    "prompt.older": lambda before, after: after.box == "NEW",
    "prompt.newer": lambda before, after: after.box == "NEW",
    "prompt.mode": lambda before, after: ("system" in before.frame.box) != ("system" in after.frame.box),
    "prompt.system": lambda before, after: after.focus != before.focus and after.focus.startswith("prompt"),
    "prompt.close": lambda before, after: after.box == "" and after.focus == "stream",
    "ask.take": lambda before, after: after.asked == "",
    "ask.older": lambda before, after: after.asked != "",
    "ask.newer": lambda before, after: after.asked != "",
    "ask.close": lambda before, after: after.asked == "",
    "strip.left": lambda before, after: after.frame.knob != before.frame.knob,
    "strip.right": lambda before, after: after.frame.knob != before.frame.knob,
    "strip.up": turned("top_k", 1),
    "strip.down": turned("top_k", -1),
    **{f"strip.{digit}": typed(digit) for digit in "0123456789"},
    "strip.point": typed("."),
    "strip.minus": typed("-"),
    "strip.take": lambda before, after: after.frame.knobs == before.frame.knobs,  # nothing is typed
    "strip.reset": lambda before, after: after.frame.knobs.top_k == 0 and sends(SetKnobs)(before, after),
    "strip.leave": lambda before, after: after.focus == "stream",
    "numbers.tint": lambda before, after: after.frame.tint == made.value(before.frame, "chosen"),
    "layers.lens": toggled("lens"),
    "layers.on": each(turned("lens", 1), lambda before, after: made.value(after.frame, "lens")),
    "numbers.chart": lambda before, after: made.value(before.frame, "chosen") in after.frame.chart_series,
    "stage.before": by("stage", -1),
    "stage.after": by("stage", 1),
    "stage.earlier": each(by("stage", -1), sends(SetKnobs)),
    "stage.later": each(by("stage", 1), sends(SetKnobs)),
    "branches.go": each(closed, sends(Go, run=1)),
    "branches.diff": opened("diff"),
    "branches.name": asks("name of run 1"),
    "branches.star": sends(Label, run=1, starred=True),
    "branches.delete": sends(Label, run=1, deleted=True),
    "branches.hidden": toggled("hidden"),
    "diff.back": opened("branches"),
    "lanes.run": sends(SetShadow),
    "lanes.hotter": lambda before, after: (
        made.value(after.frame, "temperature") > made.value(before.frame, "temperature")
    ),
    "lanes.cooler": lambda before, after: (
        made.value(after.frame, "temperature") < made.value(before.frame, "temperature")
    ),
    "lanes.type": lambda before, after: "nothing to type" in after.frame.notice,  # the row of the temperature
    "fan.take": each(closed, sends(Branch, step=AT)),
    "fan.same": asked_of_probe("continuations", same="exact"),
    "fan.more": lambda before, after: made.value(after.frame, "options").n > made.value(before.frame, "options").n,
    "fan.fewer": lambda before, after: made.value(after.frame, "options").n < made.value(before.frame, "options").n,
    "fan.longer": lambda before, after: (
        made.value(after.frame, "options").tokens > made.value(before.frame, "options").tokens
    ),
    "fan.shorter": lambda before, after: (
        made.value(after.frame, "options").tokens < made.value(before.frame, "options").tokens
    ),
    "fan.ask": asked_of_probe("continuations", n=8),
    "probes.ask": asked_of_probe("continuations"),
    "probes.edit": asks("options of continuations"),
    "probes.cancel": lambda before, after: "nothing is being answered" in after.frame.notice,
    "sessions.go": lambda before, after: "no other session" in after.frame.notice,
    "list.add": lambda before, after: after.asked and after.frame.row == 2,
    "list.edit": lambda before, after: after.asked and after.frame.row == 1,
    "list.delete": lambda before, after: any(
        len(getattr(one, "breakpoints", getattr(one, "texts", ()))) == 1 for one in after.sent
    ),
    "list.switch": lambda before, after: any(
        isinstance(one, SetBreakpoints) and not one.breakpoints[1].enabled for one in after.sent
    ),
    "page.close": closed,
    "pause": sends(Continue),
    "step": sends(Advance, tokens=1),
    "sentence": sends(Advance, until="sentence"),
    "line": sends(Advance, until="line"),
    "some": asks("how many"),
    "candidate.up": by("token", -1),
    "candidate.down": by("token", 1),
    "take": sends(Branch, step=AT),
    "ban": sends(Branch, step=AT),
    "ban.on": lambda before, after: len(after.frame.knobs.banned) == 1 and sends(Branch, step=AT)(before, after),
    "force": asks("force from step"),
    "back": by("cursor", -1),
    "on": by("cursor", 1),
    "back10": by("cursor", -10),
    "on10": by("cursor", 10),
    "first": now("cursor", 0),
    "follow": now("following", True),
    "prompt": boxed(Purpose.NEW),
    "again": each(sends(Write), lambda before, after: after.frame.knobs.seed == before.frame.knobs.seed + 1),
    "same": each(sends(Write), lambda before, after: after.frame.knobs.seed == before.frame.knobs.seed),
    "edit": boxed(Purpose.EDIT),
    "edit.prompt": boxed(Purpose.PROMPT),
    "stop": sends(Stop),
    "undo": lambda before, after: "nothing was changed" in after.frame.notice,
    "copy": asks("copy"),
    "reopen": lambda before, after: "this is no recording" in after.frame.notice,
    "restart": lambda before, after: "the engine is up" in after.frame.notice,
    "temperature.down": turned("temperature", -1),
    "temperature.up": turned("temperature", 1),
    "top_k.down": turned("top_k", -1),
    "top_k.up": turned("top_k", 1),
    "top_p.down": turned("top_p", -1),
    "top_p.up": turned("top_p", 1),
    "min_p.down": turned("min_p", -1),
    "min_p.up": turned("min_p", 1),
    "repeat.down": turned("repetition_penalty", -1),
    "repeat.up": turned("repetition_penalty", 1),
    "adaptive": lambda before, after: after.frame.knobs.adaptive != before.frame.knobs.adaptive,
    "order": lambda before, after: after.frame.knobs.order != before.frame.knobs.order,
    "strip": pane("knobs"),
    **{f"vector.{n}": vector(n) for n in range(1, 10)},
    "stronger": strength(1),
    "weaker": strength(-1),
    "vectors.off": lambda before, after: not any(one.on for one in after.frame.vectors),
    "scale": asks("scale a part of a block"),
    "policy": toggled("rebuild"),
    "shadow": sends(SetShadow),
    "twin": each(sends(Twin, step=AT), lambda before, after: after.page == ""),
    "fan": opened("fan"),
    "jump": asks("jump to which step"),
    "target.next": lambda before, after: after.frame.cursor > before.frame.cursor,
    "target.before": lambda before, after: after.frame.cursor < before.frame.cursor,
    "target.kind": lambda before, after: made.value(after.frame, "kind") != made.value(before.frame, "kind"),
    "search": asks("/"),
    "page.up": NOTHING,
    "page.down": NOTHING,
    "raw": toggled("raw"),
    "open.prompt": sends(Write),
    "tint": toggled("tint"),
    "tint.scale": toggled("relative"),
    "unit": toggled("bits"),
    "layer.down": by("layer", -1),
    "layer.up": by("layer", 1),
    "head.down": by("head", -1),
    "head.kind": lambda before, after: "no head of a kind is known" in after.frame.notice,
    "head.changes": toggled("changes"),
    "head.up": by("head", 1),
    "heads": pane("heads"),
    "attention": pane("attention"),
    **{page: opened(page) for page in PAGES if page not in ("diff", "fan")},
    "zoom": lambda before, after: ("-zoom" in before.classes) != ("-zoom" in after.classes) and after.page == "",
    "hide": lambda before, after: "no pane is hidden" in after.frame.notice,  # on the text
    "taller": lambda before, after: after.frame.of(PaneLayout) != before.frame.of(PaneLayout) and after.page == "",
    "lower": lambda before, after: after.frame.of(PaneLayout) != before.frame.of(PaneLayout) and after.page == "",
    "wider": widened,
    "narrower": widened,
    "focus": lambda before, after: after.focus != before.focus or before.page,
    "unfocus": lambda before, after: after.focus != before.focus or before.page,
    "escape": lambda before, after: after.focus == "stream" and "-zoom" not in after.classes,
    "help": lambda before, after: after.over == "HelpScreen",
    "palette": lambda before, after: after.over == "Palette",
    "demo": lambda before, after: after.frame.demo != before.frame.demo,
    "redraw": lambda before, after: after.frame.cursor == before.frame.cursor,
    "control": lambda before, after: "in control" in after.frame.notice,
    "detach": lambda before, after: "no engine to come back to" in after.frame.notice,
    "quit": lambda before, after: after.left,
}
"""Id of a key -> whether it did what its label says."""
ROWS = {
    "numbers": lambda before, after: made.value(after.frame, "chosen") != made.value(before.frame, "chosen"),
    "layers": lambda before, after: after.frame.layer != before.frame.layer,
    "waterfall": lambda before, after: after.frame.token != before.frame.token,
    "branches": lambda before, after: (
        made.value(after.frame, "branch") != made.value(before.frame, "branch") or len(before.frame.log.runs) < 3
    ),
    "diff": NOTHING,
}
"""Page -> whether another row is chosen; on the others `row` says which."""


def effect(key: Key, place: str) -> Effect:
    if key.id.startswith("page.row"):
        if key.id.startswith("page.rows"):
            return ROWS.get(place, lambda before, after: after.page == place)
        return ROWS.get(place, lambda before, after: after.frame.row != before.frame.row)
    if key.id in ("take", "candidate.up", "candidate.down") and place in PAGES:
        return NOTHING if place != "waterfall" or key.id != "take" else ANYWHERE[key.id]
    if key.id == "follow" and place in PAGES:
        return ANYWHERE[key.id]
    return ANYWHERE[key.id]


EVERY = [pytest.param(6, id="a sixth"), pytest.param(1, id="all", marks=pytest.mark.slow)]
"""One in so many is pressed, of the keys that act everywhere: others on the next page."""


@pytest.mark.parametrize("one_in", EVERY)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place or "usual")
async def test_every_key_does_what_the_table_says(place, size, one_in):
    """Keys of everywhere are pressed on pages and in the strip of knobs at one size, since no page knows them."""
    wrong = []
    async with screen(size) as (app, pilot):
        for n, (name, key) in enumerate(pressed(place)):
            if place and not key.where:
                if size != SIZES[0] or (n + PLACES.index(place)) % one_in:
                    continue
            elif one_in != EVERY[0].values[0]:
                continue  # pressed with the sixth
            await bring_to(app, pilot, place)
            before = seen(app)
            await pilot.press(name)
            await pilot.pause()
            after = seen(app)
            if not effect(key, place)(before, after):
                wrong.append(f"{name} ({key.label}): {after.frame.notice or after.sent}")
    assert not wrong, "\n".join(wrong)


def test_every_key_has_a_meaning_here():
    elsewhere = {"suspend"}  # test_leaving.py presses it in a shell
    known = {
        key.id
        for key in KEYS
        if key.where != "replay" and key.id not in elsewhere and not key.id.startswith("page.row")
    }
    assert known == ANYWHERE.keys()
