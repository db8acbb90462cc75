"""The probes of `library/`, and how each is described to a screen."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from tui_entropy.core.errors import UserError
from tui_entropy.engine.probes import library
from tui_entropy.engine.probes.probe import Probe
from tui_entropy.records.probes.answering import described, read_options
from tui_entropy.records.probes.ask import ProbeInfo


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
    return read_options(probe.name, probe.options, values)


def info(probe: Probe) -> ProbeInfo:
    options = described(probe.options, probe.meanings)
    return ProbeInfo(probe.name, probe.about, probe.needs, options, probe.trust, probe.page)
