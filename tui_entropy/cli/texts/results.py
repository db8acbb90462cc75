"""Commands that tell of many texts together: calibrate, compare, and results, which shows what was kept of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from msgspec.structs import replace

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.groups import Telling, look_of, with_shared_options
from tui_entropy.cli.options import (
    Ascii,
    Bits,
    Color,
    Headless,
    Plot,
    Theme,
    Vectors,
    one_of,
    prepare_engine,
    text_in,
    vector_option,
)
from tui_entropy.cli.usage import option_check
from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import put
from tui_entropy.records.model import DTYPES, ModelSpec

if TYPE_CHECKING:
    from tui_entropy.records.corpus.results import Results

BosOption = Annotated[
    str,
    typer.Option(
        help="What a text begins with: tokenizer (as it would), with its token for a beginning, or without.",
        callback=option_check(one_of("--bos", "tokenizer", "with", "without")),
    ),
]


@app.command(epilog=EXIT_CODES)
@with_shared_options
def calibrate(
    *,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Texts, - for stdin; or with --choices a .jsonl file of questions."),
    ],
    choices: Annotated[
        bool,
        typer.Option(
            "--choices",
            help="The file holds questions of several answers, one JSON object a line (it may be gzipped): ARC, "
            "HellaSwag, PIQA, MMLU, SciQ, BoolQ, WinoGrande, SocialIQA, OLMES, or question, choices, answer.",
        ),
    ] = False,
    spec: ModelSpec,
    bins: Annotated[int, typer.Option(min=2, max=100, help="Bins of equal width.")] = 15,
    limit: Annotated[
        int | None,
        typer.Option(min=2, max=10**7, help="Tokens, or questions, that are judged at most. [default: all]"),
    ] = None,
    bos: BosOption = "tokenizer",
    telling: Telling,
) -> None:
    """Is a model right as often as it is sure? Over texts token by token, or over questions of several answers."""
    texts = [] if choices else [text_in(file) for file in files]
    if choices and len(files) > 1:
        raise UserError(f"--choices takes one file of questions, and there are {len(files)}: give them one by one")
    prepare_engine()
    from tui_entropy.analysis.calibration.run import calibrate_questions, calibrate_texts

    if choices:
        report, results = calibrate_questions(spec, files[0], bins, limit, bos)  # type: ignore[arg-type]
    else:
        report, results = calibrate_texts(spec, files, texts, bins, limit, bos)  # type: ignore[arg-type]
    tell(results, report, telling)


@app.command(epilog=EXIT_CODES)
@with_shared_options
def compare(
    *,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[A] B [FILE...]",
            help="The second model; . for the first once more, under other options that end in -b. Texts stand "
            "behind it, - for stdin; where --text names them, the first model may stand before it.",
        ),
    ],
    text: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A text. May be given several times.")
    ] = None,
    spec: ModelSpec,
    revision_b: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of B. [default: the newest here]")
    ] = None,
    dtype_b: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="Of B, as --dtype. [default: as of the first]",
            callback=option_check(one_of("--dtype-b", *DTYPES)),
        ),
    ] = None,
    vector: Vectors = None,
    vector_b: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE:STRENGTH[:FIRST-LAST]",
            help="Steers B. May be given several times.",
            callback=option_check(vector_option),
        ),
    ] = None,
    prompt: Annotated[
        str, typer.Option(metavar="TEXT", help="Stands before each part of a text, and is not compared.")
    ] = "",
    prompt_b: Annotated[str, typer.Option(metavar="TEXT", help="The same for B.")] = "",
    limit: Annotated[
        int | None, typer.Option(min=2, max=10**7, help="Tokens that are compared at most. [default: all]")
    ] = None,
    bos: BosOption = "tokenizer",
    telling: Telling,
) -> None:
    """Two models, or one under two settings, over a text: how far apart they are, and at which tokens most."""
    first, other, files = _compared(names, text)
    if first is not None:
        if spec.name not in (ModelSpec("smollm2").name, first):
            raise UserError(f"the first model is {first} and --model is {spec.name}: name it once")
        spec = replace(spec, name=first)
    texts = [text_in(file) for file in files]
    vectors, vectors_b = ([vector_option(one) for one in given or ()] for given in (vector, vector_b))
    second = replace(
        spec,
        name=spec.name if other == "." else other,
        revision=revision_b if other != "." or revision_b else spec.revision,
        dtype=dtype_b or spec.dtype,
    )
    prepare_engine()
    from tui_entropy.analysis.comparison.run import Setting, compare_models

    report, results = compare_models(
        Setting(spec, tuple(vectors), prompt),
        Setting(second, tuple(vectors_b), prompt_b),
        files,
        texts,
        limit,
        bos,  # type: ignore[arg-type]
    )
    tell(results, report, telling)


def _compared(names: list[str], texts: list[str] | None) -> tuple[str | None, str, list[str]]:
    """The first model where it is named there, the second one, and the texts. Raises UserError."""
    if texts and len(names) <= 2:
        return names[0] if len(names) == 2 else None, names[-1], texts
    if texts:
        raise UserError(
            f"compare takes two models beside --text, and there are {len(names)} names: leave out the rest"
        )
    if len(names) < 2:
        raise UserError("compare takes a text beside the second model: name a file behind it, or - for stdin")
    return None, names[0], names[1:]


@app.command(name="results", epilog=EXIT_CODES)
def results_(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What --output kept, or a folder run_... of `analyze`.")
    ],
    plot: Plot = None,
    headless: Headless = False,
    bits: Bits = True,
    theme: Theme = "dark",
    color: Color = "auto",
    ascii_only: Ascii = False,
) -> None:
    """Show results that were kept: curves, and a table whose rows open, at last into the inspector."""
    look = look_of(theme, color, ascii_only, headless)
    tell(_kept(file), None, Telling(None, plot, headless, False, bits, look))


def _kept(file: Path) -> Results:
    """Raises UserError."""
    if file.is_dir():
        from tui_entropy.analysis.corpus.opened import results_of_folder

        return results_of_folder(file)
    from tui_entropy.analysis.results_file import read_results

    return read_results(file)


def tell(results: Results, report: Any, telling: Telling) -> None:
    """Keep, draw, print or show results. report: the same for programs."""
    if telling.output is not None:
        from tui_entropy.analysis.results_file import write_results

        write_results(results, telling.output)
    if telling.plot is not None:
        from tui_entropy.export.diagrams.curves import write_charts

        write_charts(results.charts, telling.plot, telling.bits)
    if telling.as_json:
        put(msgspec.json.encode(report) + b"\n")
    elif telling.headless:
        from tui_entropy.ui.capture.printed import show_results

        show_results(results, telling.bits, telling.look)
    else:
        from tui_entropy.ui.app import launch

        launch.results(results, telling.look)
