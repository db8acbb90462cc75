"""Texts under a model that fills in masked tokens: the pseudo-log-likelihood, one mask at a time, in batches.

Each token of a text is masked by itself, and the model says what it believes there of all else: so a text of n tokens
is n passages. The sum of these ln p is no probability of the text, and is called what it is.
Source: Salazar et al. 2020, 'Masked language model scoring'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch

from tui_entropy.core.errors import UserError
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.layers import LayerTables
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.scoring.scorer import OffsetsOf, PassageScores, Wanted, score


def masked_passage(loaded: Loaded, text: str) -> Passage:
    """A text as one passage, with the positions whose tokens are masked in turn. Where it has a mask of its own, that
    is the place at which the model is asked what stands there, else the last token. Raises UserError."""
    hf_tokenizer = loaded.tokenizer.hf_tokenizer
    ids = [int(one) for one in hf_tokenizer(text)["input_ids"]]
    special = set(hf_tokenizer.all_special_ids)
    own = [at for at, one in enumerate(ids) if one == hf_tokenizer.mask_token_id]
    positions = [at for at, one in enumerate(ids) if one not in special]
    if not positions:
        raise UserError("it has no token that could be masked")
    if len(ids) > loaded.card.context:
        raise UserError(f"it has {len(ids)} tokens and {loaded.card.name} reads at most {loaded.card.context}")
    return Passage(ids, positions, [ids[at] for at in positions], (own or positions)[-1])


def score_masked(
    loaded: Loaded, passages: Iterable[Passage], wanted: Wanted | None = None, offsets: OffsetsOf | None = None
) -> Iterator[PassageScores]:
    """Score passages of `masked_passage`, in their order. Raises NotFinite."""
    mask = loaded.tokenizer.hf_tokenizer.mask_token_id
    waiting = iter(passages)
    while some := list(islice(waiting, 16)):
        each = [list(_one_by_one(passage, int(mask))) for passage in some]
        found = score(loaded, [one for its in each for one in its], wanted, offsets, together="equal", pool=10**9)
        for its in each:
            yield _joined(list(islice(found, len(its))))


def _one_by_one(passage: Passage, mask: int) -> Iterator[Passage]:
    """The text with each of its tokens masked in turn; with a mask of its own, also as it is."""
    for position, target in zip(passage.positions, passage.targets, strict=True):
        ids = [*passage.ids[:position], mask, *passage.ids[position + 1 :]]
        yield Passage(ids, [position], [target], position if position == passage.end else None)
    if passage.end not in passage.positions:
        yield Passage(passage.ids, (), (), passage.end)


def _joined(parts: Sequence[PassageScores]) -> PassageScores:
    def together(name: str) -> torch.Tensor | None:
        tables = [getattr(part.layers, name) for part in parts]
        return None if tables[0] is None else torch.cat(tables, 1)

    return PassageScores(
        torch.cat([part.scores for part in parts]),
        LayerTables(together("lens"), together("attention"), together("hidden")),
        next((part.predictions for part in parts if part.predictions), []),
    )
