"""The command perplexity: documents scored by a model."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.groups import with_shared_options
from tui_entropy.cli.options import one_of, prepare_engine
from tui_entropy.cli.usage import option_check
from tui_entropy.core.streams import put
from tui_entropy.records.model import ModelSpec

Field = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Of JSON lines the field, of a table the column that is the text. [default: text]"
    ),
]
MOST = 10**7


@app.command(epilog=EXIT_CODES)
@with_shared_options
def perplexity(
    *,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="A text; of .jsonl each line and of .csv or .tsv each row is one. - reads a text from stdin.",
        ),
    ],
    field: Field = None,
    window: Annotated[
        int | None, typer.Option(min=2, max=MOST, help="Tokens read at a time. [default: the model's context]")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Tokens from one window to the next. [default: half a window]")
    ] = None,
    bos: Annotated[
        str,
        typer.Option(
            help="What each document begins with. tokenizer: what that puts before a text; with: the token for a "
            "beginning, so that the first token is scored too; without: nothing.",
            callback=option_check(one_of("--bos", "tokenizer", "with", "without")),
        ),
    ] = "tokenizer",
    spec: ModelSpec,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
) -> None:
    """Tell the perplexity of documents under a model, by token, word and byte, and their log-likelihood."""
    from tui_entropy.analysis.corpus.entries import check, documents

    for name in files:
        check(name)
    entries = (entry for name in files for entry in documents(name, field))
    prepare_engine()
    from tui_entropy.analysis.corpus import perplexity as scoring

    found = scoring.perplexity(spec, entries, window, stride, bos)  # type: ignore[arg-type]
    put(_line(scoring.as_fields(found)) if as_json else scoring.report(found).encode())


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
