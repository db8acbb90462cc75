"""The parts of a model, found by its structure and by watching one pass, whatever they are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from tui_entropy.core.errors import UserError

Attribute = tuple[nn.Module, str]
"""A module, and the name of a plain attribute of it."""


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The decoder: it turns ids into the vectors that the head reads.

    The library looks by names, one of which some heads have too, and which lead some models to themselves.
    """
    found: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    base: PreTrainedModel = model.base_model  # type: ignore[assignment]
    decoder = found if isinstance(found, PreTrainedModel) else base
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[no-untyped-call]
    if head in set(decoder.modules()):
        inside = (module for module in decoder.modules() if isinstance(module, PreTrainedModel))
        return next(
            (each for each in inside if head not in (parts := set(each.modules())) and embedding in parts), base
        )
    return decoder


def blocks_of(decoder: PreTrainedModel, declared: int) -> tuple[nn.Module, ...]:
    """Its chain of layers: of its lists of modules one as long as declared, if there is one, that lies least deep; of
    several such the one with most parameters. Empty if it has no list."""

    def rank(found: tuple[str, nn.ModuleList]) -> tuple[bool, int, int]:
        name, modules = found
        return len(modules) == declared, -name.count("."), sum(weights.numel() for weights in modules.parameters())

    lists = [(name, module) for name, module in decoder.named_modules() if isinstance(module, nn.ModuleList)]
    return tuple(max(lists, key=rank)[1]) if lists else ()


def asks_whether_decoder(decoder: PreTrainedModel) -> bool:
    """Whether what it does hangs on its config's `is_decoder`: others have such a field for no use."""
    kinds = [kind for kind in type(decoder).__mro__ if kind.__module__ == type(decoder).__module__]
    functions = (inspect.unwrap(part) for kind in kinds for part in vars(kind).values() if callable(part))
    return any("is_decoder" in function.__code__.co_names for function in functions if hasattr(function, "__code__"))


def projects(model: nn.Module, wide: int, narrow: int) -> bool:
    """Whether a model has a layer from vectors of one width to those of another."""
    linear = (module for module in model.modules() if isinstance(module, nn.Linear))
    return any((module.in_features, module.out_features) == (wide, narrow) for module in linear)


@dataclass(frozen=True)
class Seen:
    """The calls that one pass over a token shows."""

    tail: tuple[nn.Module, ...]
    """What the decoder does to the residual stream behind its last block, in order."""
    width: int
    """Of the residual stream."""
    n_streams: int
    """Vectors of a token that the blocks hand on."""
    parallel: bool
    """Whether these are several, side by side."""
    caches: dict[str, Any]
    """Under the names that the model's forward knows them by, what it hands out to be given back."""
    states: tuple[Attribute, ...]
    """What it keeps of a text in itself: attributes of its blocks that a pass changes."""


@torch.inference_mode()
def look(
    model: PreTrainedModel, decoder: PreTrainedModel, blocks: tuple[nn.Module, ...], given: Mapping[str, Any]
) -> Seen:
    """Watch a model read one token. It is left as it was found. Raises UserError if it does not run.

    given: what it gets beside the token.
    """
    inside = {module for block in blocks for module in block.modules()}
    beside = [module for module in decoder.modules() if inside.isdisjoint(module.modules())]
    attributes = [(module, name) for module in inside for name, value in vars(module).items() if _may_be_state(value)]
    before = [vars(module)[name] for module, name in attributes]
    calls: list[Call] = []
    with ExitStack() as hooks:
        for module in (*beside, *blocks, decoder):
            hooks.callback(module.register_forward_hook(partial(_keep, calls)).remove)
        try:
            out = _read_one(model, given)
        finally:
            after = [vars(module)[name] for module, name in attributes]
            for (module, name), was in zip(attributes, before, strict=True):
                vars(module)[name] = was
    order = [module for module, _, _ in calls if module in set(blocks)]
    if order != list(blocks):
        raise UserError(
            f"{type(model).__name__} has a chain of {len(blocks)} blocks, and ran {len(set(order))} of them for a "
            f"token of text, {len(order)} times in all; that each runs once was wanted, so this architecture is not "
            "supported"
        )
    last = next((made for module, _, made in reversed(calls) if module is blocks[-1]), None)
    final = next((made for module, _, made in reversed(calls) if module is decoder), None)
    n = 0 if last is None else last.shape[1] if last.dim() == 3 else 1
    if last is None or final is None or n != 1:
        raise UserError(
            f"the last block of {type(model).__name__} puts out {n or 'no'} vectors for a text of one token, and one "
            "was wanted; this architecture is not supported"
        )
    return Seen(
        tail=_tail([call for call in calls if call[0] in set(beside)], last, final),
        width=last.shape[-1],
        n_streams=last.shape[:-1].numel(),
        parallel=last.dim() == 4 and last.shape[2] > 1,
        caches={name: part for name, part in out.items() if name in taken_by(model) and part is not None},
        states=tuple(at for at, was, now in zip(attributes, before, after, strict=True) if was is not now),
    )


def taken_by(model: nn.Module) -> Collection[str]:
    """The names of what a model's forward takes."""
    return _parameters(type(model).forward)


@cache
def _parameters(function: Callable[..., Any]) -> Collection[str]:
    return inspect.signature(function).parameters


Call = tuple[nn.Module, Tensor | None, Tensor]
"""A module, what it was given, and what it made of it."""


def _read_one(model: PreTrainedModel, given: Mapping[str, Any]) -> ModelOutput:
    n_rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    ids = torch.full((1, 1), n_rows // 2, device=model.device)
    try:
        out: ModelOutput = model(input_ids=ids, use_cache=True, **given)
    except Exception as error:  # of whatever model, whose code is anybody's
        reason = str(error).strip().split("\n", 1)[0][:200]
        raise UserError(
            f"{type(model).__name__} does not read text by itself ({type(error).__name__}: {reason}); this "
            "architecture is not supported"
        ) from error
    return out


def _keep(calls: list[Call], module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    made = next(iter(output.values())) if isinstance(output, ModelOutput) else output
    made = made[0] if isinstance(made, tuple | list) else made
    given = args[0] if args and isinstance(args[0], Tensor) else None
    if isinstance(made, Tensor):
        calls.append((module, given, made))


def _may_be_state(value: Any) -> bool:
    return value is None or isinstance(value, Tensor)


def _tail(calls: Sequence[Call], last: Tensor, final: Tensor) -> tuple[nn.Module, ...]:
    """The modules, called beside the blocks, by which the decoder's output came of the last block's, found from its
    end: as far as what a module made is what the next one was given, to the bit. Where more goes into the output
    than the last block's, it is the last of them alone: what that was given is what they all came to."""
    tail: list[nn.Module] = []
    for module, given, made in reversed(calls):
        if given is not None and _same(made, final) and not _same(final, last):
            tail.insert(0, module)
            final = given
    return tuple(tail if last.dim() == 3 and _same(final, last) else tail[-1:])


def _same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.equal(one.flatten().cpu(), other.flatten().cpu())
