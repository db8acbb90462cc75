"""What the plugin tells of a model before anything is written, and which blocks are measured then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tui_entropy.core.errors import UserError
from tui_entropy.servers.http.client import HttpClient, ServerRefused
from tui_entropy.servers.vllm_lens.hook_plan import ModelInside, description_fields

Request = tuple[str, dict[str, Any]]
"""Path and body."""
N_BLOCKS = 5
"""Blocks whose heads are measured where nobody said which: each costs the server a pass over all keys."""


def blocks_of(said: str, model: ModelInside) -> tuple[int, ...]:
    """The blocks (1-based) whose heads are measured. said: 'auto', 'all', or numbers with commas. Raises
    UserError."""
    n = model.n_layers
    if not model.has_heads:
        return ()
    if said == "all":
        return tuple(range(1, n + 1))
    if said == "auto":
        few = min(N_BLOCKS, n)
        return tuple(sorted({1 + round(at * (n - 1) / max(few - 1, 1)) for at in range(few)}))
    blocks = sorted({int(one) for one in said.split(",")})
    if blocks[0] < 1 or blocks[-1] > n:
        raise UserError(f"--server-lens {said} names blocks that the model has not: it has {n}, from 1 on")
    return tuple(blocks)


def described(client: HttpClient, ask: Callable[[dict[str, str]], Request]) -> ModelInside:
    """What the plugin tells of the model, with one short request, or two where it does not tell of heads. ask: the
    request for one token with these `vllm_xargs`. Raises UserError."""
    try:
        return _described(client.post(*not_streamed(ask(description_fields(True)))), True)
    except ServerRefused:
        return _described(client.post(*not_streamed(ask(description_fields(False)))), False)


def not_streamed(request: Request) -> Request:
    path, body = request
    return path, {name: value for name, value in body.items() if name != "stream_options"} | {"stream": False}


def _described(answer: Any, has_heads: bool) -> ModelInside:
    told = answer.get("hook_results") if isinstance(answer, dict) else None
    saved = told.get("0") if isinstance(told, dict) else None
    about = saved.get("model") if isinstance(saved, dict) else None
    if not isinstance(about, dict):
        error = saved.get("error") if isinstance(saved, dict) else "it ran no hook"
        raise UserError(f"vllm-lens does not work there as version 1.3 does ({str(error)[:200]})")
    try:
        return msgspec.convert({**about, "has_heads": has_heads}, ModelInside)
    except msgspec.ValidationError as wrong:
        raise UserError(f"vllm-lens told of a model that is none ({str(wrong)[:200]})") from None
