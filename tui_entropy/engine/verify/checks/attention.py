"""Attention: every head's row and its measures against the model's own eager formula."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.instruments.attention import attention_instrument
from tui_entropy.engine.instruments.attention_functions import eager
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.reliability.trust import NO_ATTENTION
from tui_entropy.engine.verify.evidence.compare import EAGER_PASS, N_SINGLE, allowed, forward_logits, worst
from tui_entropy.records.probes.attention_rows import AttentionRows, RowWindow


def attention(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Attention rows of every block, head and position, where most of the prompt is read at once and the last tokens
    one by one."""
    sums = partial(Check, "attention row sums", "attention", "each row against one, or one minus its sink", "share")
    against = partial(Check, rests_on=EAGER_PASS)
    rows = partial(against, "attention rows", "attention", "weights against the model's own eager ones", "share")
    heads = partial(against, "head entropies", "heads", "the probe against eager rows in float64", "nats")
    spans = partial(
        against, "head measures", "heads", "varentropy, spread and disagreement against the same", "nats²"
    )
    parts = partial(against, "attention elsewhere", "attention", MEAN_OF_SOME, "share")
    n, dtype = len(ids), loaded.model.dtype
    maps = eager_maps(loaded, ids)
    if isinstance(maps, str):
        yield from (check(skipped=maps) for check in (sums, rows, parts, heads, spans))
        return
    entropies, measures, weights, eagers, totals, apart = [], [], [], [], [], []
    with attention_instrument(loaded.model, loaded.architecture, keep=n) as probe:
        cache = new_cache(loaded.model, loaded.architecture)
        for stretch in torch.split(ids, [n - N_SINGLE] + [1] * N_SINGLE):
            forward_logits(loaded.model, stretch, cache)
            newest = torch.stack([of_block[:, probe.attention_state.newest] for of_block in maps.values()])
            entropy, others = measures64(newest / newest.sum(-1, keepdim=True))
            statistics = probe.head_statistics()
            entropies.append((statistics.entropy[list(maps)], entropy))
            measures.append((torch.cat([statistics.varentropy, statistics.layers[:, :2]], 1)[list(maps)], others))
        sinks = {layer.index for layer in probe.layers if layer.sinks is not None}
        for index, of_block in maps.items():
            answer = probe.rows(cache, RowWindow(index + 1, None, n - 1, n, n // 3, n // 3))
            if not answer.unavailable:
                apart.append(elsewhere(answer, of_block.mean(0)))
        for index, head in itertools.product(maps, range(loaded.architecture.n_heads)):
            answer = probe.rows(cache, RowWindow(index + 1, head + 1, n - 1, n, 0, n))
            if answer.unavailable:
                break
            weights.append(torch.tensor(answer.weights.numpy()).nan_to_num(0))  # NaN where a key is not visible
            eagers.append(maps[index][head, list(answer.queries)])
            totals.append(eagers[-1].sum(-1) if index in sinks else torch.ones(len(answer.queries)))
    yield heads(worst(*map(torch.stack, zip(*entropies, strict=True))), allowed(dtype, math.log(n)))
    yield spans(worst(*map(torch.stack, zip(*measures, strict=True))), allowed(dtype, math.log(n) ** 2))
    if answer.unavailable:
        yield from (check(skipped=answer.unavailable) for check in (sums, rows, parts))
        return
    yield parts(max(apart), allowed(dtype, 1))
    yield sums(worst(torch.cat(weights).sum(-1), torch.cat(totals)), allowed(dtype if sinks else torch.float32, 1))
    yield rows(worst(torch.cat(weights), torch.cat(eagers)), allowed(dtype, 1))


MEAN_OF_SOME = "the mean of the heads over some keys, and what all others get, against the same"


def elsewhere(answer: AttentionRows, mean: Tensor) -> float:
    """mean: (n, n) of all heads by the eager formula. How far the shares of some keys, and of the others, are off."""
    expected = mean[list(answer.queries)]
    last = answer.first_key + answer.weights.shape[1]
    shown = expected[:, answer.first_key : last]
    others = expected.sum(-1) - shown.sum(-1)
    return max(
        worst(torch.tensor(answer.weights.numpy()).nan_to_num(0), shown),
        worst(torch.tensor(answer.elsewhere), others),
    )


def measures64(weights: Tensor) -> tuple[Tensor, Tensor]:
    """(blocks, n_heads, keys) float64 rows -> (blocks, n_heads) entropy in nats, and (blocks, n_heads + 2): the
    varentropy of each head, then spread and disagreement of the block."""
    entropy = torch.special.entr(weights).sum(-1)
    second = (weights * torch.where(weights > 0, weights, 1).log().square()).sum(-1)
    apart = (weights - weights.mean(1, keepdim=True)).abs().sum(-1).mean(1) / 2
    spread = entropy.square().mean(1) - entropy.mean(1).square()
    return entropy, torch.cat([second - entropy.square(), torch.stack([spread, apart], -1)], 1)


def eager_maps(loaded: Loaded, ids: Tensor) -> dict[int, Tensor] | str:
    """Index of each block with rows -> (n_heads, n, n) float64 by the library's plain formula; or why there are none.

    Read off the attention modules themselves: to ask for output_attentions would leave the library's hooks behind.
    """
    modules = {
        index: module for index, module in enumerate(loaded.architecture.attention_modules) if module is not None
    }
    if not modules:
        return NO_ATTENTION
    attentions: dict[nn.Module, Tensor | None] = {}

    def keep(module: nn.Module, inputs: object, output: tuple[Tensor, Tensor | None]) -> None:
        attentions[module] = output[1]

    with eager(loaded.architecture.decoder), ExitStack() as hooks:
        for module in modules.values():
            hooks.callback(module.register_forward_hook(keep).remove)
        forward_logits(loaded.model, ids)
    maps = {
        index: weights[0].cpu().double() for index, m in modules.items() if (weights := attentions.get(m)) is not None
    }
    return maps if len(maps) == len(modules) else "the model's eager attention tells no weights"
