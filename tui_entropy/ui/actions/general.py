"""What the keys do: each action changes the frame, tells the engine, or both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as changed
from textual.app import SystemCommand

from tui_entropy.core.errors import UserError
from tui_entropy.metrics.standard import BY_NAME
from tui_entropy.records.commands import Continue, Pause, SetKnobs, SetVector, Stop
from tui_entropy.records.knobs import read
from tui_entropy.records.sampling import Knobs
from tui_entropy.ui.actions import knob_steps
from tui_entropy.ui.actions.branching import BranchActions
from tui_entropy.ui.actions.breakpoints import ListActions
from tui_entropy.ui.actions.comparison import LaneActions
from tui_entropy.ui.actions.engine_link import AttachedActions
from tui_entropy.ui.actions.notices import Notices
from tui_entropy.ui.actions.pages import PageActions
from tui_entropy.ui.actions.prompt import PromptActions
from tui_entropy.ui.actions.stepping import StopActions
from tui_entropy.ui.actions.what_if import WhatIf
from tui_entropy.ui.dialogs.ask_line import Asking
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.theme import Theme, available, load, textual_theme
from tui_entropy.ui.keys.keymap import KEYS, named

if TYPE_CHECKING:
    from textual.screen import Screen


STRENGTH_STEP = 0.25
PANES = ("-show-heads", "-show-attention")
ZOOMABLE = ("stream", "twin", "chart", "candidates", "heads", "attention")
BUSY = ("reading", "writing")
GONE = ("failed", "lost")
TINTS = tuple(
    BY_NAME[name] for name in ("entropy", "varentropy", "surprisal", "rank", "window perplexity", "head entropy")
)
"""The series that most people want to tint by."""


class Actions(
    StopActions,
    ListActions,
    WhatIf,
    Asking,
    PromptActions,
    BranchActions,
    LaneActions,
    PageActions,
    AttachedActions,
    Notices,
):
    """The part of the app that keys, palette and mouse reach. The app itself has `frame`, `show`, `say`, `tell`."""

    vector_at = 0
    """The vector that + and - act on."""

    # --- Writing ---------------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        if self.frame.log.state in BUSY:
            self.tell(Pause())
        elif self.frame.log.state == "paused":
            self.tell(Continue())
        else:
            self.say_why_not()

    def action_stop(self) -> None:
        if self.frame.log.state in (*BUSY, "paused"):
            self.tell(Stop())
        else:
            self.say_why_not()

    def action_again(self, by: int) -> None:
        """The same prompt, with the seed moved on by this much."""
        if self.frame.log.state in GONE or self.wrote is None:
            self.say_why_not()
            return
        knobs = knob_steps.adjusted(self.frame.knobs, "seed", by) if by else self.frame.knobs
        self.show(knobs=knobs)
        self.write(changed(self.wrote, knobs=knobs))
        self.say(f"once more with seed {knobs.seed}")

    def action_copy(self) -> None:
        text = "".join(self.frame.log.steps.texts)
        if not text:
            self.refuse("nothing is written yet that could be copied")
            return
        self.copy_to_clipboard(text)
        self.say(f"sent to the clipboard: the text that was written, {len(text)} characters")

    def action_restart(self) -> None:
        if self.frame.log.state in GONE:
            self.begin_engine()
            self.say("starting the engine again; what was written stays until something new is")
        else:
            self.refuse("the engine is up; E starts it again when it is gone")

    def say_why_not(self) -> None:
        reasons = {
            "starting": "the engine is still starting",
            "loading": "the model is still loading",
            "ready": "nothing is being written: i asks for a prompt",
            "ended": "this text has ended: g writes it again, i asks for a new prompt",
        }
        state = self.frame.log.state
        self.refuse(reasons.get(state, "the engine is gone: E starts it again"))

    # --- Looking ---------------------------------------------------------------------------------------------

    def go_to(self, index: int) -> None:
        """The last step and anything beyond it means following."""
        self.show(cursor=max(index, 0), following=index >= self.frame.last)

    def action_move(self, by: int) -> None:
        self.go_to((self.frame.cursor or 0) + by)

    def action_first(self) -> None:
        self.go_to(0)

    def action_follow(self) -> None:
        self.show(following=True)

    def action_tint(self) -> None:
        """The next of the usual ones; the one chosen on the numbers page comes last."""
        beside = [BY_NAME["kl"]] if self.frame.log.run.shadow else []
        round = list(dict.fromkeys([*TINTS, *beside, self.frame.chosen, self.frame.tint]))
        self.show(tint=round[(round.index(self.frame.tint) + 1) % len(round)])

    def action_unit(self) -> None:
        self.show(bits=not self.frame.bits)

    def action_raw(self) -> None:
        self.show(raw=not self.frame.raw)

    def action_layer(self, by: int) -> None:
        if card := self.frame.log.card:
            self.show(layer=min(max(self.frame.layer + by, 1), card.n_layers))

    def action_head(self, by: int) -> None:
        if card := self.frame.log.card:
            head = min(max((self.frame.head or 0) + by, 0), card.n_heads)
            self.show(head=head or None)

    # --- Knobs -----------------------------------------------------------------------------------------------

    def set_knobs(self, knobs: Knobs) -> None:
        """Ask for them. A text that waits for its model begins with them."""
        self.suppose(self.frame.knobs)
        if knobs != self.frame.knobs and self.frame.log.state not in GONE:
            self.tell(SetKnobs(knobs))
        self.show(knobs=knobs, typed="")

    def action_turn(self, name: str, by: int) -> None:
        try:
            self.set_knobs(knob_steps.adjusted(self.frame.knobs, name, by))
        except UserError as mistake:
            self.refuse(str(mistake))

    def action_strip(self) -> None:
        self.focus_on("stream" if self.frame.place == "knobs" else "knobs")

    def action_leave_knobs(self) -> None:
        if self.frame.typed:
            self.show(typed="")
        else:
            self.focus_on("stream")

    def action_choose(self, by: int) -> None:
        self.show(knob=knob_steps.beside(self.frame.knobs, self.frame.knob, by), typed="")

    def action_turn_chosen(self, by: int) -> None:
        self.action_turn(self.frame.knob, by)

    def action_type(self, letter: str) -> None:
        self.show(typed=self.frame.typed + letter)

    def action_take_typed(self) -> None:
        if not self.frame.typed:
            return
        try:
            self.set_knobs(read(self.frame.knobs, self.frame.knob, self.frame.typed))
        except UserError as mistake:
            self.show(typed="")
            self.refuse(str(mistake))

    def action_reset_knob(self) -> None:
        if self.frame.typed:
            self.show(typed=self.frame.typed[:-1])
        else:
            self.set_knobs(knob_steps.reset(self.frame.knobs, self.frame.knob))

    # --- Control vectors -------------------------------------------------------------------------------------

    def set_vector(self, at: int, **changes: Any) -> None:
        vectors = list(self.frame.vectors)
        self.vector_at, vectors[at] = at, changed(vectors[at], **changes)
        if self.frame.log.state not in GONE:
            self.tell(SetVector(vectors[at], rebuild=self.frame.rebuild))
        self.show(vectors=tuple(vectors))

    def action_vector(self, number: int) -> None:
        known = len(self.frame.vectors)
        if number > known:
            self.refuse(
                f"there is no vector {number}: {known} {'is' if known == 1 else 'are'} loaded" if known else NONE
            )
            return
        self.set_vector(number - 1, on=not self.frame.vectors[number - 1].on)

    def action_strength(self, by: int) -> None:
        if not self.frame.vectors:
            self.refuse(NONE)
            return
        at = min(self.vector_at, len(self.frame.vectors) - 1)
        vector = self.frame.vectors[at]
        self.set_vector(at, strength=round(vector.strength + by * STRENGTH_STEP, 4))

    def action_no_vectors(self) -> None:
        for at, vector in enumerate(self.frame.vectors):
            if vector.on:
                self.set_vector(at, on=False)

    # --- Panes -----------------------------------------------------------------------------------------------

    @property
    def base(self) -> Screen[Any]:
        """The screen under whatever is open over it."""
        return self.screen_stack[0]

    @property
    def place(self) -> str:
        """What is asked, the page that is open, or the pane with keys of its own that has the focus; none while help
        or the palette is open over it."""
        if self.asking:
            return "ask"
        if self.page is not None and self.screen is self.page:
            return self.page.called
        focused = self.screen.focused if len(self.screen_stack) == 1 else None
        if focused is None:
            return ""
        if self.prompt_box is not None and self.prompt_box in focused.ancestors:
            return "prompt"
        return "knobs" if focused.id == "knobs" else ""

    def focus_on(self, name: str) -> None:
        self.action_close_page()
        self.base.query_one(f"#{name}").focus()

    def action_page(self, pages: int) -> None:
        from tui_entropy.ui.panes.stream import TokenStream

        self.base.query_one(TokenStream).page(pages)

    def action_pane(self, name: str) -> None:
        """To a pane, on small screens in place of others; the same key again leads back."""
        self.action_close_page()
        focused = self.base.focused
        back = focused is not None and focused.id == name
        self.base.remove_class(*PANES)
        if not back:
            self.base.add_class(f"-show-{name}")
        self.call_after_refresh(self.focus_on, "stream" if back else name)

    def action_zoom(self) -> None:
        self.action_close_page()
        if self.base.has_class("-zoom"):
            self._unzoom()
            return
        focused = self.base.focused
        name = focused.id if focused is not None and focused.id in ZOOMABLE else "stream"
        pane = self.base.query_one(f"#{name}")
        for shown in pane.ancestors_with_self:
            if shown.id == "body":
                break
            shown.add_class("-zoomed")
        self.base.add_class("-zoom")

    def _unzoom(self) -> None:
        self.base.remove_class("-zoom")
        self.base.query(".-zoomed").remove_class("-zoomed")

    def action_escape(self) -> None:
        self._unzoom()
        self.base.remove_class(*PANES)
        self.focus_on("stream")

    def action_help(self) -> None:
        from tui_entropy.ui.dialogs.help import HelpScreen

        self.push_screen(HelpScreen(self.frame))

    def action_redraw(self) -> None:
        self.forget_terminal()
        self.refresh(layout=True)

    def action_help_quit(self) -> None:
        """ctrl-C."""
        self.say("q or ctrl+q quits")

    # --- Palette and themes ----------------------------------------------------------------------------------

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        for key in KEYS:
            if key.where in ("", "usual") and key.action != "command_palette":
                label = key.label[0].upper() + key.label[1:]
                yield SystemCommand(
                    label, f"{key.group} · {named(key.keys)}", lambda key=key: self.perform(key.action)
                )
        for name in self.theme_names():
            yield SystemCommand(f"Theme {name}", "Colours", lambda name=name: self.choose_theme(name))

    async def perform(self, action: str) -> None:
        await self.run_action(action)

    def theme_names(self) -> list[str]:
        return sorted(available())

    def use_theme(self, theme: Theme) -> None:
        """The chrome of Textual's own widgets."""
        self.register_theme(textual_theme(theme, self.frame.paint.color))
        self.theme = theme.name

    def choose_theme(self, name: str) -> None:
        try:
            theme = load(name)
        except UserError as mistake:
            self.refuse(str(mistake))
            return
        self.use_theme(theme)
        self.show(paint=Paint(theme, self.frame.paint.color, self.frame.paint.ascii))


NONE = "no control vector is loaded"
