"""The command, of which every module here adds its own."""

from __future__ import annotations

from typing import Annotated

import typer

from tui_entropy import __version__

EXIT_CODES = (
    "Exit codes: 0 done, 1 the engine failed, 2 a wrong command line, 3 something else that a person can put right, "
    "4 stopped at a breakpoint (run --headless), 130 ctrl-C, 141 nobody reads stdout any more, 128 + n ended by "
    "signal n."
)

app = typer.Typer(
    name="tui-entropy",
    help="A debugger for text generation that lives in a terminal. Without a command it opens the inspector (`run`).",
    epilog=EXIT_CODES,
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if show:
        typer.echo(f"tui-entropy {__version__}")
        raise typer.Exit()
