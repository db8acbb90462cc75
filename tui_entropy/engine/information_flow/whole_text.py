"""A text read once more by itself, all of it at once: it needs no cache, and no cache is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.instruments.head_measures import AttentionState
from tui_entropy.engine.models.forward import read
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.steering.plan import offsets_by_token


class _Enough(Exception):
    """Nothing more of a pass is wanted."""


@contextmanager
def whole_text(
    loaded: Loaded, watching: Instruments, ids: Tensor, offsets: Sequence[Mapping[int, Tensor]], last_block: int
) -> Iterator[None]:
    """Read (n,) ids under these offsets of each (block -> (d_model,)), up to a block (1-based). Within the `with` the
    instruments know what they saw of it, with the newest query alone; after it what they knew before."""
    attention = watching.attention
    before, keep = watching.steering.rows, attention.keep
    with torch.inference_mode(), watching.aside():
        attention.attention_state, attention.keep = AttentionState(), 1
        watching.residual.vectors = list(watching.residual.vectors)
        watching.steering.set(offsets_by_token(offsets))
        hook = loaded.architecture.blocks[last_block - 1].register_forward_hook(_stop)
        try:
            with suppress(_Enough):
                read(loaded.model, None, ids[None], logits_to_keep=1)
            yield
        finally:
            hook.remove()
            attention.keep = keep
            watching.steering.set(*before)


def _stop(*_: object) -> None:
    raise _Enough
