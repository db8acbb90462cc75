"""The inspector: the screen of one engine. Events come in at `take`, commands go out at `tell`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace as changed
from textual.driver import Driver

from tui_entropy.core import paths
from tui_entropy.records.commands import Command, Go, Load, Reopen, SetVector, Write
from tui_entropy.records.events import (
    Ended,
    Event,
    HeadSelected,
    Progress,
    Ready,
    Refused,
    Standing,
    Started,
    Switched,
    VectorsChanged,
)
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes import attention_rows, step, visit
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.settings import Breakpoint, Vector
from tui_entropy.transport.async_client import EngineProcess
from tui_entropy.transport.discovery import ENGINE
from tui_entropy.transport.plausible import contradiction
from tui_entropy.ui.actions.branching import BranchActions
from tui_entropy.ui.actions.breakpoints import ListActions
from tui_entropy.ui.actions.comparison import ComparisonActions, ContinuationActions
from tui_entropy.ui.actions.engine_link import WATCHING, EngineLink
from tui_entropy.ui.actions.knobs import KnobActions, VectorActions
from tui_entropy.ui.actions.probes import ProbeActions
from tui_entropy.ui.actions.prompt import PromptActions
from tui_entropy.ui.actions.stepping import StepActions, WriteActions
from tui_entropy.ui.actions.undo import UndoActions
from tui_entropy.ui.app.attention_requests import AttentionRequests
from tui_entropy.ui.app.reopening import Reopening
from tui_entropy.ui.app.viewer import Viewer
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.needs import GONE, inability_of, unable
from tui_entropy.ui.keys.session_choice import Session
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.changes import Changes
from tui_entropy.ui.protocol.requests import Requests
from tui_entropy.ui.protocol.visits import Visits
from tui_entropy.ui.protocol.what_if import WhatIf
from tui_entropy.ui.terminal.detect import over_ssh
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.pane_layout import PaneLayout

SSH = "over ssh: `ssh -C` packs what is sent to a sixth; --color truecolor has finer colours for next to nothing"
OVER = ("ended", "failed", "lost")
"""States in which nothing is written, so that other keys are worth knowing."""
BESIDE = "request {run} came: {follow} goes to the newest one"
WELCOME = "{pause} pauses · {back} {on} look at one token · {help} every key · `tui-entropy tour`: a tour"


class InspectorApp(Viewer):
    """A debugger for the text that one engine writes.

    begin: what to begin with once the model is up, None to wait for a person: a text, or a recording to go on with.
    breakpoints, watches: what the engine is told to stop at and to follow, once it is ready.
    engine_command: None for no engine, where somebody else calls `take`.
    trace, keep, on_leave, kept_cache, record_attention, endpoint: as in Load.
    attach: the socket of an engine that runs, in place of one of its own.
    forwarded: that engine may be on another machine, so that its record cannot be read from here.
    looks_at: the token of a text to be read, by its position, that the cursor is on once it has been read.
    keymap, driver_class: as Viewer takes them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        begin: Write | Reopen | None = None,
        *,
        vectors: Sequence[Vector] = (),
        breakpoints: Sequence[Breakpoint] = (),
        watches: Sequence[str] = (),
        trace: Path | None = None,
        keep: float = 0.0,
        on_leave: str = "write",
        kept_cache: int = 1 << 30,
        record_attention: str = "shown",
        endpoint: str = "",
        attach: Path | None = None,
        forwarded: bool = False,
        looks_at: int | None = None,
        paint: Paint | None = None,
        engine_command: Sequence[str] | None = ENGINE,
        keymap: Mapping[str, str] | None = None,
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(paint, keymap, driver_class)
        path = str(trace) if trace else None
        write, reopen = (None, begin) if isinstance(begin, Reopen) else (begin, None)
        load = Load(
            spec, tuple(vectors), path, keep, on_leave, kept_cache, record_attention, reopen=reopen,
            endpoint=endpoint,
        )  # fmt: skip
        self.requests = Requests(load, write, breakpoints, watches)
        if write:
            self.frame = replace(self.frame, knobs=write.knobs)
        self.reopening = Reopening(self, reopen)
        self.reopening.show_recorded()
        self.engine = EngineProcess(engine_command, self.take, self.lose) if engine_command else None
        self.link = EngineLink(self, attach, forwarded)
        self.what_if = WhatIf(self)
        self.visits = Visits(self, lambda: self.link.in_control)
        self.attention_requests = AttentionRequests(self, self.attention, lambda: self.link.in_control)
        self.knobs = KnobActions(self, self.what_if)
        self.prompts = PromptActions(self, looks_at)
        self.comparisons, self.continuations = ComparisonActions(self, self.prompts), ContinuationActions(self)
        self.probes = ProbeActions(self)
        self.changes = Changes()
        self.undo = UndoActions(self, self.changes)
        self._arrived: list[Event] = []
        self.give(*self.parts())

    def parts(self) -> Iterable[Actions[Any]]:
        """The actions of keys: on any log, and with an engine."""
        yield from super().parts()
        yield from (self.link, self.knobs, self.prompts, self.continuations, VectorActions(self), WriteActions(self))
        yield self.reopening
        yield from (
            StepActions(self, self.knobs, self.prompts),
            self.comparisons,
            self.probes,
            self.undo,
            BranchActions(self),
            ListActions(self),
        )

    @property
    def lacking(self) -> frozenset[str]:
        """Beside those of a recording: what the source cannot be told, and while another screen is in control all
        that command the engine."""
        lacking = super().lacking | unable(self.frame.log.capabilities)
        return lacking | self.commanding if self.link.watching else lacking

    def lack(self, action: str) -> None:
        if self.link.watching and action in self.commanding:
            self.refuse(WATCHING)
        elif action in unable(self.frame.log.capabilities):
            self.refuse(inability_of(action, self.frame.log.capabilities))
        else:
            self.refuse("this is for a recording: `tui-entropy replay` plays one")

    # --- Life ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._welcome()
        self.show()
        if self.link.attach and self.engine:
            self.engine.attach(self.link.attach)
        else:
            self.begin_engine()

    def on_unmount(self) -> None:
        """Beside what Viewer does then."""
        self.link.close()  # first, since an engine leaves one file only if nobody else reads it
        if self.engine:
            (self.engine.close if self.link.ending else self.engine.leave)()

    def begin_engine(self) -> None:
        if self.engine:
            self.link.part()
            self.engine.start(self.orders)
            self.frame.log.append(Progress("starting the engine"))

    @property
    def model_name(self) -> str:
        return self.requests.load.model.name

    @property
    def parting(self) -> str:
        return self.link.last_words

    @property
    def whereabouts(self) -> str:
        return self.link.standing.engine if self.link.standing else self.frame.log.trace or ""

    def leave_for(self, session: Session) -> None:
        self.link.leave(partial(super().leave_for, session))

    def _welcome(self) -> None:
        """Once per user: the keys worth knowing; and what makes a link lighter, where there is one."""
        for name, wanted, sentence in (("welcomed", True, WELCOME), ("welcomed-over-ssh", over_ssh(os.environ), SSH)):
            with suppress(OSError):
                if wanted:
                    paths.state().mkdir(parents=True, exist_ok=True)
                    (paths.state() / name).touch(exist_ok=False)
                    self.say(sentence, seconds=60.0, holds=lambda f: f.log.state not in OVER and not f.log.proxied)
                    return

    # --- In --------------------------------------------------------------------------------------------------

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
        self.link.lose()
        self.frame.log.lose(why)
        self.attention_requests.forget()
        self.visits.forget()
        self.show()

    def take_in(self) -> bool:
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
        is_first = log.card is None
        log.append(event, stay=not self.frame.following)
        self.link.on_event(event)
        self.comparisons.on_event(event)
        self.continuations.on_event(event)
        self.probes.on_event(event)
        self.prompts.on_event(event)
        self.undo.on_event(event)
        self.reopening.on_event(event)
        match event:
            case Ready():
                self._adopt(event.vectors, tell=self.link.in_control)
                if self.frame.layer > event.card.n_layers or is_first:
                    self.frame = replace(self.frame, layer=event.card.n_layers, head=None)
                if event.card.server is not None:
                    self.arrange(self.frame.of(PaneLayout))
                self.requests.deliver(self.frame.knobs)
                self.link.mirror_text()
            case Started() if log.run_number == event.run:
                self.frame = replace(self.frame, cursor=None, following=True)
                self.attention_requests.forget()
                self.visits.forget()
            case Started() if log.proxied:
                self.say(BESIDE.replace("{run}", str(event.run)), holds=lambda frame: frame.log.proxied)
            case Switched():  # what was set in a run is set again with it
                self.frame = replace(self.frame, knobs=log.set_knobs, vectors=log.set_vectors)
            case VectorsChanged():
                self._adopt(event.vectors, tell=False)
            case Ended() if log.stopped:
                self.say("the text ends here: {pause} goes on with it", holds=lambda frame: frame.log.stopped)
            case Standing():
                self.link.stand(event)
            case Refused():
                self.frame = replace(self.frame, vectors=log.set_vectors)
                self.attention_requests.on_answer()
                self.what_if.on_preview(None)
                self.visits.on_answer(None)
                self.say(event.sentence)
            case HeadSelected():
                self.attention_requests.on_selected()
            case ProbeAnswer(name=attention_rows.ATTENTION_ROWS):
                self.attention_requests.on_answer()
            case ProbeAnswer(name=step.STEP):
                self.what_if.on_preview(event)
            case ProbeAnswer(name=visit.VISIT):
                self.visits.on_answer(event)

    def _adopt(self, known: tuple[Vector, ...], tell: bool) -> None:
        """Vectors that are new here come in as the engine has them; those that a person has set stay as set."""
        asked = {vector.name: vector for vector in self.frame.vectors}
        self.frame = replace(self.frame, vectors=tuple(asked.get(vector.name, vector) for vector in known))
        for vector, was in zip(self.frame.vectors, known, strict=True):
            if tell and vector != was:
                self.tell(SetVector(vector))

    # --- Out -------------------------------------------------------------------------------------------------

    @property
    def orders(self) -> Load:
        """The load command of a new engine."""
        return self.requests.of_new_engine(self.frame)

    async def _act(self, name: str, arguments: tuple[object, ...]) -> None:
        """On a page, where the strip of knobs is not seen, what an action changed is said, unless it said more."""
        self.changes.begin()
        notice = self.frame.notice
        await super()._act(name, arguments)
        change = self.changes.end()
        if change and self.page is not None and self.frame.notice in ("", notice):
            self.say(change.sentence)

    def tell(self, command: Command) -> None:
        self.changes.told(command, self.frame)
        if self.engine:
            self.engine.send(command)

    def write(self, wanted: Write) -> None:
        """Begin a text, now or when the model is up."""
        wanted, log = changed(wanted, knobs=self.frame.knobs), self.frame.log
        self.requests.ask(wanted, is_up=not (log.card is None or log.state in ("starting", "loading", *GONE)))
        if log.state not in GONE:
            self.tell(wanted)

    def go_before_first(self) -> None:
        self.prompts.action_open_prompt()

    def go_to_run(self, run: int) -> None:
        self.tell(Go(run))

    def with_answers(self, frame: Frame) -> Frame:
        """With the answer to what it asks, where it asks and there is one."""
        return self.what_if.with_preview(frame)

    def on_all_shown(self) -> None:
        """Every pane shows the newest frame: what it lacks is asked for."""
        self.attention_requests.ask()
        self.what_if.ask()
        self.visits.ask()
