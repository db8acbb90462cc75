"""Options of a probe as a person types them: name=value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tui_entropy.records.probes.ask import ProbeInfo, ProbeOption, Value


def options_text(values: Mapping[str, Value]) -> str:
    """As they are typed, with spaces between."""
    return " ".join(f"{name}={_text(value)}" for name, value in values.items())


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


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
    return _number(option, text)


def _number(option: ProbeOption, text: str) -> float:
    """Within its bounds; a whole one unless the default is not."""
    fractional = isinstance(option.default, float)
    try:
        number = float(text) if fractional else int(text)
    except ValueError:
        raise ValueError(f"{option.name} is a {'' if fractional else 'whole '}number") from None
    low, high = option.low, option.high
    if number == number and (low is None or number >= low) and (high is None or number <= high):
        return number
    match low, high:
        case None, None:
            raise ValueError(f"{option.name} is a number")
        case _, None:
            raise ValueError(f"{option.name} is at least {low:g}")
        case None, _:
            raise ValueError(f"{option.name} is at most {high:g}")
    raise ValueError(f"{option.name} is between {low:g} and {high:g}")
