"""Log-probabilities of tokens in OpenAI's two shapes, of both distributions.

OpenAI's own fields have those of the model, before any sampling stage; `final_...` beside them those of the final
distribution, which the token was drawn from. Nats. FLOOR stands for a probability of 0, null for what is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tui_entropy.records.step import Candidate, Step

FLOOR = -9999.0
"""What OpenAI's servers say of what has no probability worth a number: JSON has no minus infinity."""


def spelled(data: bytes) -> str:
    """A token as text; one that is no whole text by its bytes, as OpenAI's servers spell it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def of_probability(p: float) -> float | None:
    """ln p."""
    if math.isnan(p):
        return None
    return max(math.log(p), FLOOR) if p > 0 else FLOOR


def _model(nats: float) -> float | None:
    return None if math.isnan(nats) else max(nats, FLOOR)


def content(step: Step, n: int, as_ids: bool = False) -> dict[str, Any]:
    """An entry of `logprobs.content`. n: how many alternatives. as_ids: tokens are called by their ids, as vLLM
    does it."""
    own = _entry(step, -step.surprisal, step.final_prob, as_ids)
    others = [_entry(each, each.logprob, each.final_prob, as_ids) for each in step.candidates[:n]]
    return own | {"top_logprobs": others}


def _entry(token: Step | Candidate, logprob: float, final_prob: float, as_ids: bool) -> dict[str, Any]:
    return {
        "token": f"token_id:{token.token_id}" if as_ids else spelled(token.token_bytes),
        "logprob": _model(logprob),
        "bytes": list(token.token_bytes),
        "final_logprob": of_probability(final_prob),
    }


def legacy(steps: Sequence[tuple[Step, int]], n: int, as_ids: bool = False) -> dict[str, Any]:
    """`logprobs` of completions. steps: each with the character of the answer at which it begins. n: how many
    alternatives; the token that was drawn is there beside them. Of others spelled alike the likeliest counts."""
    tokens = [content(step, n, as_ids) for step, _ in steps]
    return {
        "tokens": [each["token"] for each in tokens],
        "token_logprobs": [each["logprob"] for each in tokens],
        "top_logprobs": [_by_token(each, "logprob") for each in tokens],
        "text_offset": [offset for _, offset in steps],
        "final_token_logprobs": [each["final_logprob"] for each in tokens],
        "final_top_logprobs": [_by_token(each, "final_logprob") for each in tokens],
    }


def _by_token(entry: dict[str, Any], field: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in entry["top_logprobs"]:
        found.setdefault(each["token"], each[field])
    return found | {entry["token"]: entry[field]}
