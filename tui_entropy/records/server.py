"""ServerSpec: a server that a model is asked through. ServerCard: what was found out about one."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tui_entropy.records.bounds import Number, Words

KINDS = ("auto", "vllm", "llamacpp", "sglang", "openai")
"""What a server can be said to be; 'auto' is to find out."""
APIS = ("auto", "completions", "chat")
"""How it is asked: with a text or ids, or with messages."""


class ServerSpec(Struct, frozen=True):
    """Where a model is asked for its tokens, in place of weights that are loaded here."""

    url: Words
    """As of its API: 'http://127.0.0.1:8000', with or without '/v1'."""
    model: Words = ""
    """Which of its models; empty for the only one, or the first."""
    kind: Words = "auto"
    """One of KINDS."""
    api: Words = "auto"
    """One of APIS."""
    vocab: Annotated[int, Meta(ge=0, le=10**8)] = 0
    """Tokens of the model's vocabulary, where the server does not tell; 0 is not to know."""
    n_logprobs: Number | None = None
    """How many log-probabilities are asked for at each token; None for as many as are cheap."""
    key_env: Words = "OPENAI_API_KEY"
    """The environment variable that holds its key. The key itself is never written down."""
    timeout: Annotated[float, Meta(gt=0, le=86400)] = 120.0
    """Seconds without a word from it after which it is given up."""


class ServerFact(Struct, frozen=True, array_like=True):
    """One thing that was found out about a server before anything was written."""

    name: str
    """'log-probabilities', 'token ids', 'going back', ..."""
    value: str
    """A phrase: 'the 20 most probable', 'by their ids', 'not given'."""
    known: bool = True
    """False where it is taken on trust, since asking would cost too much or there is no way to."""


class ServerCard(Struct, frozen=True):
    """A server as it was found."""

    kind: str
    """One of KINDS but 'auto'."""
    name: str
    """'vLLM 0.30.0', 'llama.cpp', 'an OpenAI-compatible server'."""
    url: str
    n_logprobs: int
    """Most probable tokens that each step tells of; 0 for none, the vocabulary for all."""
    facts: tuple[ServerFact, ...] = ()
    ignored_knobs: tuple[str, ...] = ()
    """Fields of Knobs that it is not told, or does not act on."""
