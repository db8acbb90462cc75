"""The command grade: how well uncertainty scores tell wrong sentences from right ones."""

from __future__ import annotations

from typing import Annotated

import typer

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.groups import Telling, with_shared_options
from tui_entropy.cli.options import prepare_engine, vector_option
from tui_entropy.cli.texts.results import BosOption, tell
from tui_entropy.cli.texts.score_options import Members, Samples, SampleTokens, check_scores, score_settings
from tui_entropy.cli.usage import option_check
from tui_entropy.records.model import ModelSpec


@app.command(epilog=EXIT_CODES)
@with_shared_options
def grade(
    *,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A .jsonl file: prompt, sentence and correct (true or false) a line, or questions as of calibrate "
            "--choices, where the most likely answer is graded.",
        ),
    ],
    scores: Annotated[
        str,
        typer.Option(
            "--scores",
            metavar="NAME,...",
            help="Of uncertainty: tokens, prompt, attention, samples, dropout, weight-noise, vectors, all, or single "
            "ones by the names of lm-polygraph.",
            callback=option_check(check_scores),
        ),
    ] = "tokens,prompt,attention",
    samples: Samples = 10,
    sample_tokens: SampleTokens = 16,
    members: Members = 8,
    vector: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE:STRENGTH[:FIRST-LAST]",
            help="Of --scores vectors: a member is the model under it, beside one under none. May be given several "
            "times.",
            callback=option_check(vector_option),
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of what is drawn.")] = 0,
    spec: ModelSpec,
    limit: Annotated[
        int | None, typer.Option(min=2, max=10**7, help="Sentences, or questions, that are graded at most.")
    ] = None,
    bos: BosOption = "tokenizer",
    telling: Telling,
) -> None:
    """Is a model less sure where it is wrong? AUROC and rejection curves of uncertainty scores over a graded set."""
    vectors = [vector_option(one) for one in vector or ()]
    settings = score_settings(scores, samples, sample_tokens, members, seed)
    prepare_engine()
    from tui_entropy.analysis.grading.run import grade_file

    report, results = grade_file(spec, file, settings, vectors, limit, bos)  # type: ignore[arg-type]
    tell(results, report, telling)
