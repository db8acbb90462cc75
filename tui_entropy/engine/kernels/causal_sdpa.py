"""Attention of a stretch of text to all before it, on a CPU without a mask of queries x keys.

With such a mask sdpa computes what is hidden too, and copies the keys for every head that shares them: a third more
time at 4,096 tokens, read in stretches of 512. What queries see of the keys before them all, and what they see of one
another, are two plain products for it, and two softmaxes are joined into one by the sums they were divided by.
Source: Milakov and Gimelshein 2018, 'Online normalizer calculation for softmax'.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask


def mask(**asked: Any) -> Tensor | None:
    """A mask function as the library calls it. None also where each query sees all keys up to its own."""
    plain = asked["mask_function"] is causal_mask_function and asked["allow_is_causal_skip"]
    if plain and asked["attention_mask"] is None and torch.device(asked["device"]).type == "cpu":
        return None
    mask: Tensor | None = sdpa_mask(**asked)
    return mask


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """As the library's function for sdpa, which takes a missing mask for that of a text's first stretch."""
    n, before = query.shape[2], key.shape[2] - query.shape[2]
    if attention_mask is not None or n == 1 or before <= 0 or not getattr(module, "is_causal", True):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if key.shape[-1] != value.shape[-1] or kwargs.get("position_bias") is not None or kwargs.get("dropout"):
        attention_mask = torch.ones(1, 1, n, before + n, dtype=torch.bool, device=query.device).tril(before)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    flash, scale = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, kwargs.get("scaling")
    among, sum_among = flash(query, key[:, :, before:], value[:, :, before:], is_causal=True, scale=scale)
    past, sum_past = flash(query, key[:, :, :before], value[:, :, :before], scale=scale)
    share = torch.sigmoid(sum_past - sum_among).unsqueeze(-1)  # the sums are logarithms, in float32
    joined = torch.lerp(among.float(), past.float(), share).to(query.dtype)
    return joined.transpose(1, 2).contiguous(), None
