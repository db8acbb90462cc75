"""Site: a place in a model that a vector of each token goes through, where it can be seen and changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Site(NamedTuple):
    """What a module puts out, or what it is given."""

    module: nn.Module
    is_output: bool = True

    def hook(self, act: Callable[[Tensor], Tensor], first: bool = False) -> RemovableHandle:
        """What goes through becomes what `act` makes of it. first: before all other hooks have seen it."""

        def put_out(_: nn.Module, args: Any, output: Any) -> Any:
            return with_first(output, act(first_of(output)))

        def given(_: nn.Module, args: Any, kwargs: Any) -> Any:
            if args:
                return (act(args[0]), *args[1:]), kwargs
            name = next(iter(kwargs))
            return args, kwargs | {name: act(kwargs[name])}

        if self.is_output:
            return self.module.register_forward_hook(put_out, prepend=first)
        return self.module.register_forward_pre_hook(given, with_kwargs=True, prepend=first)


def first_of(output: Any) -> Any:
    """The vectors in what a module puts out: a tensor, or several things of which that is the first."""
    return output if isinstance(output, Tensor) else output[0]


def with_first(output: Any, vectors: Tensor) -> Any:
    """What a module puts out, with others in place of its vectors."""
    return vectors if isinstance(output, Tensor) else type(output)([vectors, *output[1:]])
