"""Changes: what an engine was told that can be undone, in words, and what reverses each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from tui_entropy.records.commands import Branch, Command, Continue, Go, Pause, SetKnobs, SetVector, Stop
from tui_entropy.records.knobs import KNOBS
from tui_entropy.state.run_view import knob_changes, vector_changes
from tui_entropy.ui.drawing.glyphs import visible_token
from tui_entropy.ui.views.frame import Frame

Reversal = Callable[[Frame], tuple[Command, ...]]
"""What to tell the engine, as things are set when it is undone."""
MAX_CHANGES = 100


class Change(NamedTuple):
    """What one action did."""

    sentence: str
    reversals: tuple[Reversal, ...]
    """In the order in which they are told."""


class Changes:
    """The changes that can be undone, oldest first. What is told within one action is one of them."""

    def __init__(self) -> None:
        self._done: list[Change] = []
        self._within: list[Change] | None = None

    def begin(self) -> None:
        """An action begins."""
        self._within = []

    def told(self, command: Command, frame: Frame) -> None:
        """The engine is about to be told this, as things are set in a frame."""
        if self._within is not None and (change := change_of(command, frame)):
            self._within.append(change)

    def end(self) -> Change | None:
        """The action has ended; what it did as a whole, None where nothing of it can be undone."""
        parts, self._within = self._within or [], None
        if not parts:
            return None
        words = ", ".join(dict.fromkeys(part.sentence for part in parts))
        whole = Change(words, tuple(step for part in reversed(parts) for step in part.reversals))
        self._done = [*self._done, whole][-MAX_CHANGES:]
        return whole

    def forget(self) -> None:
        """Another engine, or another one's control: nothing of before can be undone."""
        self._done = []

    def take(self) -> Change | None:
        """The newest, which is undone now."""
        self._within = None
        return self._done.pop() if self._done else None

    def __len__(self) -> int:
        return len(self._done)


def change_of(command: Command, frame: Frame) -> Change | None:
    """What a command changes, and how that is reversed; None where it cannot be."""
    match command:
        case SetKnobs(knobs):
            before = frame.knobs
            fields = {knob.name: getattr(before, knob.name) for knob in KNOBS}
            own = {name: value for name, value in fields.items() if value != getattr(knobs, name)}
            words = ", ".join(knob_changes(before, knobs))
            return Change(words, (lambda now: (SetKnobs(replace(now.knobs, **own)),),)) if own else None
        case SetVector(vector, rebuild):
            was = next((one for one in frame.vectors if one.name == vector.name), None)
            if was is None and vector.part:
                was = replace(vector, on=False)
            if was is None or was == vector:
                return None
            words = ", ".join(vector_changes((was,), (vector,))) or f"{vector.name} {vector.amount}"
            return Change(words, (lambda now: (SetVector(was, rebuild),),))
        case Stop():
            rests = frame.log.state == "paused"
            goes_on = Pause() if rests else Continue()  # told to a text that was stopped, either opens it again
            return Change("the end of the text", (lambda now: (goes_on,) if now.log.stopped else (),))
        case Branch():
            return _of_branch(command, frame)
    return None


def _of_branch(command: Branch, frame: Frame) -> Change | None:
    banned = ", ".join(_named(frame, one) for one in command.ban)
    words = f"{banned} banned at step {command.step + 1}" if banned else f"another way from step {command.step + 1}"
    if not frame.held_up:
        return Change(words, (lambda now: (Go(command.run),) if command.run in now.log.runs else (),))
    if not command.ban or frame.step is None:
        return None  # what was written in place of the step that was held up stays written
    asked = {one.token_id for one in frame.step.candidates if one.cut == "banned"}
    before = tuple(one for one in command.ban if one in asked - {*frame.knobs.banned})
    return Change(words, (lambda now: (replace(command, ban=before),),))


def _named(frame: Frame, token_id: int) -> str:
    """A token as a sentence names it."""
    step = frame.step
    known = {one.token_id: one.token_bytes for one in step.candidates} if step else {}
    data = step.token_bytes if step and step.token_id == token_id else known.get(token_id, b"")
    return visible_token(token_id, data, frame.paint.ascii)
