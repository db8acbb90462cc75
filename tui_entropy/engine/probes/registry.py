"""The probes of `library/`, and how each is described to a screen."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import msgspec
from msgspec import inspect

from tui_entropy.core.errors import UserError
from tui_entropy.engine.probes import library
from tui_entropy.engine.probes.probe import Probe
from tui_entropy.records.probes.ask import ProbeInfo, ProbeOption


def _found() -> Iterator[Probe]:
    for module in pkgutil.walk_packages(library.__path__, f"{library.__name__}."):
        if not module.ispkg:
            yield import_module(module.name).PROBE


PROBES = tuple(sorted(_found(), key=lambda probe: probe.name))
BY_NAME = {name: probe for probe in PROBES for name in (probe.name, *probe.aliases)}


def probe_of(name: str) -> Probe:
    """Raises UserError for one that there is not."""
    if name not in BY_NAME:
        raise UserError(f"there is no probe {name!r}: take one of {', '.join(probe.name for probe in PROBES)}")
    return BY_NAME[name]


def options_of(probe: Probe, values: Mapping[str, Any]) -> Any:
    """The record of options with these values. Raises UserError."""
    names = [option.encode_name for option in _fields(probe.options)]
    if unknown := [name for name in values if name not in names]:
        has = f"it has {', '.join(names)}" if names else "it has none"
        raise UserError(f"{probe.name} has no option {unknown[0]!r}: {has}")
    try:
        return msgspec.convert(values, probe.options)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at ")
        name = place.strip("`$.") or "an option"
        raise UserError(f"{name} of {probe.name} cannot be {values.get(name)!r}: {reason.lower()}") from error


def info(probe: Probe) -> ProbeInfo:
    options = tuple(_option(probe, option) for option in _fields(probe.options))
    return ProbeInfo(probe.name, probe.about, probe.needs, options, probe.trust, probe.page)


@cache
def _fields(options: type) -> tuple[inspect.Field, ...]:
    """Looked at once: it takes longer than many a probe."""
    record = inspect.type_info(options)
    assert isinstance(record, inspect.StructType)
    return record.fields


def _option(probe: Probe, option: inspect.Field) -> ProbeOption:
    meaning, of = probe.meanings.get(option.encode_name, ""), option.type
    parts = list(of.types) if isinstance(of, inspect.UnionType) else [of]
    low = high = None
    choices: tuple[str, ...] = ()
    for part in parts:
        if isinstance(part, inspect.Metadata):
            meaning, part = (part.extra_json_schema or {}).get("description", meaning), part.type
        match part:
            case inspect.IntType() | inspect.FloatType():
                low, high = (part.ge if part.gt is None else part.gt), (part.le if part.lt is None else part.lt)
            case inspect.LiteralType():
                choices = tuple(map(str, part.values))
    default = option.default_factory() if option.default is msgspec.NODEFAULT else option.default
    return ProbeOption(option.encode_name, meaning, default, low, high, choices)
