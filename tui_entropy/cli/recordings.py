"""Commands for what was recorded: replay, tour, traces, show, merge, rm, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.choose import chosen_trace
from tui_entropy.cli.groups import with_shared_options
from tui_entropy.cli.options import TRACE_HELP, OneRun, Run, TraceFile, number
from tui_entropy.cli.usage import option_check, refuse_without
from tui_entropy.core.look import Look
from tui_entropy.core.streams import say


def _snapshot(text: str) -> None:
    from tui_entropy.ui.capture.wishes import parse_snapshot

    parse_snapshot(text)


def _size(text: str) -> None:
    from tui_entropy.ui.capture.wishes import parse_size

    parse_size(text)


def _format(name: str) -> None:
    from tui_entropy.export.registry import format_of

    format_of(name)


@app.command(epilog=EXIT_CODES)
@with_shared_options
def replay(
    *,
    file: TraceFile = None,
    run: OneRun = None,
    speed: Annotated[
        float, typer.Option(min=0.001, max=10000, callback=option_check(number), help="2 is twice as fast as it was.")
    ] = 1.0,
    everything: Annotated[bool, typer.Option("--all", help="Show all of it at once instead of playing it.")] = False,
    first: Annotated[int, typer.Option("--from", min=0, help="Play from this token on.")] = 0,
    snapshot: Annotated[
        list[str] | None,
        typer.Option(
            help="A picture instead of a screen: FILE.svg, .png or .txt, then perhaps @120x36 and :token=80 or "
            ":page=numbers, pane=, zoom, layer=, head=, tint=, run=, lane=. May be given several times.",
            callback=option_check(_snapshot),
        ),
    ] = None,
    last: Annotated[int | None, typer.Option("--to", min=1, help="Of --cast: the token that it ends with.")] = None,
    cast: Annotated[
        Path | None,
        typer.Option(
            help="A film instead of a screen: FILE.cast for asciinema (asciicast v2), or FILE.svg, which plays "
            "wherever pictures are shown."
        ),
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            max=3600,
            callback=option_check(number),
            help="Of --cast: seconds a wait lasts at most.",
            show_default="1",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Of --cast, and of pictures that name none: columns x rows.",
            callback=option_check(_size),
            show_default="120x36",
        ),
    ] = None,
    look: Look,
) -> None:
    """Show a recording as it was written, without a model."""
    from tui_entropy.ui.app import launch
    from tui_entropy.ui.capture import depict

    refuse_without("--cast", cast, {"--to": last, "--idle": idle})
    refuse_without("--cast or --snapshot", cast or snapshot, {"--size": size})
    path, begin = chosen_trace(file), None if everything else first
    if snapshot or cast:
        depict.depict(
            path,
            run,
            look,
            snapshots=snapshot or (),
            cast=cast,
            size=size or "120x36",
            speed=speed,
            first=begin,
            last=last,
            idle=idle or 1.0,
        )
    else:
        launch.replay(path, run, look, speed=speed, first=begin)


@app.command(epilog=EXIT_CODES)
@with_shared_options
def tour(*, look: Look) -> None:
    """See the screen in a minute: a recording that tells what it shows, without a model."""
    from tui_entropy.ui.app import launch

    launch.tour(look)


@app.command(epilog=EXIT_CODES)
def traces() -> None:
    """List what was recorded."""
    from tui_entropy.trace.library import listing

    print(listing(), end="")


@app.command(epilog=EXIT_CODES)
def show(file: TraceFile = None, run: Run = None) -> None:
    """Tell what is in a trace: every run, its numbers as a whole, its text."""
    from tui_entropy.trace.library import describe

    print(describe(chosen_trace(file), run), end="")


@app.command(epilog=EXIT_CODES)
def merge(file: TraceFile = None, run: Run = None) -> None:
    """Print the text of every branch of a trace, each from the prompt to its own end."""
    from tui_entropy.trace.library import branch_texts

    print(branch_texts(chosen_trace(file), run), end="")


@app.command(epilog=EXIT_CODES)
def rm(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=f"Each {TRACE_HELP}")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without being asked.")] = False,
) -> None:
    """Remove traces."""
    from tui_entropy.trace.library import remove, resolve

    found = list(dict.fromkeys(map(resolve, files)))
    for path in remove(found, lambda question: yes or typer.confirm(question, err=True)):
        say(f"removed {path}")


@app.command(epilog=EXIT_CODES)
def export(
    file: TraceFile = None,
    *,
    to: Annotated[
        str,
        typer.Option(help="csv, jsonl, parquet, npz, inif, html, svg, png or cast.", callback=option_check(_format)),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to; - is stdout, an ending .gz compresses. [default: as FILE, here]"),
    ] = None,
    run: OneRun = None,
    bits: Annotated[bool, typer.Option(help="Pictures and the page begin in bits; tables are in nats.")] = False,
) -> None:
    """Write a run of a trace as a table, arrays, a web page or a figure. All of them hold prompt and text."""
    from tui_entropy.export import registry

    say(registry.export(chosen_trace(file), to, out, run, bits))
