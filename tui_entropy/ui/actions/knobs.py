"""Knobs and control vectors: which one is chosen, and how they are set."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace as changed

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import SetKnobs, SetVector
from tui_entropy.records.knobs import BY_NAME, read
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import scaled_part
from tui_entropy.ui.keys import knob_steps
from tui_entropy.ui.keys.needs import GONE
from tui_entropy.ui.pages.layers import LayersState
from tui_entropy.ui.pages.waterfall import WaterfallState
from tui_entropy.ui.protocol.actions import Actions, EngineActions
from tui_entropy.ui.protocol.host import EngineHost, Host
from tui_entropy.ui.protocol.remark import checked
from tui_entropy.ui.protocol.what_if import WhatIf

STRENGTH_STEP = 0.25
NONE = "no control vector is loaded"


class KnobStripActions(Actions[Host]):
    """To the strip of knobs and about in it."""

    def action_strip(self) -> None:
        self.app.focus_on("stream" if self.app.frame.place == "knobs" else "knobs")

    def action_leave_knobs(self) -> None:
        if self.app.frame.typed:
            self.app.show(typed="")
        else:
            self.app.focus_on("stream")

    def action_choose(self, by: int) -> None:
        frame = self.app.frame
        self.app.show(knob=knob_steps.beside(frame.knobs, frame.knob, by), typed="")


class KnobActions(EngineActions):
    """The actions that set a knob."""

    def __init__(self, app: EngineHost, what_if: WhatIf) -> None:
        super().__init__(app)
        self._what_if = what_if

    def set(self, knobs: Knobs) -> None:
        """Ask for them. A text that waits for its model begins with them."""
        frame = self.app.frame
        self._what_if.suppose(frame.knobs)
        if knobs != frame.knobs and frame.log.state not in GONE:
            self.app.tell(SetKnobs(knobs))
        self.app.show(knobs=knobs, typed="")

    def action_turn(self, name: str, by: int) -> None:
        try:
            self.set(knob_steps.adjusted(self.app.frame.knobs, name, by))
        except UserError as mistake:
            self.app.refuse(str(mistake))

    def action_turn_chosen(self, by: int) -> None:
        self.action_turn(self.app.frame.knob, by)

    def action_type(self, letter: str) -> None:
        self.app.show(typed=self.app.frame.typed + letter)

    def action_take_typed(self) -> None:
        frame = self.app.frame
        if not frame.typed:
            return
        try:
            self.set(read(frame.knobs, frame.knob, frame.typed))
        except UserError as mistake:
            self.app.show(typed="")
            self.app.refuse(str(mistake))

    def action_reset_knob(self) -> None:
        frame = self.app.frame
        if frame.typed:
            self.app.show(typed=frame.typed[:-1])
        else:
            self.set(knob_steps.reset(frame.knobs, frame.knob))

    def action_move_stage(self, by: int) -> None:
        """The chosen stage and its neighbour change places."""
        order, at = list(self.app.frame.knobs.order), self.app.frame.of(WaterfallState).stage
        to = at + by
        if 0 <= to < len(order):
            order[at], order[to] = order[to], order[at]
            self.set(changed(self.app.frame.knobs, order=tuple(order)))
            self.app.show(**self.app.frame.put(WaterfallState, stage=to))

    def action_lens(self) -> None:
        """The next of LENS; what it reads is shown."""
        every = self.app.frame.knobs.lens
        values = list(LENS)
        self.set(
            changed(
                self.app.frame.knobs, lens=values[(values.index(every) + 1) % len(values) if every in LENS else 0]
            )
        )
        self.app.show(**self.app.frame.put(LayersState, lens=True))
        self.app.say(LENS[self.app.frame.knobs.lens])

    def action_adaptive(self) -> None:
        self.set(knob_steps.adjusted(self.app.frame.knobs, "adaptive", 1))
        self.app.say(ADAPTIVE[self.app.frame.knobs.adaptive])


class VectorActions(EngineActions):
    """The actions that set a control vector, and what a change of one does with the text before it."""

    _last = 0
    """The vector that + and - act on."""

    def _set(self, at: int, **changes: Any) -> None:
        frame = self.app.frame
        vectors = list(frame.vectors)
        self._last, vectors[at] = at, changed(vectors[at], **changes)
        if frame.log.state not in GONE:
            self.app.tell(SetVector(vectors[at], rebuild=frame.rebuild))
        self.app.show(vectors=tuple(vectors))

    def action_vector(self, number: int) -> None:
        vectors = self.app.frame.vectors
        if number > len(vectors):
            known = f"{len(vectors)} {'is' if len(vectors) == 1 else 'are'} loaded"
            self.app.refuse(f"there is no vector {number}: {known}" if vectors else NONE)
            return
        self._set(number - 1, on=not vectors[number - 1].on)

    def action_strength(self, by: int) -> None:
        vectors = self.app.frame.vectors
        if not vectors:
            self.app.refuse(NONE)
            return
        at = min(self._last, len(vectors) - 1)
        self._set(at, strength=round(vectors[at].strength + by * STRENGTH_STEP, 4))

    def action_no_vectors(self) -> None:
        for at, vector in enumerate(self.app.frame.vectors):
            if vector.on:
                self._set(at, on=False)

    def action_scale(self) -> None:
        """A factor for what the head, or the layer, that is looked at adds."""
        frame = self.app.frame

        def take(typed: str) -> None:
            vector = scaled_part(typed)
            vectors = self.app.frame.vectors
            names = [known.name for known in vectors]
            if vector.name in names:
                self._set(names.index(vector.name), strength=vector.strength, on=True)
                return
            self._last = len(vectors)
            self.app.tell(SetVector(vector, rebuild=self.app.frame.rebuild))
            self.app.show(vectors=(*vectors, vector))

        part = "attention" if frame.head is None else frame.head
        self.app.ask("scale a part of a block, 0 ablates it", take, f"{frame.layer}.{part}=0", checked(scaled_part))

    def action_policy(self) -> None:
        rebuild = not self.app.frame.rebuild
        self.app.show(rebuild=rebuild)
        self.app.say(REBUILD if rebuild else KEEP)


_HEURISTIC = f"a heuristic to look at, about {BY_NAME['adaptive'].cost:g} ms a token: {{quadrants}} shows it"
ADAPTIVE = {
    "off": "adaptive sampling off: the knobs as you set them",
    "S1": f"adaptive S1: each step changes the knobs by Entropix's first thresholds; {_HEURISTIC}",
    "S3": f"adaptive S3: each step changes the knobs by Entropix's last thresholds; {_HEURISTIC}",
    "own": f"adaptive own: thresholds are quantiles of this text's recent steps; {_HEURISTIC}",
}
LENS = {
    0: "the lens is off",
    1: "the lens reads every layer at each token from the next on",
    4: "the lens reads every fourth layer at each token from the next on",
}
"""Layers from one that is read to the next, 0 for none -> what is said."""
KEEP = "the next change of a vector acts from there on: keys and values of the text before stay as they are"
REBUILD = "the next change of a vector has the whole text before read again under it"
