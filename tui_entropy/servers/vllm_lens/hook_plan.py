"""HookPlan: what is measured of one request and what is added to it, as a request of vllm-lens takes it.

The source of `worker_hook.py` goes with it, as a pickle that runs that text where it is opened. We send pickles,
since that is what the plugin takes; what comes back is never opened as one.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from msgspec import Meta, Struct

N_RANKED = 20
"""Most probable tokens whose rank each layer tells: the hook runs before it is known which token is written."""
N_KEPT = 128
"""Newest positions whose numbers wait at the server to be collected."""
RUN = "(exec(compile(source, 'tui-entropy', 'exec'), space), space['hook_of'](plan))[1]"


class ModelInside(Struct, frozen=True):
    """What the plugin tells of the model."""

    n_layers: Annotated[int, Meta(ge=1, le=2**12)]
    n_heads: Annotated[int, Meta(ge=1, le=2**12)]
    n_kv_heads: Annotated[int, Meta(ge=1, le=2**12)]
    d_model: Annotated[int, Meta(ge=1, le=2**20)]
    vocab: Annotated[int, Meta(ge=1, le=2**24)]
    dtype: str
    norm: str
    """The module before the head; empty where it was not found, and then no layer can be read as the last one."""
    has_heads: bool = True
    """Whether queries and keys are told."""


class Measured(Struct, frozen=True):
    """What is told of each position, in the order in which the numbers come."""

    model: ModelInside
    attention: tuple[int, ...] = ()
    """Blocks (1-based) whose heads are measured."""
    lens: tuple[int, ...] = ()
    """Layers that are read as the last one, which is among them; empty for none."""
    lens_steps: int = 1
    """They are read at every so many steps."""

    @property
    def n_heads_told(self) -> int:
        """Numbers of a block's heads: of each its entropy and varentropy, and four of all."""
        return 2 * self.model.n_heads + 4

    @property
    def n_plain(self) -> int:
        """Numbers of a position without its lens."""
        return 2 + 3 * self.model.n_layers + self.n_heads_told * len(self.attention)

    @property
    def n_lens(self) -> int:
        return N_RANKED + len(self.lens) * (4 + N_RANKED) if self.lens else 0


class Pushes(Struct, frozen=True):
    """What is added to the residual stream, and where."""

    vectors: tuple[dict[int, bytes], ...] = ()
    """Of each: block (1-based) -> (d_model,) little-endian float32."""
    segments: tuple[tuple[int, int | None, tuple[tuple[int, float, int, int], ...]], ...] = ()
    """Positions from and up to, where the end is None for all that follow -> what acts on them: number of a vector,
    strength, first and last block."""

    def n_blocks_at(self, position: int) -> int:
        """How many blocks something is added to at a position."""
        blocks: set[int] = set()
        for begin, end, acting in self.segments:
            if begin <= position and (end is None or position < end):
                blocks |= {b for n, _, low, high in acting for b in self.vectors[n] if low <= b <= high}
        return len(blocks)


def request_fields(measured: Measured, pushes: Pushes, stream: str, n_prompt: int, n_context: int) -> dict[str, str]:
    """`vllm_xargs` of a request. stream: by which its numbers are known. n_prompt, n_context: tokens of the prompt,
    and of all that is sent."""
    model = measured.model
    plan = {
        "is_before": False, "stream": stream, "n_layers": model.n_layers, "n_heads": model.n_heads,
        "n_prompt": n_prompt, "n_context": n_context, "attention": list(measured.attention),
        "lens": list(measured.lens), "lens_steps": measured.lens_steps, "norm": model.norm, "n_ranked": N_RANKED,
        "n_kept": N_KEPT, "vectors": [{str(b): held for b, held in one.items()} for one in pushes.vectors],
        "segments": pushes.segments,
    }  # fmt: skip
    hooks = [_hook(plan, range(model.n_layers))]
    if 0 in measured.lens:
        hooks.insert(0, _hook({"is_before": True}, range(1), before=True))
    fields = {"apply_hooks": json.dumps(hooks)}
    if measured.attention:
        fields["output_qk"] = json.dumps([block - 1 for block in measured.attention])
    return fields


def description_fields(with_heads: bool) -> dict[str, str]:
    """Of a request that tells of the model."""
    fields = {"apply_hooks": json.dumps([_hook({"describe": True}, range(1))])}
    return {**fields, "output_qk": "[0]"} if with_heads else fields


def removal_fields(streams: Sequence[str]) -> dict[str, str]:
    """Of a request that takes away what these left to be collected."""
    return {"apply_hooks": json.dumps([_hook({"remove": list(streams)}, range(1))])}


def _hook(plan: Mapping[str, Any], layers: Sequence[int], before: bool = False) -> dict[str, Any]:
    held = base64.b64encode(pickle.dumps(_Sent(plan), protocol=4)).decode()
    return {"fn": {"cloudpickle": held}, "layer_indices": list(layers), "pre": before}


class _Sent:
    """A hook as a pickle that names nothing but Python's own functions, so that it opens in any version of it."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.plan = plan

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (RUN, {"source": _source(), "plan": self.plan, "space": {"__name__": "__main__"}})


@cache
def _source() -> str:
    return files(__package__).joinpath("worker_hook.py").read_text()
