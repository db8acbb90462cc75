"""The cache that an architecture needs."""

from __future__ import annotations

from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from tui_entropy.engine.architecture.architecture import Anatomy
from tui_entropy.engine.architecture.own_caches import IdsCache, ModuleStateCache, StateCache, of_own_kind
from tui_entropy.engine.cache.kv_cache import RoomyCache, RoomyLayer


def new_cache(model: PreTrainedModel, anatomy: Anatomy, expected: int = 0) -> Cache:
    """An empty cache for one run. expected: tokens that are known to come.

    Where the anatomy allows it, every layer keeps all its keys, window or not: such a cache can be cropped any number
    of times and its columns are positions. Otherwise the cache is of the kind that the config asks for, where at
    least those layers that keep all their keys can be shortened.
    """
    if not anatomy.cache_argument:
        return IdsCache(expected)
    if anatomy.own_cache:
        return StateCache(anatomy.cache_argument)
    if anatomy.croppable:
        return RoomyCache(expected)
    if anatomy.module_states:
        return ModuleStateCache(model.config, anatomy.module_states)
    if anatomy.cache_kind is not DynamicCache:
        return of_own_kind(anatomy.cache_kind, expected)
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer(expected) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
