"""Texts as passages, and what was found of them as records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import torch

from tui_entropy.core.errors import UserError
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.batches import Together
from tui_entropy.engine.scoring.masked import masked_passage, score_masked
from tui_entropy.engine.scoring.passage import Passage, left_to_right
from tui_entropy.engine.scoring.scorer import OffsetsOf, PassageScores, Wanted, score
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.engine.tokenization.tokenizer import Tokenizer, prompt_tokens
from tui_entropy.records.arrays import Grid
from tui_entropy.records.corpus.scores import LayerScores, Prediction, TextScores
from tui_entropy.records.step import BLOCKS

Bos = Literal["tokenizer", "with", "without"]
"""What a text begins with: what the tokenizer puts there, its token for a beginning, or nothing."""
BOS: tuple[Bos, ...] = get_args(Bos)


def encoded(tokenizer: Tokenizer, text: str, bos: Bos = "tokenizer") -> list[int]:
    """Ids of a text with what it begins with. Raises UserError for what cannot be encoded, and where a token for a
    beginning is wanted and the tokenizer has none."""
    if bos == "tokenizer":
        return tokenizer.encode(text, None, chat=False)
    ids = tokenizer.encode_as_it_is(text)
    if bos == "without":
        return ids
    begin = tokenizer.hf_tokenizer.bos_token_id
    if begin is None:
        raise UserError("this model's tokenizer has no token for the beginning of a text: take --bos without")
    return [int(begin), *ids]


def passage_of(loaded: Loaded, text: str, bos: Bos = "tokenizer") -> Passage:
    """A text as a passage of which each token but the first is scored; by a model that fills in masked tokens, each.
    Raises UserError for one that has nothing to score, or more than the model reads."""
    if not loaded.architecture.left_to_right:
        return masked_passage(loaded, text)
    ids = encoded(loaded.tokenizer, text, bos)
    if len(ids) < 2:
        raise UserError("it has one token at most, and nothing comes before the first")
    if len(ids) > loaded.card.context:
        raise UserError(f"it has {len(ids)} tokens and {loaded.card.name} reads at most {loaded.card.context}")
    return left_to_right(ids)


def score_texts(
    loaded: Loaded,
    texts: Iterable[str],
    wanted: Wanted | None = None,
    offsets: OffsetsOf | None = None,
    bos: Bos = "tokenizer",
    together: Together | None = None,
) -> Iterator[TextScores]:
    """Score texts, in their order. Raises UserError for one that cannot be scored, and NotFinite.

    together: which may stand in a batch; what is exact for this model where it is not said.
    """
    passages = [passage_of(loaded, text, bos) for text in texts]
    for passage, its in zip(passages, score_passages(loaded, passages, wanted, offsets, together), strict=True):
        yield text_scores(loaded, passage, its, wanted)


def score_passages(
    loaded: Loaded,
    passages: Iterable[Passage],
    wanted: Wanted | None = None,
    offsets: OffsetsOf | None = None,
    together: Together | None = None,
) -> Iterator[PassageScores]:
    """Score passages of `passage_of`, in their order, as is exact for this model. Raises NotFinite."""
    if not loaded.architecture.left_to_right:
        return score_masked(loaded, passages, wanted, offsets)
    return score(loaded, passages, wanted, offsets, together=together or together_of(loaded))


def text_scores(loaded: Loaded, passage: Passage, found: PassageScores, wanted: Wanted | None = None) -> TextScores:
    """What was found of a passage, as a record."""
    tokenizer, ahead = loaded.tokenizer, int(loaded.architecture.left_to_right)
    return TextScores(
        prompt_tokens(tokenizer, passage.ids),
        tuple(position + ahead for position in passage.positions),
        Grid.of(found.scores.numpy()),
        tuple(metric.field for metric in (wanted or Wanted()).scores),
        _layers(found, wanted) if wanted is not None else None,
        tuple(Prediction(token, tokenizer.token_bytes(token), p) for token, p in found.predictions),
    )


def _layers(found: PassageScores, wanted: Wanted) -> LayerScores | None:
    """None where nothing of the layers was wanted; of what was not wanted unknowns."""
    tables = found.layers
    known = [table for table in (tables.lens, tables.hidden) if table is not None]
    if not known and tables.attention is None:
        return None
    n_layers = len(known[0]) - 1 if known else len(tables.attention if tables.attention is not None else ())
    n = len(found.scores)

    def grid(table: torch.Tensor | None, shape: Sequence[int]) -> Grid:
        return Grid.of((torch.full(tuple(shape), math.nan) if table is None else table).numpy())

    names = tuple(metric.field for metric in wanted.lens)
    return LayerScores(
        grid(tables.lens, (n_layers + 1, n, len(names))),
        names,
        grid(tables.attention, (n_layers, n)),
        grid(tables.hidden, (n_layers + 1, n, len(BLOCKS))),
    )
