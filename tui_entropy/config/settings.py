"""Every setting that a person may keep: its name in config.toml, its default, and what it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tui_entropy.config import file
from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.knobs import KNOBS, read, shown
from tui_entropy.records.sampling import Knobs

SCALES = {"place": True, "value": False}
"""What the tint shows: the place of a value in its text, or the value -> Frame.relative."""
UNITS = ("bits", "nats")
KEYS = "keys."
"""The table of keys, whose names are those of the key table of the screen."""


class Setting(NamedTuple):
    name: str
    """As in the file: 'theme', 'sampling.top_p'."""
    default: Any
    check: Callable[[Any], object]
    """Raises UserError for a value that it cannot have."""
    option: str = ""
    """The parameter of the commands that it is the default of."""
    is_table: bool = False


@dataclass(frozen=True)
class Config:
    """What a file says, as far as it can be believed."""

    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    """Name of a setting -> its value, for those that are there and right."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Name -> number of its line, from 1 on."""
    mistakes: tuple[str, ...] = ()
    """What is wrong in it: a sentence each."""

    def value(self, name: str) -> Any:
        return self.values.get(name, BY_NAME[name].default)

    def place(self, name: str) -> str:
        """Where it says so: 'config.toml, line 4', with the whole path."""
        return f"{self.path}, line {self.lines[name]}" if name in self.lines else str(self.path)

    @property
    def keys(self) -> dict[str, Any]:
        """Id of a key -> the keys in its place."""
        return {name.removeprefix(KEYS): value for name, value in self.values.items() if name.startswith(KEYS)}


def _word(value: object) -> None:
    if not isinstance(value, str) or not value:
        raise UserError(f"is {value!r} and must be a word in quotes")


def _one_of(*known: str) -> Callable[[object], None]:
    def check(value: object) -> None:
        if not isinstance(value, str) or value not in known:
            near = _near(str(value), known)
            hint = f": did you mean {near[0]}?" if near else f": take one of {', '.join(known)}"
            raise UserError(f"is {value!r}, which is not known{hint}")

    return check


def _near(word: str, known: Iterable[str]) -> list[str]:
    """The one that may have been meant, if any."""
    from difflib import get_close_matches  # which nobody needs whose settings are right

    return get_close_matches(word, known, 1)


def _sampling(name: str) -> Callable[[object], None]:
    def check(value: object) -> None:
        try:
            read(Knobs(), name, typed(value))
        except UserError as mistake:
            raise UserError(f"cannot be had: {mistake}") from None

    return check


def typed(value: object) -> str:
    """A value of a knob as it would be typed behind its option."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _panes(value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError(f"is {value!r} and must be a list of names, such as ['heads']")


def _sizes(value: object) -> None:
    if not isinstance(value, dict) or not all(type(by) is int and abs(by) <= 1000 for by in value.values()):
        raise UserError(f"is {value!r} and must be a table of whole numbers, as the program writes it")


def _theme(value: object) -> None:
    """Only whether there is one of that name: what is in it, who draws looks at."""
    _one_of(*sorted(paths.theme_files()))(value)


SETTINGS = (
    Setting("theme", "dark", _theme, "theme"),
    Setting("tint", METRICS[0].name, _one_of(*(metric.name for metric in METRICS))),
    Setting("tint_scale", "place", _one_of(*SCALES)),
    Setting("unit", "bits", _one_of(*UNITS)),
    Setting("model", "smollm2", _word, "model"),
    *(Setting(f"sampling.{knob.name}", shown(Knobs(), knob.name), _sampling(knob.name), knob.name) for knob in KNOBS),
    Setting("panes.hidden", [], _panes),
    Setting("panes.rows", {}, _sizes, is_table=True),
    Setting("panes.share", {}, _sizes, is_table=True),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}


def read_config(path: Path | None = None) -> Config:
    """The user's settings. Never raises: what is wrong is left out, and told."""
    path = path or paths.config()
    try:
        text = file.text(path)
        said = file.parsed(text, path)
    except UserError as mistake:
        return Config(path, mistakes=(f"{mistake}; it is not heard until then",))
    lines = {name: at + 1 for name, at in file.places(text).items()}
    values, mistakes = {}, []
    for name, value in file.flat(said, lambda name: name in BY_NAME and BY_NAME[name].is_table):
        setting = BY_NAME.get(name)
        try:
            if name.startswith(KEYS):
                _word(value)
            elif setting is None:
                raise UserError(f"is no setting: {_nearest(name)}")
            else:
                setting.check(value)
            values[name] = value
        except UserError as mistake:
            mistakes.append(f"{Config(path, lines=lines).place(name)}: {name} {mistake}")
    return Config(path, values, lines, tuple(mistakes))


def _nearest(name: str) -> str:
    """What was meant by a name that is none."""
    last = name.rpartition(".")[2]
    by_last = {known.rpartition(".")[2]: known for known in BY_NAME}
    near = _near(name, BY_NAME) or [by_last[one] for one in _near(last, by_last)]
    if near:
        table, _, key = near[0].rpartition(".")
        return f"did you mean {key} in [{table}]?" if table else f"did you mean {key}?"
    return "`tui-entropy config` lists those that there are"


def defaults_of_options(config: Config) -> dict[str, Any]:
    """Parameter of a command -> what it is unless an option or the environment says otherwise."""
    options = {setting.option: setting.name for setting in SETTINGS if setting.option}
    return {option: typed(config.values[name]) for option, name in options.items() if name in config.values}
