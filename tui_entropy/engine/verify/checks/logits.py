"""Logits: the last block read through the head, passes of every kind against one plain pass, the cost of a dtype."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.cache.kv_cache import PreallocatedCache
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.instruments.prompt_scores import final_residual
from tui_entropy.engine.instruments.tensor_metrics import log_probs, surprisal_moments
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.loading.loader import free_bytes
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import IN_DTYPE, Check
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.rewind import Rewinder
from tui_entropy.engine.verify.evidence.compare import (
    N_SINGLE,
    PLAIN_PASS,
    allowed,
    entropy64,
    forward_logits,
    same_again,
    worst,
)
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

STATES_BYTES = 1 << 30
"""Of layers that cannot be shortened, for going back to."""


def last_lens_row(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """The residual stream after the last block is what the logits are made of."""
    with final_residual(loaded.architecture) as held:
        logits = forward_logits(loaded.model, ids)
    lens = unembed(loaded.model, loaded.architecture, held.residual)
    compared = "unembedded output of the last block against the model's logits"
    bound = allowed(loaded.model.dtype, logits.abs().max())
    yield Check("last lens row", "residual", compared, "logits", worst(lens, logits), bound)


def decode_equals_prefill(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """The first and the last tokens by themselves; those between them at once, of a model that can be read so."""
    expected = forward_logits(loaded.model, ids)
    cache = new_cache(loaded.model, loaded.architecture)
    between = len(ids) - 2 * N_SINGLE
    stretches = [1] * N_SINGLE + ([between] if loaded.architecture.in_stretches else [1] * between) + [1] * N_SINGLE
    with open_instruments(loaded):
        actual = torch.cat([forward_logits(loaded.model, part, cache) for part in torch.split(ids, stretches)])
    compared = "most of it token by token, watched, against one pass, not watched"
    bound = allowed(loaded.model.dtype, expected.abs().max())
    yield Check(
        "decode equals prefill", "logits", compared, "logits", worst(actual, expected), bound, rests_on=PLAIN_PASS
    )


def revisited_step(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Each of the last tokens gone back to as a person would, from the newest: by cropping, or from a state."""
    with open_instruments(loaded, keep=0) as instruments:
        sequence = TokenSequence(loaded, ids[:-N_SINGLE].tolist(), N_SINGLE)
        sequence.forced = ids[-N_SINGLE:].tolist()
        rewinder, first, positions = Rewinder(loaded, instruments, bound=STATES_BYTES), [], []
        rewinder.activate(sequence)
        for event in decode(loaded, instruments, sequence, lambda: Controls(Knobs(), {})):
            rewinder.checkpoint()
            if isinstance(event, Step) and sequence.logits is not None:
                first.append(sequence.logits)
                positions.append(event.position - 1)
        again = [rewinder.recompute_step(sequence, position).logits for position in positions]
    before, after = (torch.stack([row for row in rows if row is not None]) for rows in (first, again))
    bound = same_again(loaded, ids, before.abs().max())
    compared = f"gone back to {rewinder.rewinds.removesuffix(', exact')}, against before"
    yield Check("revisited step", "logits", compared, "logits", worst(after, before), bound)


def precision(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """The error that float32 brings into the entropy of given logits, and a smaller dtype into the whole model's."""
    logits = forward_logits(loaded.model, ids)
    size = math.log(logits.shape[-1])
    entropy, _ = surprisal_moments(log_probs(logits))
    compared = "float32 against float64, of the same logits"
    bound = allowed(torch.float32, size)
    yield Check("entropy formula", "logits", compared, "nats", worst(entropy, entropy64(logits)), bound)
    dtype = loaded.model.dtype
    if dtype is torch.float32:
        return
    check = partial(Check, IN_DTYPE, "logits", f"{loaded.card.dtype} against a float32 model", "nats")
    n_bytes = 4 * sum(parameter.numel() for parameter in loaded.model.parameters())
    if getattr(loaded.model.config, "quantization_config", None) is not None:
        yield check(skipped="the weights are quantised")
    elif n_bytes > free_bytes(loaded.model.device) / 2:
        yield check(skipped=f"a float32 copy takes {n_bytes / 2**30:.1f} GiB, more than half of what is free")
    else:
        wide: PreTrainedModel = copy.deepcopy(loaded.model).float()  # type: ignore[no-untyped-call]
        exact = entropy64(forward_logits(wide, ids))
        yield check(worst(entropy, exact), allowed(dtype, size))


def captured_step(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """The step that a CUDA graph can hold says what the plain one says, whether there are graphs here or not."""
    compared = "the step that a CUDA graph can hold against the plain one"
    check = partial(Check, "captured step", "logits", compared, "logits")
    with open_instruments(loaded, keep=0, graph=True) as instruments:
        if instruments.graph_decoder is None:
            yield check(skipped=instruments.no_graph_reason)
            return
        cache, singles = PreallocatedCache(), range(len(ids) - N_SINGLE, len(ids))
        forward(loaded, cache, ids[None, :-N_SINGLE])
        step, again = instruments.graph_decoder.step, cache.first(singles[0])
        held = torch.cat([step.run(cache, ids[None, [at]], at, [{}]).logits.clone() for at in singles])
        plain = torch.cat([forward(loaded, again, ids[None, [at]]) for at in singles])  # fills the same columns
    yield check(worst(held, plain), allowed(loaded.model.dtype, plain.abs().max()))
