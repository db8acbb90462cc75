"""The lanes that a person can choose: what may be written beside the text."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace as changed

from tui_entropy.records.commands import SetShadow
from tui_entropy.records.settings import Lane, Vector
from tui_entropy.ui.views.frame import Frame

NO_VECTORS, SYSTEM, PROMPT = "no vectors", "other system prompt", "other prompt"


@dataclass(frozen=True)
class LanesState:
    """The state that the page of lanes keeps."""

    lane: Lane | None = None
    """What a shadow or a twin was chosen to be."""
    awaited: SetShadow | None = None
    """The shadow that was asked for, until one is told of: that comes with the next step."""
    temperature: float = 1.5
    """Temperature of a lane that differs in that."""
    typed_lanes: tuple[Lane, ...] = ()
    """Those with a prompt that a person typed."""


@dataclass(frozen=True)
class Choice:
    lane: Lane | None
    """None where a person has to type something first."""
    name: str
    about: str
    same: bool = False
    """It would be this very text: nothing in it differs from what is set now."""


def shadow_set(frame: Frame) -> Lane | None:
    """The shadow of the next step: as asked for, else as it runs."""
    awaited = frame.of(LanesState).awaited
    return awaited.lane if awaited else frame.log.run.shadow


def choices(frame: Frame) -> list[Choice]:
    """The choices of what a lane may differ in, with things as they are set now."""
    vectors, state = frame.vectors or frame.log.vectors, frame.of(LanesState)
    lanes = []
    if vectors:
        off = tuple(changed(vector, on=False) for vector in vectors)
        same = not _acting(vectors)
        about = "as it is now: no vector is on" if same else "all of them off"
        lanes.append(Choice(Lane(NO_VECTORS, vectors=off), NO_VECTORS, about, same))
        for vector in vectors:
            only = tuple(changed(one, on=one.name == vector.name) for one in vectors)
            name = f"only {vector.name}"
            same = _acting(only) == _acting(vectors)
            about = f"{vector.amount}, all others off" + (": as it is now" if same else "")
            lanes.append(Choice(Lane(name, vectors=only), name, about, same))
    hot = Lane(f"temperature {state.temperature:g}", knobs=changed(frame.knobs, temperature=state.temperature))
    same = state.temperature == frame.knobs.temperature
    notes = ["as it is now"] * same + ["+ and - turn it"] * ("lane" not in frame.lacking)
    lanes.append(Choice(hot, hot.name, ": ".join(notes), same))
    for name in (SYSTEM, PROMPT):
        typed = next((lane for lane in state.typed_lanes if lane.name == name), None)
        text = (typed.system if name == SYSTEM else typed.prompt) if typed else None
        unasked = "" if "lane" in frame.lacking or frame.log.started is None else "enter asks for it"
        lanes.append(Choice(typed, name, text or unasked))
    return lanes


def _acting(vectors: tuple[Vector, ...]) -> list[Vector]:
    """The vectors that change anything."""
    return [vector for vector in vectors if vector.on and vector.strength != vector.neutral]
