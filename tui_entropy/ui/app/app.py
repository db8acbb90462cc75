"""The inspector: owns the log, the cursor and the knobs. Events come in at `take`, frames go out at `show`."""

from __future__ import annotations

import asyncio
import gc
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec.structs import replace as changed
from textual.actions import parse
from textual.app import ComposeResult
from textual.containers import Container
from textual.driver import Driver

from tui_entropy.core import paths
from tui_entropy.records.commands import Command, Load, SetVector, Write
from tui_entropy.records.events import (
    AttentionRows,
    Event,
    Progress,
    Ready,
    Reconsidered,
    Refused,
    Standing,
    Started,
    VectorsChanged,
)
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.settings import Breakpoint, Vector
from tui_entropy.state.session_view import SessionView
from tui_entropy.transport.async_client import EngineProcess
from tui_entropy.transport.discovery import ENGINE
from tui_entropy.transport.plausible import contradiction
from tui_entropy.ui.actions.general import GONE, Actions
from tui_entropy.ui.app.repaint import RepaintScheduler
from tui_entropy.ui.app.view_requests import ViewRequests
from tui_entropy.ui.dialogs.failure import ClosesOnFailure
from tui_entropy.ui.drawing.line_filter import InAscii, WithoutControls
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.keymap import KEYS, bindings, holds
from tui_entropy.ui.pages.quadrants import Quadrants
from tui_entropy.ui.panes.attention import AttentionMap
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.chart import Chart
from tui_entropy.ui.panes.heads import HeadGrid
from tui_entropy.ui.panes.hints import Hints
from tui_entropy.ui.panes.knobs import KnobStrip
from tui_entropy.ui.panes.status import Status
from tui_entropy.ui.panes.stream import TokenStream, TwinStream
from tui_entropy.ui.protocol.dispatch import Dispatch
from tui_entropy.ui.terminal.detect import over_ssh
from tui_entropy.ui.terminal.fast_path import Shortcut
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import LIGHT, View

SSH = "over ssh: `ssh -C` packs what is sent to a sixth; --color truecolor has finer colours for next to nothing"
WELCOME = "space pauses · ← → look at one token · t T less or more heat · ? every key"

PLACES = {parse(key.action)[1:]: key.where for key in KEYS}
"""(action, arguments) -> the pane that must have the focus."""
LOOKS = (
    "following", "bits", "layer", "head", "paint", "place", "chosen", "charted", "tint", "token", "row", "stage",
    "knobs", "what_if",
    "branch", "hidden", "heat", "typed_lanes", "fan", "awaited", "second",
)  # fmt: skip
"""Fields of a frame that a person changes, and whose change heavy panes show at once."""


class InspectorApp(ClosesOnFailure, Actions, ViewRequests, Dispatch):
    """A debugger for the text that one engine writes.

    write: what to begin with once the model is up, None to wait for a person.
    breakpoints, watches: what the engine is told to stop at and to follow, once it is ready.
    engine_command: None for no engine, where somebody else calls `take`.
    trace, keep, on_leave, kept_cache: as in Load.
    attach: the socket of an engine that runs, in place of one of its own.
    forwarded: that engine may be on another machine, so that its record cannot be read from here.
    keymap: id of a key (ui/keys/keymap.py) -> keys in its place.
    driver_class: as Textual takes it; data is paced only by a DiffingDriver.
    """

    TITLE = "tui-entropy"
    CSS_PATH = "layout.tcss"
    BINDINGS = bindings()
    HORIZONTAL_BREAKPOINTS = [(0, "-w0"), (60, "-w1"), (108, "-w2"), (170, "-w3")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-h0"), (16, "-h1"), (32, "-h2"), (48, "-h3")]  # noqa: RUF012
    AUTO_FOCUS = "#stream"

    def __init__(
        self,
        spec: ModelSpec,
        write: Write | None = None,
        *,
        vectors: Sequence[Vector] = (),
        breakpoints: Sequence[Breakpoint] = (),
        watches: Sequence[str] = (),
        trace: Path | None = None,
        keep: float = 0.0,
        on_leave: str = "write",
        kept_cache: int = 1 << 30,
        attach: Path | None = None,
        forwarded: bool = False,
        paint: Paint | None = None,
        engine_command: Sequence[str] | None = ENGINE,
        keymap: Mapping[str, str] | None = None,
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(driver_class=driver_class)
        self._filters.append(WithoutControls())
        path = str(trace) if trace else None
        self.load, self.opening = Load(spec, tuple(vectors), path, keep, on_leave, kept_cache), write
        self.stops = tuple(breakpoints), tuple(watches)
        """What is set once the model is up."""
        self.attach, self.forwarded = attach, forwarded
        self.wrote = write
        """What was asked for last."""
        self._frame = Frame(SessionView(), paint or Paint())
        if self.frame.paint.ascii:
            self._filters.append(InAscii())
        if write:
            self.frame = replace(self.frame, knobs=write.knobs)
        self.engine = EngineProcess(engine_command, self.take, self.lose) if engine_command else None
        self.panes: tuple[View, ...] = ()
        self.attention = AttentionMap(id="attention")
        self.shortcut: Shortcut | None = None
        self._arrived: list[Event] = []
        self.repaints = RepaintScheduler(self)
        self._asked_rows: object = None
        self._rows_pending_since = -math.inf
        self.answers: dict[str, list[str]] = {}
        self._been_ready = False
        self.set_keymap(dict(keymap or {}))
        self.use_theme(self.frame.paint.theme)

    # --- Life ------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        stream, twin = TokenStream(id="stream"), TwinStream(id="twin")
        chart, attention = Chart(id="chart"), self.attention
        candidates, heads, knobs = Candidates(id="candidates"), HeadGrid(id="heads"), KnobStrip(id="knobs")
        status, hints = Status(id="status"), Hints(id="hints")
        quadrants = Quadrants(id="quadrants")
        self.panes = (status, stream, twin, knobs, hints, attention, quadrants, heads, candidates, chart)
        yield status
        yield Container(
            Container(Container(stream, twin, id="texts"), chart, attention, id="left"),
            Container(candidates, heads, quadrants, id="right"),
            id="body",
        )
        yield knobs
        yield hints

    def on_mount(self) -> None:
        repaints = self.repaints
        repaints.pacer = getattr(self._driver, "pacer", repaints.pacer)
        if getattr(self._driver, "diffs", False):
            self.shortcut = Shortcut(self, self._driver.paint, repaints.pacer)  # type: ignore[union-attr]
        repaints.pacer.on_answer = repaints.level
        paint = self.frame.paint
        self.screen.set_class(paint.ascii, "-ascii")
        self.screen.set_class(paint.ascii or not paint.rich, "-plain")

    def on_ready(self) -> None:
        """After the first paint, so that nothing delays it."""
        self._welcome()
        self.show()
        if self.attach and self.engine:
            self.engine.attach(self.attach)
        else:
            self.begin_engine()
        gc.freeze()  # what is here now stays: it need not be looked at in every full collection
        gc.enable()

    def on_unmount(self) -> None:
        """The terminal is already as it was."""
        self.repaints.stop()
        if self._record:
            self._record.close()  # first, since an engine leaves one file only if nobody else reads it
        if self.engine:
            (self.engine.close if self.ending else self.engine.leave)()

    def begin_engine(self) -> None:
        if self.engine:
            self.attach = self.standing = None
            self.engine.start(self.orders)
            self.frame.log.append(Progress("starting the engine"))

    def _welcome(self) -> None:
        """Once per user: the keys worth knowing; and what makes a link lighter, where there is one."""
        for name, wanted, sentence in (("welcomed", True, WELCOME), ("welcomed-over-ssh", over_ssh(os.environ), SSH)):
            with suppress(OSError):
                if wanted:
                    paths.state().mkdir(parents=True, exist_ok=True)
                    (paths.state() / name).touch(exist_ok=False)
                    self.say(sentence, seconds=60.0)
                    return

    # --- In --------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    @property
    def frame(self) -> Frame:
        """As it was shown last, on what the log holds by now."""
        return self._frame.fitted

    @frame.setter
    def frame(self, frame: Frame) -> None:
        self._frame = frame

    def take(self, events: Iterable[Event]) -> None:
        """Events come in here, from whatever source; they are shown together a moment later."""
        self._arrived += events
        if self._arrived and not self.leaving:
            self.repaints.data_soon()

    def lose(self, why: str) -> None:
        """The engine is gone. What it wrote stays."""
        if self.leaving:
            return
        self.repaints.drain()
        self.standing = None
        self.frame.log.lose(why)
        self._asked_rows = None
        self.show()

    def forget_terminal(self) -> None:
        """The terminal may show anything: what is painted next is sent whole."""
        if forget := getattr(self._driver, "forget", None):
            forget()

    def take_in(self) -> bool:
        """What has come goes into the log; whether anything had."""
        arrived, self._arrived = self._arrived, []
        for event in arrived:
            if wrong := contradiction(event, self.frame.log.card):
                self._distrust(wrong)
                break
            self._take_in(event)
        return bool(arrived)

    def _distrust(self, wrong: str) -> None:
        why = f"it told of {wrong} that cannot be"
        if self.engine:
            self.engine.distrust(why)
        else:
            self.frame.log.lose(why)

    def _take_in(self, event: Event) -> None:
        log = self.frame.log
        log.append(event)
        self.heed(event)
        self.heed_lanes(event)
        match event:
            case Ready():
                self._adopt(event.vectors, tell=self.in_control)
                if self.frame.layer > event.card.n_layers or not self._been_ready:
                    self.frame = replace(self.frame, layer=event.card.n_layers, head=None)
                self._been_ready = True
                if self.opening:
                    self.wrote, self.opening = changed(self.opening, knobs=self.frame.knobs), None
            case Started() if log.run_number == event.run:
                self.frame = replace(self.frame, cursor=None, following=True)
                self._asked_rows = None
            case VectorsChanged():
                self._adopt(event.vectors, tell=False)
            case Standing():
                self.stand(event)
            case Refused():
                self.frame = replace(self.frame, vectors=log.vectors)
                self._rows_pending_since = -math.inf
                self.reconsidered(None)
                self.say(event.sentence)
            case AttentionRows():
                self._rows_pending_since = -math.inf
            case Reconsidered():
                self.reconsidered(event.step)

    @property
    def orders(self) -> Load:
        """What a new engine is told: all that was asked for at the start, or is set since. So nothing of it is lost
        with this screen."""
        log, (breakpoints, watches) = self.frame.log, self.stops
        known = self.frame.vectors
        files = {vector.source for vector in known}
        return changed(
            self.load,
            vectors=(*known, *(vector for vector in self.load.vectors if vector.source not in files)),
            watches=tuple(watch.text for watch in log.run.watches) or watches,
            breakpoints=log.breakpoints or breakpoints,
            write=self.opening and changed(self.opening, knobs=self.frame.knobs),
        )

    def _adopt(self, known: tuple[Vector, ...], tell: bool) -> None:
        """Vectors that are new here come in as the engine has them; those that a person has set stay as set."""
        asked = {vector.name: vector for vector in self.frame.vectors}
        self.frame = replace(self.frame, vectors=tuple(asked.get(vector.name, vector) for vector in known))
        for vector, was in zip(self.frame.vectors, known, strict=True):
            if tell and vector != was:
                self.tell(SetVector(vector))

    # --- Out -------------------------------------------------------------------------------------------------

    @property
    def views(self) -> tuple[View, ...]:
        """Those that can be seen: of the page that is open, else of the usual screen."""
        return self.page.views if self.page else self.panes

    def tell(self, command: Command) -> None:
        if self.engine:
            self.engine.send(command)

    def write(self, wanted: Write) -> None:
        """Begin a text, now or when the model is up."""
        wanted = changed(wanted, knobs=self.frame.knobs)
        if self.frame.log.card is None or self.frame.log.state in ("starting", "loading", *GONE):
            self.opening = wanted
        else:
            self.opening, self.wrote = None, wanted
        if self.frame.log.state not in GONE:
            self.tell(wanted)

    def show(self, **changes: Any) -> None:
        """The one place where anything on screen changes. Heavy panes follow a little later."""
        if self.leaving:
            return
        before, frame = self.frame, replace(self.frame, **changes)
        last = frame.last
        cursor = last if frame.following or frame.cursor is None else min(frame.cursor, last)
        frame = replace(frame, cursor=cursor if last >= 0 else None)
        if frame.cursor != before.cursor and frame.place != "waterfall":
            frame = replace(frame, token=0)
        self.frame = frame = self.with_true_notice(self.supposed(frame))
        if self.page is not None:
            self.page.set_class(bool(frame.notice), "-notice")
        self.repaints.pacer.wanted = False  # whoever shows data says so
        self.base.set_class(frame.log.twin is not None, "-twin")
        for view in self.views:
            if view.PACE == LIGHT:
                view.show(frame)
        looked = any(getattr(before, name) != getattr(frame, name) for name in LOOKS)
        moved = not frame.following and before.cursor != frame.cursor
        self.repaints.heavy_soon(at_once=looked or moved)

    def all_shown(self) -> None:
        """Every pane shows the newest frame: what it lacks is asked for."""
        self._ask_attention()
        self.ask_what_if()

    def _ask_attention(self) -> None:
        """Rows for the attention view as it stands, one question at a time."""
        view, now = self.attention, self.clock.time()
        if self.page or not view.display or not view.size or now - self._rows_pending_since < 2.0:
            return
        ask = view.wanted(self.frame)
        if ask is None or (self.frame.log.run_number, ask) == self._asked_rows:
            return
        self._asked_rows, self._rows_pending_since = (self.frame.log.run_number, ask), now
        self.tell(ask)

    # --- Keys, palette, focus --------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        where = PLACES.get((action, parameters), "")
        if action == "recall" and self.frame.place == "prompt" and self.prompt_box:
            return self.prompt_box.may_recall(int(str(parameters[0])))
        return holds(where, self.place)

    def on_descendant_focus(self) -> None:
        focused = self.base.focused
        lanes = {"stream": False, "twin": True}
        self.show(place=self.place, second=lanes.get(focused.id or "" if focused else "", self.frame.second))

    def on_descendant_blur(self) -> None:
        self.show(place=self.place, typed="")

    def on_resize(self) -> None:
        self.forget_terminal()
        self.repaints.heavy_soon()
