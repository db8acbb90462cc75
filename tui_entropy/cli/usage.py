"""Mistakes of a command line, in a sentence; and options whose value is checked whether it is used or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer

from tui_entropy.core.errors import UserError


class WrongUsage(UserError):
    """A wrong command line: a command, an option or a value that there is not."""

    exit_code = 2


def usage_of(error: Any) -> WrongUsage:
    """A usage error of the library that parses the command line, as one of ours."""
    message = " ".join(error.format_message().split()).rstrip(".")
    message = message.replace(". Did you mean ", ", did you mean ").rstrip("?.")
    path = error.ctx.command_path if error.ctx else "tui-entropy"
    return WrongUsage(f"{message[:1].lower()}{message[1:]}: `{path} --help` tells what there is")


def refuse_without(needed: str, there: object, options: Mapping[str, object]) -> None:
    """Refuse options that were given and do nothing without another one. Raises WrongUsage."""
    given = [name for name, value in options.items() if value is not None]
    if given and not there:
        raise WrongUsage(f"{given[0]} is for {needed}, which is not asked for: add it, or leave {given[0]} out")


def option_check(check: Callable[[Any], object]) -> Callable[..., Any]:
    """A callback for an option: `check` raises UserError for a value that it cannot have. What was given on the
    command line is looked at whether the command goes on to use it or not; what the environment says, which is there
    for all commands, where it is used."""

    def callback(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
        source = ctx.get_parameter_source(param.name or "")
        if source is None or source.name != "COMMANDLINE":
            return value
        try:
            for one in value if isinstance(value, list | tuple) else [value]:
                check(one)
        except UserError as mistake:
            sentence, _, below = str(mistake).partition("\n")
            raise WrongUsage(sentence, below) from None
        return value

    return callback
