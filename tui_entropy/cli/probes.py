"""The commands that look into a model: probe asks about one token, lens fits a lens, embeddings asks those alone."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.groups import Served, asked_of, told_name, with_shared_options
from tui_entropy.cli.options import (
    SAMPLE_PROMPT,
    TRACE_HELP,
    Ablate,
    Ascii,
    Chat,
    Color,
    OneRun,
    Prompt,
    System,
    Theme,
    Vectors,
    one_of,
    prepare_engine,
    prompt_option,
    steering_options,
    text_in,
    trace_path,
)
from tui_entropy.cli.usage import WrongUsage, option_check
from tui_entropy.core.errors import UserError
from tui_entropy.core.look import Look
from tui_entropy.core.streams import put
from tui_entropy.records.commands import Write
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs

if TYPE_CHECKING:
    from tui_entropy.records.probes.ask import ProbeAnswer, ProbeInfo, Value
    from tui_entropy.state.session_view import SessionView


def _named_value(text: str) -> None:
    """Only how it is spelled: which there are, the probe knows."""
    if not re.fullmatch(r"[a-z_0-9]+=.*", text, re.DOTALL):
        raise UserError(f"--option {text}: wanted NAME=VALUE, such as k=8")


def _svg(file: Path) -> None:
    if file.suffix.lower() != ".svg":
        raise UserError(f"--svg {file}: the picture is an SVG, so wanted a name that ends in .svg")


@app.command(epilog=EXIT_CODES)
@with_shared_options
def probe(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which one. [default: tell which there are]")
    ] = None,
    position: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2**31 - 1,
            help="Of the token that is asked about, from 1 on; the prompt's come first (the very first, 0, has "
            "nothing before it), and text is written as far as it needs. [default: the first token that is written]",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of the probe. May be given several times.",
            callback=option_check(_named_value),
        ),
    ] = None,
    recording: Annotated[
        str | None,
        typer.Option(metavar="FILE", help=f"Show what was answered in this trace, without a model: {TRACE_HELP}"),
    ] = None,
    run: OneRun = None,
    spec: ModelSpec,
    server: Served,
    prompt: Prompt = None,
    system: System = None,
    chat: Chat = None,
    knobs: Knobs,
    vector: Vectors = None,
    ablate: Ablate = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE.tui", help="Record text and answer in this file. [default: none]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The answer as one JSON object instead of a drawing.")
    ] = False,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg",
            metavar="FILE.svg",
            help="Write the answer as a picture: of a flow its diagram, of all else what is drawn. [default: none]",
            callback=option_check(_svg),
        ),
    ] = None,
    bits: Annotated[bool, typer.Option("--bits/--nats", help="The unit of what is drawn; JSON is in nats.")] = True,
    theme: Theme = "dark",
    color: Color = "auto",
    ascii_only: Ascii = False,
) -> None:
    """Ask a model about one token: what each block would have said, where it looked, what it might write instead."""
    look = Look(theme, color, ascii_only, mouse=False, diff=False)
    if recording is not None:
        _show_recorded(recording, run, name, position, as_json, bits, look, svg)
        return
    spec = asked_of(spec, server)
    if server is not None:
        from tui_entropy.analysis.source_probe import ask_server as ask
        from tui_entropy.analysis.source_probe import server_probe as known_probe
        from tui_entropy.analysis.source_probe import server_probes as known_probes
    else:
        prepare_engine()
        from tui_entropy.analysis.probe import ask, known_probe, known_probes
    if name is None:
        _list(known_probes(), as_json)
        return
    options = _options(known_probe(name), option or [])
    given = prompt_option(prompt)
    write = Write(SAMPLE_PROMPT if given is None else given, system, chat, position or 1, knobs, False)
    vectors = steering_options(vector, ablate)
    path = None if trace is None else trace_path(trace, told_name(spec), write.prompt)
    answer, log = ask(spec, write, vectors, name, position, options, path)
    if answer is None:
        raise typer.Exit(1)
    _show(answer, log, as_json, bits, look, svg)


@app.command(epilog=EXIT_CODES)
@with_shared_options
def lens(
    *,
    action: Annotated[
        str, typer.Argument(metavar="fit", help="What is done.", callback=option_check(one_of("fit", "fit")))
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A file with any text in UTF-8; - reads stdin.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where it is kept, in the format of tuned-lens.")
    ],
    tokens: Annotated[int, typer.Option(min=1, max=10**7, help="Tokens of the text that are read at most.")] = 8192,
    spec: ModelSpec,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object, in nats.")] = False,
    bits: Annotated[bool, typer.Option("--bits/--nats", help="The unit of the report.")] = True,
) -> None:
    """Fit a lens of this very model to a text, and tell how near each layer comes to the output through it."""
    prepare_engine()
    from tui_entropy.analysis import lens as fitting

    found = fitting.fit_lens(spec, text_in(text), tokens, output)
    if as_json:
        put(json.dumps(fitting.as_fields(found)).encode() + b"\n")
    else:
        put(fitting.report(found, bits).encode())


@app.command(epilog=EXIT_CODES)
@with_shared_options
def embeddings(
    *,
    action: Annotated[
        str,
        typer.Argument(
            metavar="analogies|markov",
            help="What is asked of them.",
            callback=option_check(one_of("embeddings", "analogies", "markov")),
        ),
    ],
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="For analogies two words in each line, for markov any text; - reads stdin."
        ),
    ],
    similarity: Annotated[
        str,
        typer.Option(
            help="Of analogies: cosine, dot, euclidean.",
            callback=option_check(one_of("--similarity", "cosine", "dot", "euclidean")),
        ),
    ] = "cosine",
    norm: Annotated[
        str,
        typer.Option(
            help="Of markov, what of the final norm stands before the head: norm-and-scale, only-norm, none.",
            callback=option_check(one_of("--norm", "norm-and-scale", "only-norm", "none")),
        ),
    ] = "norm-and-scale",
    tokens: Annotated[int, typer.Option(min=2, max=10**7, help="Of markov: tokens that are read at most.")] = 100_000,
    least: Annotated[
        int, typer.Option(min=1, max=10**7, help="Of markov: how often a token must have another behind it.")
    ] = 5,
    spec: ModelSpec,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object, in nats.")] = False,
    bits: Annotated[bool, typer.Option("--bits/--nats", help="The unit of the report.")] = True,
) -> None:
    """Ask a model's embeddings alone: do they hold analogies, and what follows what (analogies, markov)."""
    text = text_in(file)
    prepare_engine()
    from tui_entropy.analysis import embeddings as asking

    if action == "analogies":
        found = asking.analogies_of(spec, text, similarity)  # type: ignore[arg-type]
        report = asking.analogies_report(found)
    else:
        found = asking.markov_of(spec, text, norm, tokens, least)  # type: ignore[arg-type]
        report = asking.markov_report(found, bits)
    put(json.dumps(found).encode() + b"\n" if as_json else report.encode())


def _options(probe: ProbeInfo, words: list[str]) -> dict[str, Value]:
    from tui_entropy.records.probes.options import read_options

    try:
        return read_options(probe, words)
    except ValueError as mistake:
        raise WrongUsage(f"--option: {mistake}") from None


def _show(answer: ProbeAnswer, log: SessionView, as_json: bool, bits: bool, look: Look, picture: Path | None) -> None:
    from tui_entropy.ui.capture import printed

    if picture is not None:
        from tui_entropy.export.diagrams import sankey
        from tui_entropy.records.probes.panels import Flow

        if answer.unavailable or any(isinstance(panel, Flow) for panel in answer.panels):
            sankey.write(answer, log, picture)
        else:
            printed.picture(answer, log, bits, look, picture)
    if as_json:
        from tui_entropy.trace.jsonl import probe as fields

        put(json.dumps(fields(answer), ensure_ascii=False).encode() + b"\n")
        return
    printed.show(answer, log, bits, look)


def _show_recorded(
    file: str,
    run: int | None,
    name: str | None,
    position: int | None,
    as_json: bool,
    bits: bool,
    look: Look,
    picture: Path | None,
) -> None:
    from tui_entropy.analysis import recorded_answers
    from tui_entropy.trace.library import resolve

    path = resolve(file)
    if name is None:
        print(recorded_answers.listing(path, run), end="")
    else:
        answer, log = recorded_answers.recorded_answer(path, run, name, position)
        _show(answer, log, as_json, bits, look, picture)


def _list(probes: tuple[ProbeInfo, ...], as_json: bool) -> None:
    if as_json:
        print(json.dumps(to_builtins(probes)))
        return
    for probe in probes:
        print(probe.name)
        for line in _description(probe):
            print(textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="        "))


def _description(probe: ProbeInfo) -> Iterator[str]:
    """What a probe answers, what it needs of the model, and what can be set."""
    from tui_entropy.records.probes.options import MAX_DESCRIBED, bounds_text, options_text

    yield probe.about
    yield f"needs {probe.needs}"
    if len(probe.options) > MAX_DESCRIBED:
        yield f"options: {', '.join(option.name for option in probe.options)}"
        return
    for option in probe.options:
        yield f"--option {options_text({option.name: option.default})}: {option.meaning} It {bounds_text(option)}."
