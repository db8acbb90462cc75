"""Commands for engines that run already: attach, stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.groups import with_shared_options
from tui_entropy.cli.options import EngineId
from tui_entropy.core.errors import UserError
from tui_entropy.core.look import Look
from tui_entropy.core.streams import say
from tui_entropy.records.model import ModelSpec


@app.command(epilog=EXIT_CODES)
@with_shared_options
def attach(
    *,
    engine: EngineId = None,
    show: Annotated[bool, typer.Option("--list", help="List the running engines instead.")] = False,
    ssh: Annotated[str | None, typer.Option(metavar="HOST", help="Attach there, by `ssh -t HOST`.")] = None,
    remote: Annotated[str, typer.Option(help="With --ssh: what tui-entropy is called there.")] = "tui-entropy",
    socket: Annotated[Path | None, typer.Option(help="Socket of an engine, as one forwarded by `ssh -L`.")] = None,
    look: Look,
) -> None:
    """Come back to a running engine: the screen as it was left, and everything that happened meanwhile."""
    from tui_entropy.transport import client, discovery
    from tui_entropy.ui.app.launch import start
    from tui_entropy.ui.terminal.detect import color_mode

    if ssh is not None:
        flags = ["--list"] * show + ["--ascii"] * look.ascii_only + ["--no-mouse"] * (not look.mouse)
        flags += ["--no-diff"] * (not look.diff)
        flags += ["--theme", look.theme, "--color", color_mode(look.color, os.environ)]
        command = client.over_ssh(ssh, remote, [*([engine] if engine else []), *flags])
        try:
            os.execvp(command[0], command)
        except OSError as missing:
            raise UserError(f"ssh could not be started: {missing}") from missing
    if show:
        print(client.table(engines := discovery.running()), end="")
        if engines:
            say(f"Their sockets are {engines[0].socket.with_name('ID.sock')}")
        return
    path = socket or client.select_engine(engine).socket
    source: dict[str, Any] = {"attach": path, "forwarded": client.is_forwarded(path)}
    start(ModelSpec("smollm2"), None, look, **source)


@app.command(epilog=EXIT_CODES)
def stop(
    engine: EngineId = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every running engine.")] = False,
) -> None:
    """End a running engine, whoever watches it."""
    from tui_entropy.transport import client, discovery

    for each in discovery.running() if everyone else [client.select_engine(engine)]:
        client.stop(each)
        say(f"engine {each.id} has ended")
