"""AttnLRP: relevance handed back through a model, operation by operation, so that it adds up (Achtibat et al. 2024).

Relevance of a tensor is itself times a gradient that rules have changed. The rules:

    matrix, sum, view      the plain gradient: relevance is shared out by what each input contributed
    norm                   frozen at its scale
    activation             all of it goes to what was activated: the gradient is output / input
    product of two         half of it goes to each factor; so in gated blocks, and where queries meet keys
    softmax                the plain gradient, its Taylor expansion: what the constant in it keeps is counted

They hang on operations and not on classes of models. An operation that no rule is known for ends it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import activations

from tui_entropy.engine.attribution.frozen_norm import frozen_norm, is_norm
from tui_entropy.engine.attribution.stand_ins import standing_in

TINY = 1e-6
"""An input of an activation that is as good as none."""
ACTIVATIONS = (
    *(kind for kind in vars(activations).values() if inspect.isclass(kind) and issubclass(kind, nn.Module)),
    nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.ReLU6, nn.LeakyReLU, nn.Mish, nn.Hardswish,
)  # fmt: skip
ACTIVATING = {
    functional.silu, functional.gelu, functional.relu, functional.relu_, functional.mish, torch.tanh, torch.relu,
    Tensor.tanh, Tensor.relu,
}  # fmt: skip
PRODUCTS = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.matmul, Tensor.matmul, Tensor.__matmul__,
            torch.bmm, Tensor.bmm}  # fmt: skip
ADDS = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}
SOFTMAX = {functional.softmax, torch.softmax, Tensor.softmax}
QUOTIENTS = {torch.div, Tensor.div, Tensor.__truediv__}
LINEAR = {
    functional.linear, functional.dropout, functional.pad, functional.conv1d,
    torch.sub, Tensor.sub, Tensor.__sub__, Tensor.__rsub__,
    torch.neg, Tensor.neg, Tensor.__neg__, torch.addmm, Tensor.addmm,
    Tensor.view, Tensor.reshape, torch.reshape, Tensor.transpose, torch.transpose, Tensor.t, torch.t,
    Tensor.permute, torch.permute,
    Tensor.contiguous, Tensor.clone, torch.clone, Tensor.flatten, torch.flatten, Tensor.unflatten,
    torch.cat, torch.stack, Tensor.chunk, torch.chunk, Tensor.split, torch.split, Tensor.unbind, torch.unbind,
    Tensor.__getitem__, Tensor.expand, Tensor.expand_as, Tensor.repeat, Tensor.repeat_interleave,
    torch.repeat_interleave, Tensor.unsqueeze, torch.unsqueeze, Tensor.squeeze, torch.squeeze, Tensor.view_as,
    Tensor.mean, torch.mean, Tensor.sum, torch.sum, Tensor.to, Tensor.type, Tensor.type_as, Tensor.float,
    Tensor.masked_fill, torch.where, Tensor.swapaxes, Tensor.narrow, torch.narrow, Tensor.movedim,
}  # fmt: skip
SPELLING = {
    "mT", "T", "shape", "dtype", "device", "requires_grad", "grad_fn", "is_cuda", "ndim", "data", "layout", "is_leaf",
}  # fmt: skip
"""Attributes of a tensor that ask, or only turn it."""
ASKS = {"size", "dim", "numel", "stride", "is_floating_point", "is_contiguous", "element_size", "detach", "__len__"}


class NoRule(Exception):
    """Which operation of a model no rule is known for: half a sentence."""


@dataclass
class Kept:
    """What does not reach the tokens, by where it stays."""

    softmax: list[Tensor] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)
    """Biases, masks and what positions are embedded as, as leaves."""


@dataclass(frozen=True)
class Relevance:
    tokens: Tensor
    """(n,) of each token."""
    softmax: float
    """What the constants of softmaxes keep."""
    biases: float
    """The same of biases, and of what positions are embedded as."""
    target: float
    """The logit, or the difference, that all of it should sum to."""

    @property
    def remainder(self) -> float:
        return self.target - float(self.tokens.sum()) - self.softmax - self.biases


def relevance(
    model: nn.Module, vectors: Tensor, logit: Callable[[Tensor], Tensor], holds_weights: bool = False
) -> Relevance:
    """Hand the relevance of a logit back to the (n, d) vectors of a text.

    logit: (1, n, d) vectors -> (1,), through the model. holds_weights: attention weights are constants (Ali et al.
    2022), so that softmaxes keep nothing. Raises NoRule.
    """
    kept = Kept()
    with torch.enable_grad(), _frozen_norms(model, kept), _activations(model), _biases(model, kept):
        leaf = vectors.detach().clone()[None].requires_grad_()
        with Rules(kept, holds_weights):
            value = logit(leaf)
        own, *constants = torch.autograd.grad(value.sum(), [leaf, *kept.constants], allow_unused=True)
    biases = sum(
        float(torch.where(gradient == 0, 0, one.detach().double() * gradient.double()).sum())
        for one, gradient in zip(kept.constants, constants, strict=True)
        if gradient is not None
    )
    tokens = (leaf.detach().double() * own.double()).sum(-1)[0]
    return Relevance(tokens, float(sum(kept.softmax)), biases, float(value.detach()))


class Rules(TorchFunctionMode):
    """Every operation that touches relevance goes by a rule, for as long as the `with` lasts."""

    def __init__(self, kept: Kept, holds_weights: bool) -> None:
        super().__init__()
        self.kept, self.holds_weights = kept, holds_weights

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        known = kwargs or {}
        touched = sum(_is_touched(one) for one in (*args, *known.values()))
        if func is functional.embedding:
            return self._leaf(func(*args, **known).detach())
        if not touched or not torch.is_grad_enabled() or _asks(func):
            return func(*args, **known)
        if func in ACTIVATING:
            return activated(partial(func, **known), *args)
        if func in PRODUCTS:
            return func(*map(halved, args), **known) if touched > 1 else func(*args, **known)
        if func in QUOTIENTS:
            if _is_touched(args[1]):
                raise NoRule("no rule is known for what divides by a part of itself")
            return func(*args, **known)
        if func in SOFTMAX:
            return self._softmax(func, *args, **known)
        if func is functional.scaled_dot_product_attention:
            return self._attention(func, *args, **known)
        if func in ADDS:
            return func(*map(self._leaf, args), **known)
        if func in LINEAR:
            return func(*args, **known)
        raise NoRule(f"no rule is known for its {getattr(func, '__name__', func)}")

    def _leaf(self, added: Any) -> Any:
        """What is added and does not hang on the text keeps its part."""
        if not isinstance(added, Tensor) or added.requires_grad or not added.is_floating_point():
            return added
        leaf = added.detach().clone().requires_grad_()
        self.kept.constants.append(leaf)
        return leaf

    def _softmax(self, func: Any, scores: Tensor, *args: Any, **known: Any) -> Tensor:
        if self.holds_weights:
            made: Tensor = func(scores.detach(), *args, **known)
            return made
        return self._counted(-1.0, func(self._counted(1.0, scores), *args, **known))

    def _attention(self, func: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **known: Any) -> Tensor:
        """Queries and keys share what reaches the weights, a half of the whole; values have the other half."""
        if self.holds_weights:
            made: Tensor = func(query.detach(), key.detach(), value, *args, **known)
            return made
        shares = ((0.25, query), (0.25, key), (0.5, value))
        given = (scaled(share, self._counted(1.0, one)) for share, one in shares)
        return self._counted(-1.0, func(*given, *args, **known))

    def _counted(self, sign: float, x: Tensor) -> Tensor:
        """The same, whose relevance is counted: what leaves an operation less what comes in is what stays in it."""
        counted: Tensor = _Counted.apply(sign, self.kept.softmax, x)  # type: ignore[no-untyped-call]
        return counted


class _Scale(torch.autograd.Function):
    """The same, with a part of its gradient."""

    @staticmethod
    def forward(ctx: Any, share: float, x: Tensor) -> Tensor:
        ctx.share = share
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, gradients[0] * ctx.share


class _Counted(torch.autograd.Function):
    """The same, whose relevance goes into a ledger."""

    @staticmethod
    def forward(ctx: Any, sign: float, ledger: list[Tensor], x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.sign, ctx.ledger = sign, ledger
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        seen = torch.where(gradients[0] == 0, 0, x * gradients[0])  # what is hidden is infinitely far below
        ctx.ledger.append(-ctx.sign * seen.double().sum())
        return None, None, gradients[0]


def halved(x: Any) -> Any:
    """One factor of two."""
    return scaled(0.5, x) if _is_touched(x) else x


def scaled(share: float, x: Tensor) -> Tensor:
    """The same, with a part of its gradient."""
    same: Tensor = _Scale.apply(share, x)  # type: ignore[no-untyped-call]
    return same


def activated(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What an activation makes of x, with output / input in place of its slope."""
    with torch.no_grad():
        plain = x.detach()
        safe = torch.where(plain.abs() < TINY, TINY, plain)
        ratio = function(safe) / safe
    return x * ratio


def _is_touched(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, tuple | list) and any(map(_is_touched, value))


def _asks(func: Any) -> bool:
    """Whether an operation only asks about a tensor, or turns it."""
    name = getattr(func, "__name__", "")
    return name in ASKS or (name in ("__get__", "__set__") and getattr(func.__self__, "__name__", "") in SPELLING)


@contextmanager
def _frozen_norms(model: nn.Module, kept: Kept) -> Iterator[None]:
    def frozen(norm: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor, *gates: Any, **known: Any) -> Tensor:
        if gates or known:
            raise NoRule("no rule is known for its norms, which take a gate too")
        return frozen_norm(norm, function, x, kept.constants)

    norms = {norm: partial(frozen, norm, norm.forward) for norm in model.modules() if is_norm(norm)}
    with standing_in(norms):
        yield


@contextmanager
def _activations(model: nn.Module) -> Iterator[None]:
    modules = {
        module: partial(activated, module.forward) for module in model.modules() if isinstance(module, ACTIVATIONS)
    }
    with standing_in(modules):
        yield


@contextmanager
def _biases(model: nn.Module, kept: Kept) -> Iterator[None]:
    """Biases of linear layers as leaves."""
    inside_norms = {parameter for norm in model.modules() if is_norm(norm) for parameter in norm.parameters()}
    own = {
        parameter: parameter.requires_grad
        for name, parameter in model.named_parameters()
        if parameter.dim() == 1 and parameter not in inside_norms
    }
    with ExitStack() as stack:
        for parameter in model.parameters():
            stack.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(parameter in own)
        kept.constants.extend(own)
        yield
