"""The model as it is asked for and as it was loaded, here or behind a server."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

from tui_entropy.records.bounds import Number, Words

# --- What is known of a model --------------------------------------------------------------------------------


TRUSTED = ("logits", "sampling", "heads", "attention", "residual")
"""Groups of numbers that are shown, and that `doctor` can prove."""


class Trust(Struct, frozen=True, array_like=True):
    level: str
    """'exact', 'approximate', 'unchecked' (doctor has no second way to it here) or 'unavailable'."""
    reason: str
    """Half a sentence: what was compared and how far it was off, or why it is not exact."""


COLUMNS, ROWS = "columns", "rows"
"""The same row doubled and taken as columns, or each as the library takes it."""


DTYPES = "float32", "bfloat16", "float16"
"""What weights can be held in."""


# --- Behind a server -------------------------------------------------------------------------------------------

SERVER_KINDS = ("auto", "vllm", "llamacpp", "sglang", "openai")
"""What a server can be said to be; 'auto' is to find out."""
SAMPLERS = ("server", "own")
"""Who draws: the server, or our own chain from the whole distribution, which the server tells at each token."""
SERVER_APIS = ("auto", "completions", "chat")
"""How it is asked: with a text or ids, or with messages."""


BLOCKS_SAID = re.compile(r"auto|all|off|[1-9]\d{0,5}(,[1-9]\d{0,5})*")
"""What `ServerSpec.lens` can be."""


class ServerSpec(Struct, frozen=True):
    """Where a model is asked for its tokens, in place of weights that are loaded here."""

    url: Words
    """As of its API: 'http://127.0.0.1:8000', with or without '/v1'."""
    model: Words = ""
    """Which of its models; empty for the only one, or the first."""
    kind: Words = "auto"
    """One of SERVER_KINDS."""
    api: Words = "auto"
    """One of SERVER_APIS."""
    vocab: Annotated[int, Meta(ge=0, le=10**8)] = 0
    """Tokens of the model's vocabulary, where the server does not tell; 0 is not to know."""
    sampler: Words = "server"
    """One of SAMPLERS."""
    n_logprobs: Number | None = None
    """How many log-probabilities are asked for at each token; None for as many as are cheap."""
    key_env: Words = "OPENAI_API_KEY"
    """The environment variable that holds its key. The key itself is never written down."""
    timeout: Annotated[float, Meta(ge=0.001, le=86400)] = 120.0
    """Seconds without a word from it after which it is given up."""
    lens: Words = "auto"
    """Of a vLLM server with the plugin vllm-lens: the blocks whose heads are measured, as numbers with commas, 'all',
    or 'auto' for a few of them; 'off' leaves the plugin alone."""
    proxied: bool = False
    """Nothing is asked of it: requests of applications pass to it, and are shown."""


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
    """One of SERVER_KINDS but 'auto'."""
    name: str
    """'vLLM 0.30.0', 'llama.cpp', 'an OpenAI-compatible server'."""
    url: str
    n_logprobs: int
    """Most probable tokens that each step tells of; 0 for none, the vocabulary for all."""
    facts: tuple[ServerFact, ...] = ()
    ignored_knobs: tuple[str, ...] = ()
    """Fields of Knobs that it is not told, or does not act on."""
    spec: ServerSpec | None = None
    """As it was asked for, which asks it again. None where nobody said."""

    @property
    def proxied(self) -> bool:
        """As in ServerSpec."""
        return self.spec is not None and self.spec.proxied


# --- As it is asked for, and as it is --------------------------------------------------------------------------


class ModelSpec(Struct, frozen=True):
    """A model to load. `name` is a hub id, a folder, a GGUF file, or a name of the catalogue."""

    name: Words
    revision: Words | None = None
    device: Words = "auto"
    dtype: Words = "auto"
    trust_remote_code: bool = False
    graph: bool = False
    """Run decode steps as a CUDA graph where there is a device and a model for it."""
    products: Words = "auto"
    """How products of one row or two are taken: COLUMNS, ROWS, or whichever is faster here."""
    chat_template: Words | None = None
    """The name of the one that is meant, of a model that has several."""
    server: ServerSpec | None = None
    """Where it is asked for its tokens; None where it is loaded here."""


class ModelCard(Struct, frozen=True):
    name: str
    revision: str | None
    source: str
    """Folder or file that the weights came from."""
    note: str
    """What a person must know of these weights, such as 'Q4_1, dequantised'. May be empty."""
    device: str
    dtype: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    vocab: int
    context: int
    """Tokens. This, the vocabulary and the numbers of layers are 0 where a server does not tell."""
    layer_kinds: tuple[str, ...]
    """Per block: 'full', 'sliding', 'chunked', or the name of a kind without softmax attention ('linear', ...)."""
    windows: tuple[int | None, ...]
    """Per block: attention window in tokens, None for none."""
    attention: tuple[bool, ...]
    """Per block: whether it has attention rows to show."""
    has_chat_template: bool
    versions: dict[str, str]
    trust: dict[str, Trust] = {}
    """Of each group of numbers (TRUSTED): how far it can be believed on this model and machine. Beside them each
    'series NAME' and 'stage NAME' of which something else is known than of its group."""
    products: str = ""
    """How the products of one row or two are taken, COLUMNS or ROWS: the two round differently. Empty where nobody
    said."""
    requested: str = ""
    """ModelSpec.name that it was loaded by, which loads it again; a path is absolute. Empty where nobody said."""
    config_hash: str = ""
    """Of its configuration, as a file has it: see engine/sources/hashes.py. Empty where nobody said."""
    tokenizer_hash: str = ""
    """Of the files of its tokenizer, with the chat template. The same."""
    server: ServerCard | None = None
    """The server that it is asked through; None where it is loaded here."""
