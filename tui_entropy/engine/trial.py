"""Whether a model reads a text in stretches as it reads it in one pass: tried at load, since no config says so.

A model whose scan over several tokens begins from nothing, whose cache is not the one it is given or that counts
positions anew would write on without a word, and every number of it would be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tui_entropy.engine.anatomy import Anatomy, new_cache
from tui_entropy.engine.attention import attention_probe
from tui_entropy.engine.forward import forward, read
from tui_entropy.engine.rows import few_rows
from tui_entropy.errors import UserError
from tui_entropy.records import COLUMNS

if TYPE_CHECKING:
    from tui_entropy.engine.loading import Loaded

STRETCHES = (7, 4, 1, 1)
"""Tokens read at a time: two stretches of a prompt, then what is written, one by one."""
ROUNDING = {torch.bfloat16: 0.1, torch.float16: 0.05}
"""Of the largest logit: what rounding may make of it, where a sum is added up in another order."""
EXACT = 3e-4
"""The same in float32, where models of many layers come to a tenth of it."""


@torch.inference_mode()
def tried(loaded: Loaded) -> Anatomy:
    """Its anatomy, with `in_stretches` as it was found. Raises UserError for a model that cannot be read by parts."""
    anatomy, bound = loaded.anatomy, ROUNDING.get(loaded.model.dtype, EXACT)
    ids = torch.arange(3, 3 + sum(STRETCHES), device=loaded.model.device).remainder(anatomy.vocab)[None]
    try:
        whole = _whole(loaded, ids)
        if anatomy.in_stretches and apart(loaded, ids, STRETCHES, whole) <= bound:
            return anatomy
        first, *_, newest = STRETCHES
        far = apart(loaded, ids, (ids.shape[1] - 2 * newest, newest, newest), whole)
        if far <= bound:
            return replace(anatomy, in_stretches=False)
        backwards = _gap(_whole(loaded, ids[:, :first]), whole[:first]) > bound
    except Exception as error:  # of whatever model, whose code is anybody's
        said = next(iter(str(error).strip().splitlines()), "")
        raise UserError(
            f"{_name(loaded)} cannot be read one token behind others ({type(error).__name__}: {said}); this "
            "architecture is not supported"
        ) from error
    if backwards:
        raise UserError(
            f"in {_name(loaded)} a token sees those that come after it, so it cannot write from left to right; "
            "pass a causal language model"
        )
    raise UserError(
        f"{_name(loaded)} says something else of a token behind others than in one pass with them (logits "
        f"{100 * far:.2g} % apart), so what it writes would be wrong; this architecture is not supported"
    )


def apart(loaded: Loaded, ids: Tensor, stretches: Sequence[int], whole: Tensor) -> float:
    """How far the logits after each stretch are from those of one pass: a share of the largest of them.

    whole: (n, vocab), of one pass.
    """
    cache, ends = new_cache(loaded.model, loaded.anatomy), torch.tensor(stretches).cumsum(0) - 1
    by_columns = loaded.card.products == COLUMNS
    with attention_probe(loaded.model, loaded.anatomy, keep=0), few_rows(loaded.model, by_columns):
        found = torch.cat([forward(loaded, cache, part) for part in torch.split(ids, list(stretches), 1)])
    return _gap(found, whole[ends.to(whole.device)])


def _whole(loaded: Loaded, ids: Tensor) -> Tensor:
    """(1, n) ids -> (n, vocab) float32 logits of one pass, by the model alone."""
    logits: Tensor = read(loaded.model, None, ids).logits[0]
    return logits.float()


def _gap(found: Tensor, wanted: Tensor) -> float:
    """Infinite where one of them is no number and the other is; weights that are none are told elsewhere."""
    if not torch.equal(found.isfinite(), wanted.isfinite()):
        return math.inf
    largest = wanted.nan_to_num(0, 0, 0).abs().max().clamp(min=1e-9)
    return float((found - wanted).nan_to_num(0, 0, 0).abs().max() / largest)


def _name(loaded: Loaded) -> str:
    return f"{loaded.card.name} ({type(loaded.model).__name__})"
