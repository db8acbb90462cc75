"""Answering: what probes share wherever they are computed, by a model here or with what a server tells.

The options of a probe are a frozen record whose fields all have defaults; `Meta` of msgspec gives bounds and a
description.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, inspect

from tui_entropy.core.errors import UserError
from tui_entropy.records.probes.ask import AskProbe, ProbeOption, ProbeProgress
from tui_entropy.records.probes.options import bounds_text

if TYPE_CHECKING:
    from tui_entropy.records.source import Audience

PROGRESS_S = 0.1
"""From one word about how far a probe has come, and look for one that it is not wanted, to the next."""
Progress = Callable[[float, float], None]
"""Is told how much is done, of how much. Raises ProbeCancelled where nobody waits any more."""


class Unavailable(Exception):
    """Why a model, a server, or a token, has no such answer: half a sentence."""


class ProbeCancelled(Exception):
    """A person does not wait for it any more."""


def progress_to(audience: Audience, ask: AskProbe) -> Progress:
    """What tells whoever asks how far it has come, and hears from them."""
    spoken = time.monotonic()

    def progress(done: float, total: float) -> None:
        nonlocal spoken
        if time.monotonic() - spoken < PROGRESS_S:
            return
        spoken = time.monotonic()
        audience.answer(ProbeProgress(ask.name, ask.run, ask.position, done, total))
        if audience.hears_cancel():
            raise ProbeCancelled

    return progress


def read_options(name: str, record: type[Struct], values: Mapping[str, Any]) -> Any:
    """The record of options of this probe with these values. Raises UserError."""
    names = [option.encode_name for option in _fields(record)]
    if unknown := [one for one in values if one not in names]:
        has = f"it has {', '.join(names)}" if names else "it has none"
        raise UserError(f"{name} has no option {unknown[0]!r}: {has}")
    try:
        return msgspec.convert(values, record)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at ")
        place = place.strip("`$.") or "an option"
        option = next((one for one in described(record) if one.name == place), None)
        if option is not None and (option.choices or not isinstance(option.default, str | tuple)):
            reason = f"it {bounds_text(option)}"
        raise UserError(f"{place} of {name} cannot be {values.get(place)!r}: {reason.lower()}") from error


def described(record: type[Struct], meanings: Mapping[str, str] = {}) -> tuple[ProbeOption, ...]:
    """The options as a screen offers them. meanings: of those that the record does not describe."""
    return tuple(_described(option, meanings.get(option.encode_name, "")) for option in _fields(record))


@cache
def _fields(record: type[Struct]) -> tuple[inspect.Field, ...]:
    """Looked at once: it takes longer than many a probe."""
    found = inspect.type_info(record)
    assert isinstance(found, inspect.StructType)
    return found.fields


def _described(option: inspect.Field, meaning: str) -> ProbeOption:
    low = high = None
    choices: tuple[str, ...] = ()
    parts, text = [option.type], False
    while parts:
        part = parts.pop(0)
        if isinstance(part, inspect.Metadata):
            meaning, part = (part.extra_json_schema or {}).get("description", meaning), part.type
        match part:
            case inspect.UnionType():
                parts += part.types
            case inspect.StrType():
                text = True
            case inspect.IntType() | inspect.FloatType():
                low, high = (part.ge if part.gt is None else part.gt), (part.le if part.lt is None else part.lt)
            case inspect.LiteralType():
                choices = tuple(map(str, part.values))
    default = option.default_factory() if option.default is msgspec.NODEFAULT else option.default
    return ProbeOption(option.encode_name, meaning, default, low, high, choices, text and default is None)
