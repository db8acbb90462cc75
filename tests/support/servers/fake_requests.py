"""What a fake server is asked for, by whichever route it comes, and how oddly it is to answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fake_model import tokenize

Json = dict[str, Any]


@dataclass(frozen=True)
class Odd:
    """What a server does that a strict client would trip over. Counts are of tokens; 0 and None are never."""

    tokens_per_event: int = 1
    missing_every: int = 0
    """Every so many tokens have no entry, though they are counted in the usage."""
    merged_every: int = 0
    """Every so many tokens have one entry with the one before, with the text of both and the id of the last."""
    null_every: int = 0
    """Every so many log-probabilities are null."""
    not_finite_every: int = 0
    """Every so many log-probabilities are NaN or -Infinity, which is no JSON."""
    zero_logprobs: bool = False
    """All are 0.0, as with some speculative decoding."""
    no_logprobs: bool = False
    """Asked for or not."""
    no_ids: bool = False
    """Flags that ask for ids are ignored."""
    wrong_ids: bool = False
    """Ids are those of other texts."""
    no_usage: bool = False
    bare_events: bool = False
    """Events without choices, and `null`, between the others."""
    processed: bool = False
    """Log-probabilities are of the distribution that was drawn from: after temperature and biases."""
    cap: int | None = None
    """The most log-probabilities that may be asked for; 400 beyond."""


@dataclass(frozen=True)
class Asked:
    """A request for text, whichever route it came by."""

    prompt: list[int]
    max_tokens: int
    k: int | None
    """Alternatives wanted; None for no log-probabilities at all."""
    temperature: float
    seed: int
    bias: dict[int, float]
    body: Json

    @classmethod
    def read(cls, path: str, body: Json) -> Asked:
        sampling = body.get("sampling_params", body)
        bias = body.get("logit_bias") or {}
        pairs = bias.items() if isinstance(bias, dict) else bias
        return cls(
            prompt=prompt_ids(path, body),
            max_tokens=next((int(sampling[name]) for name in LENGTHS if sampling.get(name) is not None), 16),
            k=wanted(path, body),
            temperature=float(sampling.get("temperature", 1.0)),
            seed=int(sampling.get("seed") or sampling.get("sampling_seed") or 0),
            bias={int(i): -math.inf if value is False else float(value) for i, value in pairs},
            body=body,
        )


LENGTHS = ("max_tokens", "max_completion_tokens", "n_predict", "max_new_tokens")


def prompt_ids(path: str, body: Json) -> list[int]:
    if "messages" in body:
        text = "".join(f"<{each['role']}>{each['content']}" for each in body["messages"])
        return tokenize(text if body["messages"][-1]["role"] == "assistant" else f"{text}<assistant>")
    given = body.get("input_ids") or body.get("prompt") or body.get("text") or ""
    return tokenize(given) if isinstance(given, str) else list(given)


def wanted(path: str, body: Json) -> int | None:
    if path.endswith("/chat/completions"):
        return int(body.get("top_logprobs") or 0) if body.get("logprobs") else None
    if path == "/generate":
        return int(body.get("top_logprobs_num") or 0) if body.get("return_logprob") else None
    asked = body.get("n_probs") if path == "/completion" else body.get("logprobs")
    return None if asked is None else int(asked)
