"""Viewer: the screen on a log, wherever its events come from. Frames go out at `show`."""

from __future__ import annotations

import asyncio
import gc
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from textual import events
from textual.app import ComposeResult, SystemCommand
from textual.containers import Container
from textual.driver import Driver
from textual.screen import Screen

from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.actions.branching import BranchPageActions
from tui_entropy.ui.actions.comparison import LaneOptions
from tui_entropy.ui.actions.knobs import KnobStripActions
from tui_entropy.ui.actions.looking import LookActions
from tui_entropy.ui.actions.pages import PageActions, SessionActions
from tui_entropy.ui.actions.panes import PaneActions
from tui_entropy.ui.app.look_keeper import LookKeeper
from tui_entropy.ui.app.notices import NOTICE_S, Holds, Notices, always
from tui_entropy.ui.app.repaint import RepaintScheduler
from tui_entropy.ui.app.usual_screen import UsualScreen
from tui_entropy.ui.dialogs.ask_line import Questions
from tui_entropy.ui.dialogs.failure import ClosesOnFailure
from tui_entropy.ui.drawing.line_filter import InAscii, WithoutControls
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.theme import Theme, load, textual_theme
from tui_entropy.ui.keys.keymap import KEYS, bindings, first_key, key_names, keys_of
from tui_entropy.ui.keys.session_choice import Session
from tui_entropy.ui.pages.page import Page
from tui_entropy.ui.pages.quadrants import Quadrants
from tui_entropy.ui.panes.attention import AttentionMap
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.chart import Chart
from tui_entropy.ui.panes.heads import HeadGrid
from tui_entropy.ui.panes.hints import Hints
from tui_entropy.ui.panes.knobs import KnobStrip
from tui_entropy.ui.panes.status import Status
from tui_entropy.ui.panes.stream import TokenStream, TwinStream
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.dispatch import KEY_OF, Dispatch
from tui_entropy.ui.protocol.remark import Check, Remark
from tui_entropy.ui.terminal.fast_path import Shortcut
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.pane_layout import PaneLayout, arrange
from tui_entropy.ui.views.view import LIGHT, View

MISTAKE_S = 20.0
"""Seconds that a sentence on the settings stays."""
HEAVY_FIELDS = (
    "following", "bits", "layer", "head", "attention_tint", "paint", "place", "chart_series", "tint", "relative",
    "token", "row", "knobs", "what_if", "second", "pages",
)  # fmt: skip
"""Fields of a frame that a person changes, and whose change heavy panes show at once."""


class Viewer(ClosesOnFailure, Dispatch):
    """Panes and pages, the cursor, and what a person does with them. What acts on the text is in apps made of it.

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
        self, paint: Paint | None, keymap: Mapping[str, str] | None, driver_class: type[Driver] | None
    ) -> None:
        super().__init__(driver_class=driver_class)
        self._filters.append(WithoutControls())
        self._frame = Frame(SessionView(), paint or Paint(), keymap=keymap or {})
        if self.frame.paint.ascii:
            self._filters.append(InAscii())
        self.panes: tuple[View, ...] = ()
        self.attention = AttentionMap(id="attention")
        self.shortcut: Shortcut | None = None
        self.repaints = RepaintScheduler(self)
        self.notices, self.questions, self.pages = Notices(self), Questions(self), PageActions(self)
        self.keeper: LookKeeper | None = None
        """What remembers how a person wants to see it; None for nothing."""
        self.mistake = ""
        """What is wrong with a person's settings, said once the screen is up."""
        self.next: Session | None = None
        """The session that the next screen shows."""
        self.set_keymap(dict(keymap or {}))
        self.use_theme(self.frame.paint.theme)

    def parts(self) -> Iterable[Actions[Any]]:
        """The actions of keys that there are on any log."""
        looking, panes, strip = LookActions(self), PaneActions(self), KnobStripActions(self)
        pages = self.pages, SessionActions(self), BranchPageActions(self), LaneOptions(self)
        return self.questions, looking, panes, strip, *pages

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
        self.screen.set_class(self.frame.demo, "-demo")
        self.screen.set_class(paint.ascii, "-ascii")
        self.screen.set_class(paint.ascii or not paint.rich, "-plain")
        for pane in self.panes:  # each is drawn once it has a size, so that the first paint shows something to read
            pane.show(self.frame)

    def on_ready(self) -> None:
        """After the first paint, so that nothing delays it."""
        self.begin()
        if self.mistake:
            self.say(self.mistake, seconds=MISTAKE_S)
        gc.freeze()  # what is here now stays: it need not be looked at in every full collection
        gc.enable()

    @abstractmethod
    def begin(self) -> None:
        """See to it that events come."""

    def on_unmount(self) -> None:
        """The terminal is already as it was."""
        self.repaints.stop()
        if self.keeper is not None:
            self.keeper.write()

    @property
    def parting(self) -> str:
        """The last words for a person who left; empty for none."""
        return ""

    @property
    @abstractmethod
    def whereabouts(self) -> str:
        """The name of the session that is shown (session_choice.Session); empty where that is not known."""

    def leave_for(self, session: Session) -> None:
        """Close this screen; whoever ran it opens that of the session in its place."""
        self.next = session
        self.exit()

    @property
    def clock(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def forget_terminal(self) -> None:
        """The terminal may show anything: what is painted next is sent whole."""
        if forget := getattr(self._driver, "forget", None):
            forget()

    # --- What is shown ---------------------------------------------------------------------------------------

    @property
    def frame(self) -> Frame:
        """As it was shown last, on what the log holds by now."""
        return self._frame.fitted

    @frame.setter
    def frame(self, frame: Frame) -> None:
        self._frame = frame

    @property
    def page(self) -> Page | None:
        return self.pages.page

    @property
    def views(self) -> tuple[View, ...]:
        """The views that can be seen: of the page that is open, else of the usual screen."""
        return self.page.views if self.page else self.panes

    def show(self, **changes: Any) -> None:
        """The one place where anything on screen changes. Heavy panes follow a little later."""
        if self.leaving:
            return
        own = self.frame.own_head or "layer" in changes or "head" in changes
        before, frame = self.frame, replace(self.frame, **changes, own_head=own).with_head
        last = frame.last
        cursor = last if frame.following or frame.cursor is None else min(frame.cursor, last)
        frame = replace(frame, cursor=cursor if last >= 0 else None)
        if frame.cursor != before.cursor and frame.place != "waterfall":
            frame = replace(frame, token=0)
        self.frame = frame = self.notices.true_in(self.with_answers(replace(frame, lacking=self.lacking)))
        if self.keeper is not None:
            self.keeper.on_frame(frame)
        told = bool(frame.notice or frame.caption)
        self.base.set_class(told and not frame.demo, "-notice")
        if self.page is not None:
            self.page.set_class(told, "-notice")
        self.repaints.pacer.wanted = False  # whoever shows data says so
        self.base.set_class(frame.log.twin is not None, "-twin")
        self.base.set_class(frame.demo, "-demo")
        for view in self.views:
            if view.PACE == LIGHT:
                view.show(frame)
        looked = any(getattr(before, name) != getattr(frame, name) for name in HEAVY_FIELDS)
        moved = not frame.following and before.cursor != frame.cursor
        self.repaints.heavy_soon(at_once=looked or moved)

    def with_answers(self, frame: Frame) -> Frame:
        """The frame with what is known of it elsewhere."""
        return frame

    def take_in(self) -> bool:
        """Put what has come into the log. Returns whether anything had."""
        return False

    def on_all_shown(self) -> None:
        """Every pane shows the newest frame."""

    # --- What its parts ask for ------------------------------------------------------------------------------

    @property
    def base(self) -> Screen[Any]:
        return self.screen_stack[0]

    @property
    def model_name(self) -> str:
        """The model as a person asked for it; empty where nobody did, as in a recording."""
        return ""

    @property
    def place(self) -> str:
        """The name of what keys act on: the question, the page that is open, or the pane with keys of its own that
        has the focus; none while help or the palette is open over it."""
        if self.questions.asking:
            return "ask"
        if self.page is not None and self.screen is self.page:
            return self.page.called
        focused = self.screen.focused if len(self.screen_stack) == 1 else None
        if focused is None:
            return ""
        if any(node.id == "prompt" for node in focused.ancestors):
            return "prompt"
        return "knobs" if focused.id == "knobs" else ""

    def say(self, sentence: str, seconds: float = NOTICE_S, holds: Holds = always) -> None:
        self.notices.say(sentence, seconds, holds)

    def refuse(self, sentence: str) -> None:
        self.notices.refuse(sentence)

    def ask(
        self,
        question: str,
        take: Callable[[str], None],
        text: str = "",
        check: Check = lambda _: Remark(),
        choices: str = "",
    ) -> None:
        self.questions.ask(question, take, text, check, choices)

    def go_to(self, index: int) -> None:
        self.show(cursor=max(index, 0), following=index >= self.frame.last)

    def go_before_first(self) -> None:
        self.go_to(0)

    @abstractmethod
    def go_to_run(self, run: int) -> None: ...

    def focus_on(self, name: str) -> None:
        self.close_page()
        self.base.query_one(f"#{name}").focus()

    def arrange(self, layout: PaneLayout) -> None:
        """Show the panes as a layout says. It is kept as `frame.of(PaneLayout)`."""
        self.show(pages={**self.frame.pages, PaneLayout: layout})
        self._arrange()
        if layout.hidden:  # a column without panes has no width, which the stylesheet has to say first
            self.call_after_refresh(self._arrange)

    def _arrange(self) -> None:
        arrange(self.base, self.frame.of(PaneLayout).hiding(*self.frame.untold_panes))

    def get_default_screen(self) -> Screen[Any]:
        return UsualScreen(self._arrange)

    def open_page(self, name: str) -> None:
        self.pages.action_open(name)

    def close_page(self) -> None:
        self.pages.action_close_page()

    def on_acted(self, name: str, arguments: tuple[object, ...]) -> None:
        """In a demo, tell those who look on which key it was."""
        if self.frame.demo and (key := KEY_OF.get((name, arguments))):
            self.show(caption=f"{first_key(keys_of(key, self.frame.keymap), self.frame.paint.ascii)}  {key.label}")

    # --- Focus, mouse and size -------------------------------------------------------------------------------

    def on_descendant_focus(self) -> None:
        if not self.screen_stack:  # the last screen is gone, and what it told before comes late
            return
        focused = self.base.focused
        name = focused.id or "" if focused else ""
        second = {"stream": False, "twin": True}.get(name, self.frame.second)
        self.show(place=self.place, focus=name, second=second)

    def on_descendant_blur(self) -> None:
        self.show(place=self.place, typed="")

    def on_resize(self, event: events.Resize) -> None:
        """A terminal that is as large as it was when it was painted, after two changes with no painting between, may
        have lost rows meanwhile: Textual paints only for another size."""
        self.forget_terminal()
        if event.size == self.screen._compositor.size:
            self.refresh(layout=True)
        self.repaints.heavy_soon()

    def on_view_cursor_asked(self, message: View.CursorAsked) -> None:
        self.go_to(message.index)

    def on_token_stream_scrolled(self, message: TokenStream.Scrolled) -> None:
        """Scroll the other one of two lanes side by side."""
        for stream in self.base.query(TokenStream):
            if stream is not message.stream:
                stream.begin_with(message.step)

    def on_view_head_asked(self, message: View.HeadAsked) -> None:
        self.show(layer=message.layer, head=message.head)

    def on_view_knob_asked(self, message: View.KnobAsked) -> None:
        self.focus_on("knobs")
        self.show(knob=message.name, typed="")

    async def on_view_token_asked(self, message: View.TokenAsked) -> None:
        """A second click on the same one takes it."""
        if message.token == self.frame.token:
            self.call_later(self.run_action, "take")
        else:
            await self.run_action(f"select({message.token - self.frame.token})")

    def on_view_row_asked(self, message: View.RowAsked) -> None:
        self.show(row=message.row)

    async def on_view_vector_asked(self, message: View.VectorAsked) -> None:
        await self.run_action(f"vector({message.index + 1})")

    # --- Palette and themes ----------------------------------------------------------------------------------

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        for key in KEYS:
            if key.where in ("", "usual") and key.action != "command_palette":
                label = key.label[0].upper() + key.label[1:]
                keys = key_names(keys_of(key, self.frame.keymap))
                yield SystemCommand(label, f"{key.group} · {keys}", lambda key=key: self.run_action(key.action))
        for name in self.theme_names():
            yield SystemCommand(f"Theme {name}", "Colours", lambda name=name: self.choose_theme(name))

    def theme_names(self) -> list[str]:
        return sorted(paths.theme_files())

    def use_theme(self, theme: Theme) -> None:
        """The chrome of Textual's own widgets."""
        self.register_theme(textual_theme(theme, self.frame.paint.color))
        self.theme = theme.name

    def choose_theme(self, name: str) -> None:
        try:
            theme = load(name)
        except UserError as mistake:
            return self.refuse(str(mistake))
        self.use_theme(theme)
        self.show(paint=Paint(theme, self.frame.paint.color, self.frame.paint.ascii))
