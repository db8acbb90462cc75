"""Options of a probe as a person types them: name=value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from tui_entropy.records.probes.ask import ProbeAnswer, ProbeInfo, ProbeOption, Value

MAX_SHOWN = 8
"""Options of a probe that are shown with their values; of one with more, those alone that are set."""
MAX_DESCRIBED = 12
"""Options of a probe that a list of probes describes one by one; of one with more it has the names."""
MAX_TOLD = 10**9
"""A bound as high as this says nothing to a person."""


def options_text(values: Mapping[str, Value]) -> str:
    """As they are typed, with spaces between."""
    return " ".join(f"{name}={_text(value)}" for name, value in values.items())


def answered_with(answer: ProbeAnswer) -> str:
    """The options of an answer as they are typed; empty where there are more than are shown."""
    return options_text(answer.options) if len(answer.options) <= MAX_SHOWN else ""


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def words_of(probe: ProbeInfo, typed: str) -> list[str]:
    """What a person typed in one line, as name=value each. A value may have spaces: it ends where another option
    begins."""
    names = "|".join(re.escape(option.name) for option in probe.options)
    return [word for word in re.split(rf"\s+(?=(?:{names})=)", typed.strip()) if word]


def help_on(probe: ProbeInfo, typed: str) -> str:
    """What is told to whoever types options: what the last one that is named means and can be, else which there
    are."""
    known = {option.name: option for option in probe.options}
    option = known.get((words_of(probe, typed) or [""])[-1].partition("=")[0])
    if option is None:
        return f"NAME=VALUE with spaces between, of {', '.join(known)}"
    usual = "" if option.default == "" else f"; {options_text({option.name: option.default})} by default"
    return f"{option.meaning} It {bounds_text(option)}{usual}.".strip()


def read_options(probe: ProbeInfo, words: Sequence[str]) -> dict[str, Value]:
    """Options of a probe. words: name=value, each. Raises ValueError with a sentence."""
    known = {option.name: option for option in probe.options}
    values: dict[str, Value] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name not in known or not equals:
            usual = options_text({option.name: option.default for option in probe.options})
            what = f"write {usual}" if known else "there is nothing to set"
            raise ValueError(f"{word!r} sets nothing of {probe.name}: {what}")
        values[name] = read_option(known[name], text)
    return values


def bounds_text(option: ProbeOption) -> str:
    """What it can be: 'is between 1 and 20'."""
    low, high = option.low, None if option.high is None or option.high >= MAX_TOLD else option.high
    kind = "number" if isinstance(option.default, float) else "whole number"
    match option.default:
        case _ if option.choices:
            return f"is one of {', '.join(option.choices)}"
        case bool():
            return "is true or false"
        case tuple():
            return "is a list with commas between"
        case str():
            return "is a text"
        case None if option.text:
            return "is a text or a whole number"
    if low is None or high is None:
        return f"is a {kind}" if low is high else f"is at most {high:g}" if low is None else f"is at least {low:g}"
    return f"is between {low:g} and {high:g}"


def read_option(option: ProbeOption, text: str) -> Value:
    """One value. Raises ValueError with a sentence."""
    default = option.default
    if text == "none" and default is None:
        return None
    if isinstance(default, tuple):
        return tuple(int(part) if part.isdecimal() else part for part in text.split(",") if part)
    if isinstance(default, bool):
        value: Value = {"true": True, "false": False}.get(text)
    elif isinstance(default, str):
        value = text if not option.choices or text in option.choices else None
    else:
        value = _number(option, text)
        value = text if value is None and text and option.text else value
    if value is None:
        raise ValueError(f"{option.name} {bounds_text(option)}")
    return value


def _number(option: ProbeOption, text: str) -> float | None:
    """Within its bounds, and a whole one unless the default is not; None for what is none."""
    try:
        number = float(text) if isinstance(option.default, float) else int(text)
    except ValueError:
        return None
    low, high = -math.inf if option.low is None else option.low, math.inf if option.high is None else option.high
    return number if low <= number <= high else None
