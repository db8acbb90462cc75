"""Mistakes of a command line, in a sentence; and options whose value is checked whether it is used or not."""

from __future__ import annotations

from collections.abc import Callable
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
