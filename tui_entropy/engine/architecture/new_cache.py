"""The cache that an architecture needs."""

from __future__ import annotations

from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.architecture.own_caches import IdsCache, ModuleStateCache, StateCache, of_own_kind
from tui_entropy.engine.cache.kv_cache import PreallocatedCache, PreallocatedLayer


def new_cache(model: PreTrainedModel, architecture: Architecture, expected: int = 0) -> Cache:
    """An empty cache for one run. expected: tokens that are known to come.

    Where the architecture allows it, every layer keeps all its keys, window or not: such a cache can be cropped any
    number of times and its columns are positions. Otherwise the cache is of the kind that the config asks for, where
    at least those layers that keep all their keys can be shortened.
    """
    if not architecture.cache_argument:
        return IdsCache(expected)
    if architecture.own_cache:
        return StateCache(architecture.cache_argument)
    if architecture.croppable:
        return PreallocatedCache(expected)
    if architecture.module_states:
        return ModuleStateCache(model.config, architecture.module_states)
    if architecture.cache_kind is not DynamicCache:
        return of_own_kind(architecture.cache_kind, expected)
    cache = DynamicCache(config=model.config)
    cache.layers = [PreallocatedLayer(expected) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
