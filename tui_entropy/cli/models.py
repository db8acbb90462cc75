"""Commands for what a text is written with and shown in: models, fetch, doctor, themes."""

from __future__ import annotations

from typing import Annotated

import typer

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.groups import Served, asked_of, with_shared_options
from tui_entropy.cli.options import prepare_engine
from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import put, say
from tui_entropy.records.model import ModelSpec


@app.command(epilog=EXIT_CODES)
def models() -> None:
    """List the models that are here, and those that can be fetched."""
    from tui_entropy.engine.sources.model_table import listing

    print(listing(), end="")


@app.command(epilog=EXIT_CODES)
def fetch(
    name: Annotated[str, typer.Argument(help="A name of `models`, such as smollm2 or gemma.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree to the model's terms without being asked.")] = False,
) -> None:
    """Download a model, check it, and keep it ready."""
    prepare_engine()
    from tui_entropy.analysis.console_progress import Narrator
    from tui_entropy.engine.sources.resolve import fetch as get

    def agree(terms: str) -> bool:
        say(terms)
        return yes or typer.confirm("Do you agree?", err=True)

    narrator = Narrator()
    folder = get(name, narrator.progress, agree)
    narrator.done(f"{name} is ready in {folder}")


@app.command(epilog=EXIT_CODES.replace("the engine failed", "a check or the engine failed"))
@with_shared_options
def doctor(
    *,
    spec: ModelSpec,
    server: Served,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="With --server: the same model here, to compare what the server tells with."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON instead of tables.")] = False,
) -> None:
    """Prove the numbers on this very model and machine, and tell what each view costs; or (--server) find out what
    the numbers of a server are worth."""
    if server is None and against is not None:
        raise UserError("--against compares a server with a model here: --server names the address of one")
    prepare_engine()
    if server is not None:
        asked_of(spec, server)
        from tui_entropy.analysis.server_doctor import examine

        raise typer.Exit(examine(server, None if against is None else ModelSpec(against, dtype="float32"), as_json))
    from tui_entropy.analysis.console_progress import Narrator
    from tui_entropy.engine.loading.loader import load
    from tui_entropy.engine.reliability import report
    from tui_entropy.engine.verify.doctor import doctor as examined

    narrator = Narrator()
    loaded = load(spec, narrator.progress)
    doctor_report = examined(loaded, narrator.progress)
    narrator.done(f"kept in {report.save(doctor_report, loaded.card)}")
    if as_json:
        put(report.as_json(doctor_report))
    else:
        report.show(doctor_report)
    raise typer.Exit(0 if doctor_report.passed else 1)


@app.command(epilog=EXIT_CODES)
def themes() -> None:
    """List the themes: ours and the user's own."""
    from tui_entropy.core import paths

    for name, path in sorted(paths.theme_files().items()):
        print(f"{name:16} {path}")
