"""The choice on the page of probes: which probe, of which token, under which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeInfo, ProbeOption, Value
from tui_entropy.ui.views.frame import Frame


@dataclass(frozen=True)
class ProbesState:
    """The state that the page of probes keeps."""

    own_options: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Name of a probe -> what a person set of it."""
    pending: AskProbe | None = None
    """The question that is not answered yet."""
    scroll: int = 0
    """Rows of the answer above the window."""


def chosen_probe(frame: Frame) -> ProbeInfo | None:
    """The row of the page; None where there is no probe."""
    probes = frame.log.probes
    return probes[min(frame.row, len(probes) - 1)] if probes else None


def position_of(frame: Frame) -> int | None:
    """Of the token under the cursor in the whole context; None before there is a text."""
    if frame.log.started is None:
        return None
    return len(frame.log.run.started.prompt_tokens) + (frame.cursor or 0)


def values_of(frame: Frame, probe: ProbeInfo) -> dict[str, Value]:
    """Every option with its value."""
    own = frame.of(ProbesState).own_options.get(probe.name, {})
    return {option.name: own.get(option.name, option.default) for option in probe.options}


def question(frame: Frame) -> AskProbe | None:
    """The question that the page would ask."""
    probe, position = chosen_probe(frame), position_of(frame)
    if probe is None or position is None:
        return None
    return AskProbe(probe.name, frame.log.run_number, position, values_of(frame, probe))


def answer_here(frame: Frame) -> ProbeAnswer | None:
    """The newest answer of the chosen probe about the token under the cursor."""
    probe, position = chosen_probe(frame), position_of(frame)
    if probe is None or position is None:
        return None
    newest = frame.log.answers.get(probe.name)
    if newest is not None and (newest.run, newest.position) == (frame.log.run_number, position):
        return newest
    return frame.log.run.answers.get((probe.name, position))


def options_text(values: Mapping[str, Value]) -> str:
    """As a person types them: name=value, with spaces between."""
    return " ".join(f"{name}={_text(value)}" for name, value in values.items())


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def read_options(probe: ProbeInfo, typed: str) -> dict[str, Value]:
    """Options that a person typed. Raises ValueError with a sentence."""
    known = {option.name: option for option in probe.options}
    values: dict[str, Value] = {}
    for word in typed.split():
        name, equals, text = word.partition("=")
        if name not in known or not equals:
            raise ValueError(f"{word!r} sets nothing: write {options_text({o: known[o].default for o in known})}")
        values[name] = read_option(known[name], text)
    return values


def read_option(option: ProbeOption, text: str) -> Value:
    """One value. Raises ValueError with a sentence."""
    if text == "none" and option.default is None:
        return None
    if option.choices:
        if text not in option.choices:
            raise ValueError(f"{option.name} is one of {', '.join(option.choices)}")
        return text
    default = option.default
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise ValueError(f"{option.name} is true or false")
        return text == "true"
    if isinstance(default, tuple):
        return tuple(int(part) if part.isdecimal() else part for part in text.split(",") if part)
    if isinstance(default, str):
        return text
    try:
        number = float(text) if isinstance(default, float) else int(text)
    except ValueError:
        raise ValueError(f"{option.name} is a {'' if isinstance(default, float) else 'whole '}number") from None
    low, high = option.low, option.high
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(
            f"{option.name} is between {low:g} and {high:g}" if high else f"{option.name} is at least {low:g}"
        )
    return number
