"""The trial of a model at load: it must read a text in stretches as it reads it in one pass, and look at what is
shown. No config says whether it does.

A model whose scan over several tokens begins from nothing, whose cache is not the one it is given or that counts
positions anew would write on without a word, and every number of it would be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor, nn
from transformers import DynamicCache

from tui_entropy import engine
from tui_entropy.core.choices import keep, kept, path_of
from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.architecture import Architecture, usual
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.architecture.parts import taken_by
from tui_entropy.engine.instruments.attention import attention_instrument
from tui_entropy.engine.instruments.attention_functions import eager
from tui_entropy.engine.instruments.prompt_scores import final_residual
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.kernels.two_row_linear import two_row_linear
from tui_entropy.engine.models.forward import forward, read
from tui_entropy.records.model import COLUMNS

if TYPE_CHECKING:
    from tui_entropy.engine.models.loaded import Loaded

STRETCHES = (7, 4, 1, 1)
"""Tokens read at a time: two stretches of a prompt, then what is written, one by one."""
ROUNDING = {torch.bfloat16: 0.1, torch.float16: 0.05}
"""Of the largest logit: what rounding may make of it, where a sum is added up in another order."""
EXACT = 1e-4
"""The same in float32, where models of many layers come to a tenth of it."""
ROWS_EXACT = 1e-3
"""Nats, on the mean of a block's heads."""
STRETCHED, WHOLE = "stretches", "whole"


def verified_architecture(loaded: Loaded) -> Architecture:
    """Its architecture as it was found: with `in_stretches`, and without the attention rows of blocks where they are
    not what the model's own formula gives. What was found once is kept for this model, library and program.

    Raises UserError for a model that cannot be read by parts.
    """
    if is_plain(loaded):
        return loaded.architecture
    check = partial(_is_verdict, loaded.architecture.n_layers)
    path = path_of("trials", *_about(loaded))
    verdict = kept(path, check) if _of_library(loaded) else None
    if verdict is None:
        architecture = _verify_reading(loaded)
        rowless = _rowless(replace(loaded, architecture=architecture))
        verdict = " ".join([STRETCHED if architecture.in_stretches else WHOLE, *map(str, rowless)])
        if _of_library(loaded):
            verdict = keep(path, verdict, check)
    way, *numbers = verdict.split()
    modules = tuple(
        None if str(index) in numbers else module
        for index, module in enumerate(loaded.architecture.attention_modules)
    )
    return replace(loaded.architecture, in_stretches=way == STRETCHED, attention_modules=modules)


@torch.inference_mode()
def verify_masked(loaded: Loaded) -> None:
    """Raise UserError for a model that fills in masked tokens unless its parts, one by one, say what it says."""
    ids = _text(loaded)[:, : STRETCHES[0]]
    with final_residual(loaded.architecture) as held:
        whole = loaded.model(input_ids=ids).logits[0].float()
    if _gap(unembed(loaded.model, loaded.architecture, held.residual), whole) > ROUNDING.get(
        loaded.model.dtype, EXACT
    ):
        raise UserError(f"the parts of {_name(loaded)} say something else than it does; it is not supported")


def is_plain(loaded: Loaded) -> bool:
    """Whether a model is a chain of blocks of plain attention by the library's own code, as its tests know them all:
    keys and values of every block in the library's cache, by its attention functions, and nothing beside them."""
    architecture, model = loaded.architecture, loaded.model
    return (
        _of_library(loaded)
        and usual(type(model), model.config)
        and architecture.croppable
        and set(architecture.layer_kinds) <= {"full", "sliding"}
        and all(architecture.attention)
        and architecture.n_streams == 1
        and architecture.cache_kind is DynamicCache
        and "logits_to_keep" not in taken_by(architecture.decoder)
    )


def _of_library(loaded: Loaded) -> bool:
    return type(loaded.model).__module__.startswith("transformers.")


def _about(loaded: Loaded) -> Iterator[object]:
    """The things that a verdict hangs on."""
    card, model = loaded.card, loaded.model
    yield from (card.name, card.revision, card.source, card.dtype, card.device, card.products)
    yield from (type(model).__qualname__, model.config.to_json_string(use_diff=False))
    yield from (torch.__version__, transformers.__version__, version("tui-entropy"))
    # Of a program that is worked on the version stays while the code changes.
    for path in sorted(Path(engine.__file__).parent.rglob("*.py")):
        yield from (path.name, path.stat().st_mtime_ns)


def _is_verdict(n_layers: int, verdict: str) -> bool:
    way, *numbers = verdict.split() or [""]
    return way in (STRETCHED, WHOLE) and all(number.isdecimal() and int(number) < n_layers for number in numbers)


@torch.inference_mode()
def _verify_reading(loaded: Loaded) -> Architecture:
    """Its architecture, with `in_stretches` as it was found. Raises UserError where reading by parts fails."""
    architecture, bound = loaded.architecture, ROUNDING.get(loaded.model.dtype, EXACT)
    ids = _text(loaded)
    try:
        whole = _whole(loaded, ids)
        if architecture.in_stretches and apart(loaded, ids, STRETCHES, whole) <= bound:
            return architecture
        first, *_, newest = STRETCHES
        far = apart(loaded, ids, (ids.shape[1] - 2 * newest, newest, newest), whole)
        if far <= bound:
            return replace(architecture, in_stretches=False)
        backwards = _gap(_whole(loaded, ids[:, :first]), whole[:first]) > bound
    except Exception as error:  # of whatever model, whose code is anybody's
        reason = next(iter(str(error).strip().splitlines()), "")
        raise UserError(
            f"{_name(loaded)} cannot be read one token behind others ({type(error).__name__}: {reason}); this "
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
    """The distance of the logits after each stretch from those of one pass, as a share of the largest of them.

    whole: (n, vocab), of one pass.
    """
    cache, ends = new_cache(loaded.model, loaded.architecture), torch.tensor(stretches).cumsum(0) - 1
    by_columns = loaded.card.products == COLUMNS
    with attention_instrument(loaded.model, loaded.architecture, keep=0), two_row_linear(loaded.model, by_columns):
        logits = torch.cat([forward(loaded, cache, part) for part in torch.split(ids, list(stretches), 1)])
    return _gap(logits, whole[ends.to(whole.device)])


@torch.inference_mode()
def _rowless(loaded: Loaded) -> tuple[int, ...]:
    """Indices of blocks whose newest attention row, as it is shown, is not that of the model's eager attention."""
    architecture = loaded.architecture
    layers = [layer for layer, has in enumerate(architecture.attention) if has]
    if not layers:
        return ()
    ids = _text(loaded)
    cache, bound = new_cache(loaded.model, architecture), ROUNDING.get(loaded.model.dtype, ROWS_EXACT)
    with attention_instrument(loaded.model, architecture, keep=0) as probe:
        for part in torch.split(ids, [ids.shape[1] - 1, 1], 1):
            forward(loaded, cache, part)
        entropies = probe.head_statistics().entropy
    reference = _newest_attention(loaded, ids)
    wrong = []
    for layer in layers:
        row = reference[layer]
        if row is not None:
            expected = torch.special.entr(row / row.sum(-1, keepdim=True)).sum(-1)
            gap = (entropies[layer, : len(expected)].to(expected) - expected).abs().mean()
        if row is None or not gap <= bound:
            wrong.append(layer)
    return tuple(wrong)


def _newest_attention(loaded: Loaded, ids: Tensor) -> list[Tensor | None]:
    """Per block what its attention tells of the newest query in one eager pass: (n_heads, keys), None for nothing."""
    attentions: dict[nn.Module, list[Tensor]] = {}

    def keep_row(module: nn.Module, args: Any, output: Any) -> None:
        weights = next((part for part in output[1:2] if isinstance(part, Tensor) and part.dim() == 4), None)
        if weights is not None:
            attentions.setdefault(module, []).append(weights[0, :, -1].float())

    modules = loaded.architecture.attention_modules
    with ExitStack() as hooks:
        hooks.enter_context(eager(loaded.architecture.decoder))
        for module in {module for module in modules if module is not None}:
            hooks.callback(module.register_forward_hook(keep_row).remove)
        read(loaded.model, None, ids)
    # One module may stand in several blocks.
    return [
        attentions[module].pop(0) if module is not None and attentions.get(module) else None for module in modules
    ]


def _text(loaded: Loaded) -> Tensor:
    """(1, n) ids."""
    return torch.arange(3, 3 + sum(STRETCHES), device=loaded.model.device).remainder(loaded.architecture.vocab)[None]


def _whole(loaded: Loaded, ids: Tensor) -> Tensor:
    """(1, n) ids -> (n, vocab) float32 logits of one pass, by the model alone."""
    logits: Tensor = read(loaded.model, None, ids).logits[0]
    return logits.float()


def _gap(actual: Tensor, expected: Tensor) -> float:
    """Infinite where one of them is no number and the other is; weights that are none are told elsewhere."""
    if not torch.equal(actual.isfinite(), expected.isfinite()):
        return math.inf
    largest = expected.nan_to_num(0, 0, 0).abs().max().clamp(min=1e-9)
    return float((actual - expected).nan_to_num(0, 0, 0).abs().max() / largest)


def _name(loaded: Loaded) -> str:
    return f"{loaded.card.name} ({type(loaded.model).__name__})"
