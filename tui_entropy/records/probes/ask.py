"""Probes as both processes know them: which there are, what they are asked, and what they answer."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tui_entropy.records.bounds import Position, Words
from tui_entropy.records.probes.panels import Panel

# --- Which there are -----------------------------------------------------------------------------------------


class ProbeOption(Struct, frozen=True):
    """One thing that can be set of a probe."""

    name: str
    meaning: str
    default: Value
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    text: bool = False
    """Whether it can be a text too, where the default does not tell."""


class ProbeInfo(Struct, frozen=True):
    """A probe of this engine, as a screen offers it."""

    name: str
    about: str
    """What it answers, in a sentence."""
    needs: str
    """What it has done with the model, in a phrase."""
    options: tuple[ProbeOption, ...] = ()
    trust: str = ""
    """The group of numbers (of TRUSTED) that its answers belong to."""
    page: str = ""
    """The pane or page that shows its answers; empty for the page of probes."""


# --- What is asked and answered ------------------------------------------------------------------------------

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Value = (
    None
    | bool
    | Int
    | Annotated[float, Meta(ge=-1e300, le=1e300)]
    | Words
    | Annotated[tuple[Int | Words, ...], Meta(max_length=2**20)]
)
"""Of an option. What a probe accepts, its own record of options says."""
Values = Annotated[dict[Words, Value], Meta(max_length=64)]


class AskProbe(Struct, frozen=True, tag="ask-probe"):
    """Look into the model where it chose a token. Nothing is written."""

    name: Words
    """Of a ProbeInfo."""
    run: Position
    position: Position
    """Of that token in the whole context; the one after the newest is the one that comes next."""
    options: Values = {}
    """Name of an option -> its value; those left out are as ProbeOption.default has them."""
    record: bool = True
    """The answer is part of what happened: everyone who watches is told, and it is recorded. Else only whoever asks
    hears it."""


class CancelProbe(Struct, frozen=True, tag="cancel-probe"):
    """Give up the probe that is computed now."""


class ProbeProgress(Struct, frozen=True, tag="probe-progress"):
    """How far the answer to an AskProbe has come."""

    name: str
    run: int
    position: int
    done: float
    total: float


class ProbeAnswer(Struct, frozen=True, tag="probe"):
    """The answer to an AskProbe."""

    name: str
    run: int
    position: int
    options: dict[str, Value] = {}
    """As they were asked for."""
    panels: tuple[Panel, ...] = ()
    unavailable: str | None = None
    """Why there is no answer."""
    seconds: float = 0.0
    """What it took."""
    record: bool = True
