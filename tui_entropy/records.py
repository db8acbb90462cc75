"""The shared words: what the engine tells, what it is asked, and the values both are made of.

Every information quantity is in nats. Layers are numbered once: 0 is the embedding, k the output of block k;
a per-block tuple or grid has n_layers entries, the first for block 1. "model" is the distribution after steering
and before any sampling stage, "final" the one that is drawn from. Unknown is None (NaN inside a Grid), never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


# What a command may hold, and what is part of one. Looked at where it is decoded, before it costs anything; what only
# a model can say, such as whether there is such a layer, is asked where it is obeyed.

MOST_TOKENS = 10**7
"""Tokens that can be asked for at a time."""
MOST_QUERIES, MOST_KEYS = 128, 2048
"""Rows and columns of attention that can be asked for at a time."""
LONGEST_STAY = 10 * 365 * 24 * 3600.0
"""Seconds that an engine may stay alone."""

Whole = Annotated[int, Meta(ge=0, le=2**62)]
Position = Annotated[int, Meta(ge=0, le=10**9)]
"""In a text or a list, from 0 on; also a run or a token's id."""
Number = Annotated[int, Meta(ge=1, le=10**9)]
"""Counted from 1."""
Strength = Annotated[float, Meta(ge=-1e9, le=1e9)]
Words = Annotated[str, Meta(max_length=4096)]
"""A name, a path, an expression."""
Text = Annotated[str, Meta(max_length=2**24)]
Ids = Annotated[tuple[Position, ...], Meta(max_length=2**20)]


class Grid(Struct, frozen=True, array_like=True):
    """A read-only float32 array that the screen can index without numpy."""

    shape: tuple[int, ...]
    data: bytes
    """Little-endian float32, row-major."""

    def __post_init__(self) -> None:
        if min(self.shape, default=0) < 0 or 4 * math.prod(self.shape) != len(self.data):
            raise ValueError(f"{len(self.data)} bytes are no grid of {self.shape}")

    @classmethod
    def of(cls, array: npt.ArrayLike) -> Grid:
        import numpy as np

        dense = np.ascontiguousarray(array, dtype="<f4")
        return cls(dense.shape, dense.tobytes())

    @property
    def view(self) -> memoryview[Any]:
        """Indexed as view[i, j] for two dimensions, view[i] for one."""
        return memoryview(self.data).cast("f", shape=self.shape) if math.prod(self.shape) else self.flat

    def rows(self) -> list[list[float]]:
        """A two-dimensional grid as nested lists."""
        height, width = self.shape
        if not width:
            return [[] for _ in range(height)]
        rows: Any = self.view.tolist()
        return list(rows)

    @property
    def flat(self) -> memoryview[Any]:
        """All values, row-major."""
        return memoryview(self.data).cast("f")

    def row(self, at: int) -> list[float]:
        """One of `rows`, at a fraction of their cost."""
        at, width = range(self.shape[0])[at], self.shape[1]
        return list(self.flat[at * width : (at + 1) * width])

    def column(self, at: int) -> list[float]:
        """One value of each of `rows`."""
        return list(self.flat[at :: self.shape[1]])

    def numpy(self) -> npt.NDArray[np.float32]:
        import numpy as np

        return np.frombuffer(self.data, dtype="<f4").reshape(self.shape)


# --- Knobs ---------------------------------------------------------------------------------------------------

PENALTIES = ("repetition_penalty", "frequency_penalty", "presence_penalty")

LAST = ("xtc_probability", "mirostat_tau")
"""Stages that look at what is left in the end."""

ORDERS: dict[str, tuple[str, ...]] = {
    "hf": (*PENALTIES, "dry_multiplier", "temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma", *LAST),
    "llama.cpp": (
        *PENALTIES, "dry_multiplier", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc_probability",
        "temperature", "mirostat_tau",
    ),
    "vllm": (
        *PENALTIES, "dry_multiplier", "temperature", "min_p", "top_k", "top_p", "typical_p", "top_n_sigma", *LAST,
    ),
}  # fmt: skip
"""The stages of the sampling chain in the order of each engine. One that an engine lacks stands beside its like or
comes last, so that no knob is silently without effect. A stage is named after the knob that sets it."""


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
    penalty_last_n: int = 0
    """Newest tokens, prompt included, that penalties and DRY look back over, as in llama.cpp. 0 is no such window:
    then repetition and DRY see everything, frequency and presence what was written."""
    dynatemp_range: float = 0.0
    """The temperature moves this far to either side with the entropy of what is left. 0 is off."""
    dynatemp_exponent: float = 1.0
    dry_multiplier: float = 0.0
    """0 is off."""
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_breakers: Annotated[tuple[Words, ...], Meta(max_length=4096)] = ("\n", ":", '"', "*")
    """A token that contains one of these ends a repeated sequence."""
    xtc_probability: float = 0.0
    """Of the stage acting on a step. 0 is off."""
    xtc_threshold: float = 0.1
    """Probability; above 0.5 the stage is off."""
    mirostat_tau: float = 0.0
    """Surprisal in bits that mirostat v2 aims at. 0 is off."""
    mirostat_eta: float = 0.1
    adaptive: Words = "off"
    """Which Entropix sampler changes the knobs at each step: 'off', 'S1', 'S3', or 'own', calibrated on this text."""
    clarifier: Words = ""
    """What that sampler writes where the model is sure to be unsure; must be one token. Empty is off."""
    banned: Ids = ()
    """Ids of tokens that are never written. They go before the first stage."""
    order: Annotated[tuple[Words, ...], Meta(max_length=64)] = ORDERS["hf"]
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

    name: Words
    source: Words
    """The file it was read from, or 'built in'."""
    blocks: Ids = ()
    """Blocks (1-based) that it has a direction for."""
    strength: Strength = 1.0
    on: bool = False
    first: Position | None = None
    """First block it acts on, None for the first it has."""
    last: Position | None = None
    """Last block it acts on, inclusive."""


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


class ModelSpec(Struct, frozen=True):
    """What to load. `name` is a hub id, a folder, a GGUF file, or a name of the catalogue."""

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
    trust: dict[str, Trust] = {}
    """Of each group of numbers (TRUSTED): how far it can be believed on this model and machine. Beside them each
    'series NAME' and 'stage NAME' of which something else is known than of its group."""
    products: str = ""
    """How the products of one row or two are taken, COLUMNS or ROWS: the two round differently. Empty where nobody
    said."""


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
    trace: str | None = None
    """The file that everything is recorded in; None for none."""
    rewinds: str = ""
    """How this model goes back in a text, such as 'cropping its cache, exact'; empty while nobody said."""


class Piece(Struct, frozen=True, array_like=True):
    """A prompt token."""

    token_id: int
    data: bytes
    text: str
    """What this token completes, decoded; empty while a character is still open."""


class Started(Struct, frozen=True, tag="started"):
    """A run begins: the prompt is encoded, nothing is read yet. With a parent it is a branch, and its next step is
    the one at `shared`: those before it are the parent's."""

    run: int
    prompt: str
    system: str | None
    chat: bool
    pieces: tuple[Piece, ...]
    knobs: Knobs
    vectors: tuple[Vector, ...]
    max_tokens: int
    parent: int | None = None
    """The run that it branches off; with an edited prompt, the one with the other prompt, and nothing is shared."""
    shared: int = 0
    """How many steps it has in common with its parent, from the first on."""
    how: str = ""
    """How the keys and values of what is shared came back: 'kept', or what had to be read again."""
    twin_of: int | None = None
    """The run that it is written beside, token by token, with the same luck."""


class Prefilled(Struct, frozen=True, tag="prefilled"):
    """How much of the prompt has been read."""

    run: int
    done: int
    total: int
    seconds: float


SCORES = (
    "entropy", "varentropy", "surprisal", "rank", "logit_margin", "prob_margin", "uniform_kl",
)  # fmt: skip
"""What is told of every token of the prompt. Named and meant as the fields of Step; model, nats."""


class PromptScores(Struct, frozen=True, tag="prompt-scores"):
    """What the model thought of a stretch of the prompt, as it read it. The first token of all has no scores: nothing
    came before it."""

    run: int
    first: int
    """Context position of the first token scored."""
    scores: Grid
    """(n, len(SCORES)) for the tokens at first, first + 1, ..."""


class Stage(Struct, frozen=True, array_like=True):
    """What a stage of the sampling chain did at one step."""

    name: str
    survivors: int
    """Tokens that can still be drawn after it."""
    mass: float
    """What those had of the distribution that the stage was given, 0 ... 1."""
    entropy: float
    """Nats, of the distribution after it."""


class Decision(Struct, frozen=True):
    """What the adaptive sampler saw at one step, and what it made of it."""

    variant: str
    """'S1', 'S3' or 'own'."""
    quadrant: str
    """'flowing', 'asking', 'exploring', 'resampling', 'adaptive', or 'warming up' while it has seen too little."""
    action: str
    """A phrase: 'take the most probable', 'temperature 0.7 to 1.2, top-k 40 to 46, best of 5 draws', 'as set'."""
    saw: dict[str, float]
    """Every number that it read and every threshold that it compared them with; nats where it is information."""
    knobs: Knobs
    """What the token was drawn with."""


class Candidate(Struct, frozen=True, array_like=True):
    token_id: int
    data: bytes
    logprob: float
    """Model distribution, nats."""
    final_prob: float
    cut: str | None = None
    """The stage that removed it, None if it could still be drawn."""


ATTENTION = ("spread", "disagreement", "interaction")
"""Per layer, of the newest query over its visible keys: variance across heads of their entropies (nats squared), mean
over heads of the total variation to the mean row (0 ... 1), mean |score| before the softmax (logits)."""
BLOCKS = ("mean", "std", "norm")
"""Mean and population standard deviation over the d_model numbers, and L2 norm."""
PERPLEXITY_WINDOW = 64
RECENT = 256
"""Steps that 'recent' means, the present one not counted."""
STATES = (
    "Warming up", "Confident", "Uncertain", "Overconfident", "Conflicted", "Leaning uncertain",
    "Leaning overconfident", "Unknown",
)  # fmt: skip
"""Of the model, by the z-scores of entropy and attention entropy: see engine/state.py. Unknown: no attention."""


class Watched(Struct, frozen=True, array_like=True):
    """What the model thought of a string that is followed. Model, before any sampling stage."""

    token_id: int
    """The first token of it."""
    logprob: float
    """Nats."""
    rank: int
    """1 is the most probable."""
    logit: float


class Shadow(Struct, frozen=True):
    """What another lane, given the same tokens, thought where this one wrote a token."""

    kl: float
    """KL(this lane || shadow), model, nats."""
    js: float
    """Jensen-Shannon divergence, model, nats."""
    final_js: float
    """The same between the final distributions, each after its own sampling chain."""
    entropy: float
    """Of the shadow, model, nats."""
    surprisal: float
    """Of the written token in the shadow, model, nats."""
    rank: int
    """Of the written token in the shadow; 1 is the most probable."""
    top_id: int
    """The most probable token of the shadow."""
    top_data: bytes
    would_id: int
    """What the shadow would have written here, with the same luck. Another token than the one that was written: that
    one exists only because of what tells the lanes apart."""
    would_data: bytes
    logprobs: tuple[float, ...] = ()
    """Of each candidate of the step, in the shadow, model, nats."""


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
    logit_margin: float | None
    """Model: logit of the most probable token minus that of the second. None with a vocabulary of one."""
    prob_margin: float | None
    """Model: the same difference of probabilities."""
    uniform_kl: float
    """KL(model || uniform) = ln vocab - entropy, nats."""
    perplexity: float
    """Model: exp of the mean surprisal of the written tokens so far, this one included."""
    window_perplexity: float
    """The same of the newest PERPLEXITY_WINDOW of them."""
    final_entropy: float
    final_prob: float
    """Of the written token."""
    candidates: tuple[Candidate, ...]
    """(n_candidates,) most probable of the model first."""
    stages: tuple[Stage, ...]
    """Those that are switched on, in order."""
    stage_probs: Grid
    """(n_stages, 1 + n_candidates) probability after each stage, of the written token and then of each candidate."""
    head_entropy: Grid
    """(n_layers, n_heads) nats, of the row of the newest query over its visible keys; NaN without attention."""
    head_varentropy: Grid
    """(n_layers, n_heads) nats squared, of the same rows."""
    attention: Grid
    """(n_layers, len(ATTENTION)); NaN without attention."""
    visible_keys: tuple[int | None, ...]
    """(n_layers,) keys that the newest query may attend to."""
    blocks: Grid
    """(n_layers, len(BLOCKS)) of the residual stream after each block at the newest position."""
    strays: tuple[int, ...]
    """Blocks (1-based) whose L2 norm is outside the band of its own recent values."""
    state: str
    """One of STATES."""
    entropy_z: float | None
    """How many standard deviations the entropy is above the mean of recent steps; None while warming up."""
    attention_z: float | None
    """The same of the mean of head entropies / ln n."""
    forward_seconds: float
    sample_seconds: float
    at: float
    """Seconds of work since the run began, pauses not counted."""
    mirostat_mu: float | None = None
    """Bits; the bound that mirostat drew this token under. None where it is off."""
    decision: Decision | None = None
    """Of the adaptive sampler; None where it is off."""
    watched: tuple[Watched, ...] = ()
    """One for each string that is followed, in the order of WatchesChanged."""
    shadow: Shadow | None = None
    """None where no shadow runs."""

    @property
    def forced(self) -> bool:
        """Whether it was written whatever the model said."""
        return bool(self.stages) and self.stages[-1].name == "forced"


class Proposed(Struct, frozen=True, tag="proposed"):
    """At a stop: the step that comes next if nothing is changed. Nothing of it is written yet, and each change of
    the knobs brings another one."""

    step: Step

    @property
    def run(self) -> int:
        return self.step.run


class Reconsidered(Struct, frozen=True, tag="reconsidered"):
    """The answer to Reconsider: an earlier step as it would be with other knobs."""

    step: Step

    @property
    def run(self) -> int:
        return self.step.run


class Breakpoint(Struct, frozen=True):
    id: Position
    expression: Words
    """As it was typed; conditions.py has the language."""
    enabled: bool = True
    hits: Position = 0
    note: Words = ""
    """Why it was switched off by itself; empty otherwise."""


class BreakpointsChanged(Struct, frozen=True, tag="breakpoints"):
    """All that there are, also after a hit was counted."""

    breakpoints: tuple[Breakpoint, ...]


class Watch(Struct, frozen=True, array_like=True):
    text: str
    token_id: int
    """Its first token, which is the one that is followed."""
    data: bytes
    """Of that token."""
    n_tokens: int
    """Tokens that the text takes."""


class WatchesChanged(Struct, frozen=True, tag="watches"):
    """Acts from the next step on."""

    run: int
    index: int
    watches: tuple[Watch, ...]


class Switched(Struct, frozen=True, tag="switched"):
    """This run is the one that is looked at and gone on with from now on."""

    run: int


class Labelled(Struct, frozen=True, tag="labelled"):
    """What a person calls a branch. Another run than the one on screen may be meant."""

    branch: int
    """Its run."""
    name: str
    starred: bool
    deleted: bool = False
    """It is no longer shown, and nothing is kept for it but the record."""


class Lane(Struct, frozen=True):
    """Another mind for the same text. What is None is as in the lane that is watched."""

    name: Words
    """For titles: 'no vectors', 'temperature 1.5', 'other prompt'."""
    vectors: Vectors | None = None
    knobs: Knobs | None = None
    prompt: Text | None = None
    system: Text | None = None
    """Counts only with a prompt."""


class ShadowChanged(Struct, frozen=True, tag="shadow"):
    run: int
    index: int
    """The first step that it is told of."""
    lane: Lane | None
    """None: there is none from here on."""
    how: str = ""
    """'in the same forward pass', 'in a second forward pass', 'from the same logits'."""
    seconds: float = 0.0
    """What reading the text once more for it took."""


class FanRow(Struct, frozen=True):
    text: str
    token_ids: tuple[int, ...]
    logprob: float
    """ln p of the whole, model."""
    ended: bool
    """With an end of text, and not at the length that was asked for."""
    group: int
    """Rows that say the same have the same number; 0 is the largest group."""


class Fanned(Struct, frozen=True, tag="fanned"):
    """The answer to AskFan: short continuations of a text, all from before one step."""

    run: int
    index: int
    rows: tuple[FanRow, ...]
    tokens: int
    """Asked for, of each."""
    same: str
    """How two count as one: 'exact' or 'normalised'."""
    entropy: float
    """Over the groups, each as probable as it is frequent: discrete semantic entropy in nats (Farquhar et al. 2024,
    with text in place of entailment)."""
    seconds: float


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
    rebuilt: bool = False
    """The whole text before was read again under them; otherwise its keys and values are as they were."""
    seconds: float = 0.0
    """What that took."""


class Paused(Struct, frozen=True, tag="paused"):
    run: int
    reason: str
    breakpoint: int | None = None
    """The id of the one that stopped it."""


class Continued(Struct, frozen=True, tag="continued"):
    run: int


class Ended(Struct, frozen=True, tag="ended"):
    run: int
    reason: str
    """'end of text', 'token limit', 'context full', 'stopped', 'stopped at' what without a screen, or what was wrong
    with the logits."""
    failed: bool = False
    """It had to, since its logits were no numbers."""


class Failed(Struct, frozen=True, tag="failed"):
    """The engine could not go on. It still listens unless the process is gone."""

    sentence: str
    detail: str = ""
    fatal: bool = False
    """No model is up: only a restart helps."""


class Refused(Struct, frozen=True, tag="refused"):
    """One command could not be obeyed; everything else goes on."""

    sentence: str
    notice: bool = False
    """It was obeyed, and a person must know this of how."""


class Memory(Struct, frozen=True, tag="memory"):
    resident: int
    """Bytes of the engine process."""
    device: int | None
    """Bytes allocated on the accelerator, None on a CPU."""
    cache: int
    """Bytes of keys, values and kept queries of the run that is written."""
    kept: int = 0
    """Bytes kept beside it so that going back and other branches need not be read again."""
    bound: int = 0
    """What those may come to; what goes beyond is dropped and read again on demand."""
    step: str = ""
    """How decode steps run: 'graph' or 'plain'; empty where there is only one way."""


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


class Standing(Struct, frozen=True, tag="standing"):
    """To one screen: which engine this is, and how the two stand. The first thing that it hears, and again when
    screens come, go or take control. No part of what happened, and not recorded."""

    engine: str
    """By which `attach` and `stop` name it."""
    pid: int
    began: float
    """Wall clock, seconds since 1970."""
    model: ModelSpec | None
    state: str
    """One of log.State."""
    tokens: int
    """Written in the run that it is at."""
    trace: str
    """The file that it records into; empty before it was told to load."""
    keep: float
    """Seconds that it stays with nobody attached."""
    screens: int = 0
    in_control: bool = False
    """Whether the screen that is told this may command."""


class Dismissed(Struct, frozen=True, tag="dismissed"):
    """To one screen: the engine hangs up on it."""

    sentence: str


Event = (
    Progress | Ready | Started | Prefilled | PromptScores | Step | KnobsChanged | VectorsChanged | Paused | Continued
    | Ended | Failed | Refused | Memory | AttentionRows | Standing | Dismissed | Proposed | Reconsidered
    | BreakpointsChanged | WatchesChanged | Switched | Labelled | ShadowChanged | Fanned
)  # fmt: skip


# --- What is asked: commands ---------------------------------------------------------------------------------


ON_LEAVE = ("write", "pause", "stop")

Vectors = Annotated[tuple[Vector, ...], Meta(max_length=1024)]
Breakpoints = Annotated[tuple[Breakpoint, ...], Meta(max_length=1024)]
Texts = Annotated[tuple[Words, ...], Meta(max_length=1024)]


class Load(Struct, frozen=True, tag="load"):
    model: ModelSpec
    vectors: Vectors = ()
    """How vectors are set once the model is up; files of further ones are read then."""
    trace: Words | None = None
    """Where to record; a file that is there is left alone, and one with another number behind its name made. None for
    a record that goes with the engine."""
    keep: Annotated[float, Meta(ge=0, le=LONGEST_STAY)] = 0.0
    """Seconds to stay with nobody attached; 0 is to end with the last screen."""
    on_leave: Annotated[str, Meta(pattern=f"^({'|'.join(ON_LEAVE)})$")] = "write"
    """What becomes of the text when the last screen is gone: one of ON_LEAVE."""
    kept_cache: Whole = 1 << 30
    """Bytes that may be kept beside the run that is written: see Memory.kept."""
    watches: Texts = ()
    breakpoints: Breakpoints = ()
    """Both are set once the model is up."""
    write: Write | None = None
    """What to begin with then, whether or not whoever asked for it is still there. A Write that was heard meanwhile
    takes its place."""


class Write(Struct, frozen=True, tag="write"):
    """Stop what is being written and begin a new run."""

    prompt: Text
    system: Text | None
    chat: bool | None
    """Whether the chat template is used; None for wherever the model has one and there is something to say in it."""
    max_tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
    knobs: Knobs
    score_prompt: bool = True
    """Whether the tokens of the prompt are scored as they are read."""
    parent: Position | None = None
    """The run whose prompt was edited."""


class SetKnobs(Struct, frozen=True, tag="set-knobs"):
    knobs: Knobs


class SetVector(Struct, frozen=True, tag="set-vector"):
    """Replace the setting of the vector of this name; read its file first if the name is new."""

    vector: Vector
    rebuild: bool = False
    """Read the whole text again under it; else keys and values that are there stay as they are."""


class Pause(Struct, frozen=True, tag="pause"):
    reason: Words = "by you"


class Continue(Struct, frozen=True, tag="continue"):
    pass


UNTIL = ("", "sentence", "line")


class Advance(Struct, frozen=True, tag="advance"):
    """Write this many tokens, then pause; or up to the end of what `until` names."""

    tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)] = 1
    until: Words = ""
    """One of UNTIL."""


class Stop(Struct, frozen=True, tag="stop"):
    pass


class AskAttention(Struct, frozen=True, tag="ask-attention"):
    layer: Number
    """1-based block."""
    head: Number | None
    """1-based; None for the mean of heads."""
    last: Position
    """Position of the newest query wanted."""
    n_queries: Annotated[int, Meta(ge=1, le=MOST_QUERIES)]
    """How many positions back from it, the newest included."""
    first_key: Position
    n_keys: Annotated[int, Meta(ge=1, le=MOST_KEYS)]


class Quit(Struct, frozen=True, tag="quit"):
    """End the engine."""


class Follow(Struct, frozen=True, tag="follow"):
    """Tell this screen everything that was recorded after an event, and then what happens."""

    after: Whole = 0
    """`seq` of the last event that it knows; 0 for none."""
    guest: bool = False
    """It does not count among the screens: it takes no control, and nothing changes when it leaves."""


class TakeControl(Struct, frozen=True, tag="take-control"):
    """From now on this screen commands, and the others watch."""


class SetBreakpoints(Struct, frozen=True, tag="set-breakpoints"):
    """All that there are to be; hits are counted by the engine, from those given here on."""

    breakpoints: Breakpoints


class SetWatches(Struct, frozen=True, tag="set-watches"):
    """All the strings that are to be followed."""

    texts: Texts


class Branch(Struct, frozen=True, tag="branch"):
    """Write on from before one step of a run: first these tokens, then this text, then what the model draws.

    At the step that comes next in the run that is written, it goes on in that run. Anywhere else a new run begins.
    """

    run: Position
    step: Position
    token_ids: Ids = ()
    text: Text = ""
    ban: Ids = ()
    """Tokens that this one step may not be."""
    pause: bool = False
    """Stop again once the tokens and the text are written (or at once, where there are none)."""


class Go(Struct, frozen=True, tag="go"):
    """To another run: it is looked at, and written on, from now on. What is being written pauses."""

    run: Position


class Label(Struct, frozen=True, tag="label"):
    """Name, star or hide a branch. None leaves it as it is."""

    run: Position
    name: Words | None = None
    starred: bool | None = None
    deleted: bool | None = None


class Reconsider(Struct, frozen=True, tag="reconsider"):
    """What a step would be with these knobs. Nothing is written."""

    run: Position
    step: Position
    knobs: Knobs


class SetShadow(Struct, frozen=True, tag="set-shadow"):
    """Run another lane on the same tokens, from the next step on; None for none."""

    lane: Lane | None


class Twin(Struct, frozen=True, tag="twin"):
    """From before one step of a run, write in two lanes at once, side by side and with the same luck: this run (or a
    branch of it), and a second run as the lane says."""

    run: Position
    step: Position
    lane: Lane


class AskFan(Struct, frozen=True, tag="ask-fan"):
    """From before one step of a run, several short continuations at once. Nothing is written."""

    run: Position
    step: Position
    n: Annotated[int, Meta(ge=1, le=64)] = 8
    tokens: Annotated[int, Meta(ge=1, le=128)] = 16
    same: Words = "normalised"
    """'exact', or 'normalised': without case, punctuation, articles and runs of space."""


Command = (
    Load
    | Write
    | SetKnobs
    | SetVector
    | Pause
    | Continue
    | Advance
    | Stop
    | AskAttention
    | Quit
    | Follow
    | TakeControl
    | SetBreakpoints
    | SetWatches
    | Branch
    | Go
    | Label
    | Reconsider
    | SetShadow
    | Twin
    | AskFan
)


def log_visible(keys: int | None) -> float | None:
    """ln n: the largest entropy a row over n keys can have. None where it says nothing (fewer than two keys)."""
    return math.log(keys) if keys is not None and keys > 1 else None


def normalised(entropies: Sequence[float], keys: int | None) -> list[float | None]:
    """Entropy / ln n per head: 0 is one key, 1 is all visible keys alike. None where undefined."""
    ceiling = log_visible(keys)
    if ceiling is None:
        return [None] * len(entropies)
    return [None if math.isnan(h) else min(max(h / ceiling, 0.0), 1.0) for h in entropies]


def probability_of(nats: float) -> float:
    """Of a log-probability, which may come from anywhere: above 0 there are none."""
    return math.exp(min(nats, 0.0))
