"""Caches for models that do not keep keys and values: what they keep in a way of their own, or nothing at all.

Each runs the model itself, since only it knows what the model is to be given of the tokens before.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DummyLayer, LinearAttentionLayer

from tui_entropy.engine.architecture.parts import Attribute
from tui_entropy.engine.cache.kv_cache import PreallocatedCache, PreallocatedLayer


class OwnCache(Cache):
    """A cache that knows how its model reads on."""

    @abstractmethod
    def run(self, model: PreTrainedModel, ids: Tensor, **more: Any) -> Any:
        """Read (rows, n) tokens behind those that it holds. What is returned is of the new ones."""


class LongestLayer(Cache):
    """A cache that is as long as the first of its layers that keeps keys, where others keep something else."""

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(super().get_seq_length(layer_idx or self._first))

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return super().get_mask_sizes(query_length, layer_idx or self._first)

    @property
    def _first(self) -> int:
        lengths = (index for index, layer in enumerate(self.layers) if getattr(layer, "keys", None) is not None)
        return next(lengths, 0)


def of_own_kind(kind: type[Cache], expected: int) -> Cache:
    """An empty one of a class that a model brings and takes no other. expected: tokens that are known to come."""
    cache: Cache = type(kind.__name__, (LongestLayer, kind), {})()
    cache.layer_class_to_replicate = partial(PreallocatedLayer, expected)  # type: ignore[assignment]
    return cache


class IdsCache(PreallocatedCache, OwnCache):
    """For a model that keeps nothing and is given the whole text at every step: the ids, in place of keys."""

    def run(self, model: PreTrainedModel, ids: Tensor, **more: Any) -> Any:
        held = ids[:, None, :, None]
        whole = self.update(held, held, 0)[0][:, 0, :, 0]
        out = model(input_ids=whole, **more)
        out.logits = out.logits[:, -ids.shape[1] :]
        return out


class HandedState(DummyLayer):
    """The state that a model hands out to be given back with the tokens that follow."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.value: Any = None


class StateCache(OwnCache):
    """For a model that keeps a state of its own kind and hands it out after every pass, as a whole."""

    def __init__(self, argument: str) -> None:
        """argument: what the model's forward, and what it returns, call the state."""
        super().__init__(layers=[])
        self.layers = [HandedState()]
        self.argument = argument

    def run(self, model: PreTrainedModel, ids: Tensor, **more: Any) -> Any:
        (state,) = self.layers
        assert isinstance(state, HandedState)
        out = model(input_ids=ids, **{self.argument: state.value}, use_cache=True, **more)
        state.value = out[self.argument]
        return out


class ModuleState(LinearAttentionLayer):
    """The state of a text that a block keeps in attributes of its modules; put there before a pass, taken after."""

    def __init__(self, attributes: Sequence[Attribute]) -> None:
        super().__init__()
        self.attributes = attributes
        self.values: tuple[Tensor | None, ...] = (None,) * len(attributes)

    def put(self) -> None:
        for (module, name), value in zip(self.attributes, self.values, strict=True):
            vars(module)[name] = value

    def take(self) -> None:
        self.values = tuple(vars(module)[name] for module, name in self.attributes)
        for module, name in self.attributes:
            vars(module)[name] = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the values. The modules are those of the model."""
        new = copy.copy(self)
        new.values = copy.deepcopy(self.values, memo)
        return new


class ModuleStateCache(DynamicCache, OwnCache):
    """For a model some of whose blocks keep their state in themselves: what other layers keep is in the library's."""

    def __init__(self, config: PreTrainedConfig, states: Sequence[Sequence[Attribute]]) -> None:
        """states: of each block."""
        super().__init__(config=config)
        pairs = zip(self.layers, states, strict=True)
        self.layers = [ModuleState(attributes) if attributes else layer for layer, attributes in pairs]

    def run(self, model: PreTrainedModel, ids: Tensor, **more: Any) -> Any:
        states = [layer for layer in self.layers if isinstance(layer, ModuleState)]
        for state in states:
            state.put()
        try:
            return model(input_ids=ids, past_key_values=self, use_cache=True, **more)
        finally:
            for state in states:
                state.take()
