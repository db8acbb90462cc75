"""The command that tells the settings: config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.groups import with_shared_options
from tui_entropy.core.look import Look
from tui_entropy.core.streams import say
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs

DEFAULT = "default"


@app.command(epilog=EXIT_CODES)
@with_shared_options
def config(ctx: typer.Context, *, spec: ModelSpec, knobs: Knobs, look: Look) -> None:
    """Tell every setting, its value, and where it comes from: an option given here, the environment, the file of
    settings, or the default. Exits with 3 where something in the file is wrong."""
    from tui_entropy.config.settings import SETTINGS, read_config
    from tui_entropy.core import text_table
    from tui_entropy.ui.keys.keymap import wrong_keys

    settings = read_config()
    known = "" if settings.path.exists() else ", which is not there: every setting has its default"
    print(f"# {settings.path}{known}")
    rows = [("setting", "value", "from")]
    for setting in SETTINGS:
        if setting.option:
            value, source = _of_option(ctx, setting.option)
        else:
            value, source = settings.value(setting.name), DEFAULT
        if setting.name in settings.values and source == DEFAULT:
            source = settings.place(setting.name)
        rows.append((setting.name, _written(value), source))
    rows += _keys(settings)
    for line in text_table.lines(rows):
        print(line)
    mistakes = [*settings.mistakes, *wrong_keys(settings)]
    for mistake in mistakes:
        say(mistake)
    raise typer.Exit(3 if mistakes else 0)


def _of_option(ctx: typer.Context, name: str) -> tuple[Any, str]:
    """The value of a parameter, and whether it comes from the command line, the environment, or neither."""
    parameter = next(one for one in ctx.command.params if one.name == name)
    source = ctx.get_parameter_source(name)
    match source.name if source else "":
        case "COMMANDLINE":
            return ctx.params[name], f"option {parameter.opts[0]}"
        case "ENVIRONMENT":
            return ctx.params[name], f"environment {parameter.envvar}"
    return ctx.params[name], DEFAULT


def _written(value: Any) -> str:
    from tui_entropy.config.file import literal

    return literal(value)


def _keys(settings: Any) -> Iterator[tuple[str, str, str]]:
    """A row for each key that a person moved."""
    from tui_entropy.core import paths
    from tui_entropy.ui.keys.keymap import keymap

    for name, keys in keymap(paths.keymap(), settings).items():
        place = settings.place(f"keys.{name}") if name in settings.keys else str(paths.keymap())
        yield f"keys.{name}", _written(keys), place
