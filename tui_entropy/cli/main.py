"""From a command line to an exit code. Whatever happens, a person is told in a sentence."""

from __future__ import annotations

import errno
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from typing import Any, NoReturn

import typer

from tui_entropy.cli.app import app
from tui_entropy.cli.usage import WrongUsage, usage_of
from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import PipeClosed, say

CLOSED = 128 + 13
"""What a shell calls the end by SIGPIPE."""
OF_THE_MACHINE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR,
    errno.EISDIR, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENXIO, errno.ENODEV, errno.EEXIST,
    errno.ENOENT, errno.ETXTBSY, errno.EFBIG, errno.ESTALE,
}  # fmt: skip
"""What a file or folder can be refused for that no program can help."""
UNSEEN = ("serve", "probe", "lens", "embeddings", "perplexity", "analyze", "calibrate", "compare", "doctor")
"""Commands that load a model, and have no screen to say on what is wrong with the settings."""
RECORDED = ("model",)
"""Parameters of `open` that are as the recording has them unless they are given."""
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""Of what parses the command line, which typer brings along under a name of its own."""


def main() -> NoReturn:
    """Run a command; no command means `run`."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["run", *arguments]
    sys.exit(exit_code(lambda: command(arguments)))


def command(arguments: Sequence[str]) -> int | None:
    """Run one; returns its exit code, None where it has none of its own. Raises UserError."""
    check_text(arguments)
    defaults = settings_of(arguments)
    try:
        with_options: Any = _with_options_of(arguments[0])
        code: int | None = with_options(
            arguments, prog_name="tui-entropy", standalone_mode=False, default_map=defaults
        )
        return code
    except USAGE_ERROR as error:
        raise usage_of(error) from None
    except typer.Abort:
        raise UserError("what was asked found no answer on stdin, so nothing is done: add --yes to agree") from None


def _with_options_of(name: str) -> typer.Typer:
    """The app with one command, since to make the options of all delays the first paint; with every command where
    there is none of that name."""
    of_that_name = [each for each in app.registered_commands if _name_of(each) == name]
    if not of_that_name:
        return app
    alone = copy(app)
    alone.registered_commands = of_that_name
    return alone


def _name_of(command: Any) -> str:
    """What a person calls it, which need not be what its function is called."""
    name: str = command.name or command.callback.__name__
    return name


def settings_of(arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Command -> parameter -> what a person's settings make its default, below options and environment.

    Where they are wrong a screen is opened all the same, and says so. Raises UserError where a text would be written
    without one: its numbers hang on what was meant.
    """
    if not paths.config().exists():
        return {}
    from tui_entropy.config.settings import defaults_of_options, read_config

    config, command = read_config(), arguments[0]
    if config.mistakes and (command in UNSEEN or "--headless" in arguments):
        raise UserError(config.mistakes[0])
    defaults = defaults_of_options(config)
    known = {}
    for each in app.registered_commands:
        if each.callback and defaults.keys() & inspect.signature(each.callback).parameters:
            known[_name_of(each)] = defaults
    return known | {"open": {name: value for name, value in defaults.items() if name not in RECORDED}}


def check_text(arguments: Sequence[str]) -> None:
    """Raise UserError for bytes that are no UTF-8: no prompt, and no name that could be written to a record."""
    for place, argument in enumerate(arguments):
        try:
            argument.encode()
        except UnicodeEncodeError as odd:
            last = arguments[place - 1] if place else ""
            what = f"the value of {last}" if last.startswith("-") else f"argument {place + 1}"
            byte = ord(argument[odd.start]) - 0xDC00
            raise WrongUsage(f"{what} is no UTF-8 (it holds the byte 0x{byte:02x}): convert or rename it") from None


def exit_code(command: Callable[[], int | None]) -> int | str | None:
    """The exit code of the process, once everything is written and said."""
    code: int | str | None = 0
    try:
        try:
            code = command() or 0
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        return code
    except PipeClosed:
        return CLOSED
    except UserError as mistake:
        say(str(mistake))
        return mistake.exit_code
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        return _failed(error)
    finally:
        with suppress(PipeClosed, UserError):  # what was printed before a mistake
            sys.stdout.flush()


def _failed(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        say("the memory of this machine is used up: use a shorter prompt, a smaller model or --dtype bfloat16")
        return 3
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file"
        say(str(UserError(f"{what} cannot be used ({error.strerror}): put that right, or name another")))
        return 3
    from tui_entropy.core.crash_report import write_report

    say(write_report(error))
    return 1
