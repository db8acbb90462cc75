"""Options of commands that tell uncertainty scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tui_entropy.cli.usage import option_check
from tui_entropy.core.errors import UserError

if TYPE_CHECKING:
    from tui_entropy.records.corpus.uncertainty import ScoreSettings


def check_scores(text: str | None) -> None:
    from tui_entropy.records.corpus.uncertainty import score_names

    if text is not None:
        try:
            score_names(text)
        except UserError as mistake:
            raise UserError(f"--scores: {mistake}") from None


Scores = Annotated[
    str | None,
    typer.Option(
        "--scores",
        metavar="NAME,...",
        help="Uncertainty of each sentence, by the names of lm-polygraph: tokens, prompt, attention, samples, "
        "dropout, weight-noise, vectors, all, or single ones such as Perplexity,SemanticEntropy.",
        callback=option_check(check_scores),
    ),
]
Samples = Annotated[int, typer.Option(min=2, max=64, help="Of --scores samples: how many continuations are drawn.")]
SampleTokens = Annotated[
    int, typer.Option(min=1, max=128, help="Of --scores samples: tokens of each at most; it ends with its line.")
]
Members = Annotated[
    int, typer.Option(min=2, max=256, help="Of --scores dropout and weight-noise: members of the ensemble.")
]


def score_settings(text: str, samples: int, sample_tokens: int, members: int, seed: int) -> ScoreSettings:
    from tui_entropy.records.corpus.uncertainty import ScoreSettings, score_names

    return ScoreSettings(score_names(text), samples, sample_tokens, members, seed=seed)
