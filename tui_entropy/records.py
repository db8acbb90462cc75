"""The shared words: what the engine tells, what it is asked, and the values both are made of.

Every information quantity is in nats. Layers are numbered once: 0 is the embedding, k the output of block k;
a per-block tuple or grid has n_layers entries, the first for block 1. "model" is the distribution after steering
and before any sampling stage, "final" the one that is drawn from. Unknown is None (NaN inside a Grid), never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Grid(Struct, frozen=True, array_like=True):
    """A read-only float32 array that the screen can index without numpy."""

    shape: tuple[int, ...]
    data: bytes
    """Little-endian float32, row-major."""

    @classmethod
    def of(cls, array: npt.ArrayLike) -> Grid:
        import numpy as np

        dense = np.ascontiguousarray(array, dtype="<f4")
        return cls(dense.shape, dense.tobytes())

    @property
    def view(self) -> memoryview[Any]:
        """Indexed as view[i, j] for two dimensions, view[i] for one."""
        flat = memoryview(self.data)
        return flat.cast("f", shape=self.shape) if math.prod(self.shape) else flat.cast("f")

    def rows(self) -> list[list[float]]:
        """A two-dimensional grid as nested lists."""
        height, width = self.shape
        flat = memoryview(self.data).cast("f")
        return [list(flat[y * width : (y + 1) * width]) for y in range(height)]

    def numpy(self) -> npt.NDArray[np.float32]:
        import numpy as np

        return np.frombuffer(self.data, dtype="<f4").reshape(self.shape)


# --- Knobs ---------------------------------------------------------------------------------------------------

PENALTIES = ("repetition_penalty", "frequency_penalty", "presence_penalty")

ORDERS: dict[str, tuple[str, ...]] = {
    "hf": (*PENALTIES, "temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma"),
    "llama.cpp": (*PENALTIES, "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "temperature"),
    "vllm": (*PENALTIES, "temperature", "min_p", "top_k", "top_p", "typical_p", "top_n_sigma"),
}
"""The stages of the sampling chain in the order of each engine. Where an engine lacks a stage, it comes last, so
that no knob is silently without effect. A stage is named after the knob that sets it."""


class Knobs(Struct, frozen=True):
    """Everything that shapes the draw. Acts from the next token on."""

    temperature: float = 0.7
    """0 is greedy."""
    top_k: int = 40
    """0 is off."""
    top_p: float = 0.95
    """1 is off."""
    min_p: float = 0.0
    """Relative to the most probable token. 0 is off."""
    typical_p: float = 1.0
    """1 is off."""
    top_n_sigma: float = 0.0
    """0 is off."""
    repetition_penalty: float = 1.0
    """Over prompt and written tokens. 1 is off."""
    frequency_penalty: float = 0.0
    """Over written tokens only, per occurrence. 0 is off."""
    presence_penalty: float = 0.0
    """Over written tokens only. 0 is off."""
    order: tuple[str, ...] = ORDERS["hf"]
    seed: int = 7
    """The draw at a position is a function of this and the position."""
    n_candidates: int = 20
    """How many candidates each step carries."""

    @property
    def order_name(self) -> str:
        """The preset that this order is, or 'custom'."""
        return next((name for name, order in ORDERS.items() if order == self.order), "custom")


class Vector(Struct, frozen=True):
    """A control vector as it is set now. Its numbers stay in the engine, under the name."""

    name: str
    source: str
    """The file it was read from, or 'built in'."""
    blocks: tuple[int, ...] = ()
    """Blocks (1-based) that it has a direction for."""
    strength: float = 1.0
    on: bool = False
    first: int | None = None
    """First block it acts on, None for the first it has."""
    last: int | None = None
    """Last block it acts on, inclusive."""


# --- What is known of a model --------------------------------------------------------------------------------


class ModelSpec(Struct, frozen=True):
    """What to load. `name` is a hub id, a folder, a GGUF file, or a name of the catalogue."""

    name: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False


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
    layer_kinds: tuple[str, ...]
    """Per block: 'full', 'sliding', 'chunked', or the name of a kind without softmax attention ('linear', ...)."""
    windows: tuple[int | None, ...]
    """Per block: attention window in tokens, None for none."""
    attention: tuple[bool, ...]
    """Per block: whether it has attention rows to show."""
    has_chat_template: bool
    versions: dict[str, str]


# --- What happens: events ------------------------------------------------------------------------------------


class Progress(Struct, frozen=True, tag="progress"):
    """On the way to a model that can write."""

    stage: str
    """A short phrase: 'importing torch', 'downloading SmolLM2-135M-Instruct'."""
    done: float | None = None
    total: float | None = None
    unit: str = ""


class Ready(Struct, frozen=True, tag="ready"):
    card: ModelCard
    vectors: tuple[Vector, ...] = ()


class Piece(Struct, frozen=True, array_like=True):
    """A prompt token."""

    token_id: int
    data: bytes
    text: str
    """What this token completes, decoded; empty while a character is still open."""


class Started(Struct, frozen=True, tag="started"):
    """A run begins: the prompt is encoded, nothing is read yet."""

    run: int
    prompt: str
    system: str | None
    chat: bool
    pieces: tuple[Piece, ...]
    knobs: Knobs
    vectors: tuple[Vector, ...]
    max_tokens: int


class Prefilled(Struct, frozen=True, tag="prefilled"):
    """How much of the prompt has been read."""

    run: int
    done: int
    total: int
    seconds: float


class Candidate(Struct, frozen=True, array_like=True):
    token_id: int
    data: bytes
    logprob: float
    """Model distribution, nats."""
    final_prob: float
    cut: str | None = None
    """The stage that removed it, None if it could still be drawn."""


class Step(Struct, frozen=True, tag="step"):
    """One written token, and what the model believed just before it was chosen."""

    run: int
    index: int
    """0 for the first written token."""
    position: int
    """Of the written token in the whole context."""
    token_id: int
    data: bytes
    text: str
    """What this token completes, decoded; empty while a character is still open."""
    entropy: float
    """Model, nats."""
    varentropy: float
    """Model, nats squared."""
    surprisal: float
    """Model, nats, of the written token."""
    rank: int
    """Model; 1 is the most probable."""
    final_entropy: float
    final_prob: float
    """Of the written token."""
    candidates: tuple[Candidate, ...]
    """(n_candidates,) most probable of the model first."""
    survivors: tuple[tuple[str, int], ...]
    """(stage, tokens that can still be drawn after it) for each stage that is switched on, in order."""
    head_entropy: Grid
    """(n_layers, n_heads) nats, of the row of the newest query over its visible keys; NaN without attention."""
    visible_keys: tuple[int | None, ...]
    """(n_layers,) keys that the newest query may attend to."""
    block_mean: tuple[float, ...]
    block_std: tuple[float, ...]
    block_norm: tuple[float, ...]
    """(n_layers,) of the residual stream after each block at the newest position; norm is L2."""
    forward_seconds: float
    sample_seconds: float
    at: float
    """Seconds of work since the run began, pauses not counted."""


class KnobsChanged(Struct, frozen=True, tag="knobs"):
    run: int
    index: int
    """The first step they act on."""
    knobs: Knobs


class VectorsChanged(Struct, frozen=True, tag="vectors"):
    run: int
    index: int
    """The first step they act on."""
    vectors: tuple[Vector, ...]


class Paused(Struct, frozen=True, tag="paused"):
    run: int
    reason: str


class Continued(Struct, frozen=True, tag="continued"):
    run: int


class Ended(Struct, frozen=True, tag="ended"):
    run: int
    reason: str
    """'end of text', 'token limit', 'context full' or 'stopped'."""


class Failed(Struct, frozen=True, tag="failed"):
    """The engine could not go on. It still listens unless the process is gone."""

    sentence: str
    detail: str = ""
    fatal: bool = False
    """No model is up: only a restart helps."""


class Refused(Struct, frozen=True, tag="refused"):
    """One command could not be obeyed; everything else goes on."""

    sentence: str


class Memory(Struct, frozen=True, tag="memory"):
    resident: int
    """Bytes of the engine process."""
    device: int | None
    """Bytes allocated on the accelerator, None on a CPU."""
    cache: int
    """Bytes of keys, values and kept queries."""


class AttentionRows(Struct, frozen=True, tag="attention"):
    """The answer to AskAttention: rows of softmax(qK) over the visible keys."""

    run: int
    layer: int
    head: int | None
    """1-based; None for the mean of heads."""
    queries: tuple[int, ...]
    """Context positions of the rows, oldest first."""
    first_key: int
    weights: Grid
    """(n_queries, n_keys) for keys first_key, first_key + 1, ...; NaN where a key is not visible."""
    elsewhere: tuple[float, ...]
    """(n_queries,) weight on visible keys outside that window. With a sink the whole row sums to less than 1."""
    unavailable: str | None = None
    """Why there are no rows."""


Event = (
    Progress | Ready | Started | Prefilled | Step | KnobsChanged | VectorsChanged | Paused | Continued | Ended
    | Failed | Refused | Memory | AttentionRows
)  # fmt: skip


# --- What is asked: commands ---------------------------------------------------------------------------------


class Load(Struct, frozen=True, tag="load"):
    model: ModelSpec
    vectors: tuple[Vector, ...] = ()
    """Further vector files to read once the model is up."""


class Write(Struct, frozen=True, tag="write"):
    """Stop what is being written and begin a new run."""

    prompt: str
    system: str | None
    chat: bool | None
    """Whether the chat template is used; None for wherever the model has one."""
    max_tokens: int
    knobs: Knobs


class SetKnobs(Struct, frozen=True, tag="set-knobs"):
    knobs: Knobs


class SetVector(Struct, frozen=True, tag="set-vector"):
    """Replace the setting of the vector of this name; read its file first if the name is new."""

    vector: Vector


class Pause(Struct, frozen=True, tag="pause"):
    pass


class Continue(Struct, frozen=True, tag="continue"):
    pass


class Advance(Struct, frozen=True, tag="advance"):
    """Write this many tokens, then pause."""

    tokens: int = 1


class Stop(Struct, frozen=True, tag="stop"):
    pass


class AskAttention(Struct, frozen=True, tag="ask-attention"):
    layer: int
    """1-based block."""
    head: int | None
    """1-based; None for the mean of heads."""
    last: int
    """Position of the newest query wanted."""
    n_queries: int
    """How many positions back from it, the newest included."""
    first_key: int
    n_keys: int


class Quit(Struct, frozen=True, tag="quit"):
    pass


Command = Load | Write | SetKnobs | SetVector | Pause | Continue | Advance | Stop | AskAttention | Quit


def log_visible(keys: int | None) -> float | None:
    """ln n: the largest entropy a row over n keys can have. None where it says nothing (fewer than two keys)."""
    return math.log(keys) if keys is not None and keys > 1 else None


def normalised(entropies: Sequence[float], keys: int | None) -> list[float | None]:
    """Entropy / ln n per head: 0 is one key, 1 is all visible keys alike. None where undefined."""
    ceiling = log_visible(keys)
    if ceiling is None:
        return [None] * len(entropies)
    return [None if math.isnan(h) else min(max(h / ceiling, 0.0), 1.0) for h in entropies]
