"""Step: one token with all that was measured of it."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from tui_entropy.records.arrays import Grid
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.quantised_rows import QuantisedRows
from tui_entropy.records.sampling import Knobs

if TYPE_CHECKING:
    from tui_entropy.records.model import ModelCard


NO_ID = -1
"""The id of a token that its source did not name."""


class PromptToken(Struct, frozen=True, array_like=True):
    """A token of the prompt."""

    token_id: int
    token_bytes: bytes
    """The bytes that it adds to the text."""
    text: str
    """What this token completes, decoded; empty while a character is still open."""


class Stage(Struct, frozen=True, array_like=True):
    """The effect of a stage of the sampling chain at one step."""

    name: str
    survivors: int
    """Tokens that can still be drawn after it."""
    mass: float
    """What those had of the distribution that the stage was given, 0 ... 1; NaN where it is unknown."""
    entropy: float
    """Nats, of the distribution after it."""


class Decision(Struct, frozen=True):
    """The adaptive sampler at one step: what it saw, and what it made of it."""

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
    token_bytes: bytes
    logprob: float
    """Model distribution, nats."""
    final_prob: float
    """NaN where it is unknown."""
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
"""Of the model, by the z-scores of entropy and attention entropy: see `engine/measure/running_stats.py`. Unknown: no
attention."""


class Watched(Struct, frozen=True, array_like=True):
    """The numbers of a string that is followed. Model, before any sampling stage."""

    token_id: int
    """The first token of it."""
    logprob: float
    """Nats."""
    rank: int
    """1 is the most probable."""
    logit: float


class Shadow(Struct, frozen=True):
    """The numbers of another lane, given the same tokens, where this one wrote a token."""

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
    top_bytes: bytes = field(name="top_data")
    would_id: int
    """What the shadow would have written here, with the same luck. Another token than the one that was written: that
    one exists only because of what tells the lanes apart."""
    would_bytes: bytes = field(name="would_data")
    logprobs: tuple[float, ...] = ()
    """Of each candidate of the step, in the shadow, model, nats."""


class Bounds(Struct, frozen=True, array_like=True):
    """What is known of a number whose value is not: it is neither below the one nor above the other."""

    name: str
    """`Metric.field` of the number."""
    low: float
    high: float
    """In nats where it is information. Both are finite, and low <= high."""


class Step(Struct, frozen=True, tag="step"):
    """One written token, and what the model believed just before it was chosen."""

    run: int
    index: int
    """0 for the first written token."""
    position: int
    """Of the written token in the whole context."""
    token_id: int
    """NO_ID where nobody said."""
    token_bytes: bytes = field(name="data")
    """The bytes that the token adds to the text; empty for an id without a token."""
    text: str
    """What this token completes, decoded; empty while a character is still open."""
    numbers: tuple[float | None, ...]
    """What was computed of the model's distribution and of the written token, one for each of
    `metrics.registry.COMPUTED`, whose first ones are NAMED here. None is unknown."""
    perplexity: float
    """Model: exp of the mean surprisal of the written tokens so far, this one included."""
    window_perplexity: float
    """The same of the newest PERPLEXITY_WINDOW of them."""
    final_entropy: float
    final_prob: float
    """Of the written token. This and the three before it are NaN where they are unknown."""
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
    bounds: tuple[Bounds, ...] = ()
    """Of numbers that are unknown, as far as something is known of them: what a server that tells only its most
    probable tokens leaves open."""

    attention_rows: QuantisedRows | None = None
    """Of the newest query, the one that chose this token; None where they are not recorded."""
    lens_rows: tuple[LensRow, ...] = ()
    """Of the layers that are read, the first first and the last always among them; empty where the lens was off."""

    @property
    def is_visited(self) -> bool:
        """The pass of the token before it was looked into, so that heads and norms are known."""
        norms = self.blocks.column(BLOCKS.index("norm"))
        return bool(len(norms)) and not math.isnan(norms[0])

    def bounds_of(self, name: str) -> tuple[float, float] | None:
        """(low, high) of a number by its field name; None where nothing is known but perhaps its value."""
        return next(((one.low, one.high) for one in self.bounds if one.name == name), None)

    @property
    def entropy(self) -> float:
        """Model, nats."""
        return _or_nan(self.numbers[0])

    @property
    def varentropy(self) -> float:
        """Model, nats squared."""
        return _or_nan(self.numbers[1])

    @property
    def surprisal(self) -> float:
        """Model, nats, of the written token."""
        return _or_nan(self.numbers[2])

    @property
    def rank(self) -> int:
        """Model, of the written token; 1 is the most probable, 0 is unknown."""
        rank = _or_nan(self.numbers[3])
        return int(rank) if math.isfinite(rank) else 0

    @property
    def forced(self) -> bool:
        """Whether it was written whatever the model said."""
        return bool(self.stages) and self.stages[-1].name == "forced"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a notebook shows of it, in place of all its numbers."""
        candidates = ", ".join(
            f"{one.token_bytes.decode('utf-8', 'replace')!r} {one.final_prob:.3f}" for one in self.candidates[:3]
        )
        printer.text(
            f"<step {self.index} at position {self.position}: {self.text!r}, id {self.token_id}, entropy "
            f"{self.entropy:.3f} nats, surprisal {self.surprisal:.3f} nats, rank {self.rank}; {candidates}>"
        )


def sparse_step(card: ModelCard, numbers: tuple[float | None, ...], **known: Any) -> Step:
    """A step of which its source knows no more than these fields: all others are unknown, or there are none of them.

    card: of the model, whose layers and heads the grids have. numbers: as in Step. known: fields of Step; `run`,
    `index`, `position`, `token_id`, `token_bytes` and `text` must be among them.
    """

    def unknown(*shape: int) -> Grid:
        return Grid(shape, struct.pack("<f", math.nan) * math.prod(shape))

    candidates, layers = known.get("candidates", ()), card.n_layers
    lacking = dict.fromkeys(("perplexity", "window_perplexity", "final_entropy", "final_prob"), math.nan)
    lacking |= dict.fromkeys(("forward_seconds", "sample_seconds", "at"), 0.0)
    return Step(
        **{
            **lacking, "numbers": numbers, "candidates": (), "stages": (),
            "stage_probs": unknown(0, 1 + len(candidates)),
            "head_entropy": unknown(layers, card.n_heads), "head_varentropy": unknown(layers, card.n_heads),
            "attention": unknown(layers, len(ATTENTION)), "visible_keys": (None,) * layers,
            "blocks": unknown(layers, len(BLOCKS)), "strays": (),
            "state": "Unknown", "entropy_z": None, "attention_z": None,
            **known,
        }
    )  # fmt: skip


NAMED = "entropy", "varentropy", "surprisal", "rank", "logit_margin", "prob_margin", "uniform_kl"
"""The first numbers of a step, by name in their order."""


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def log_visible(keys: int | None) -> float | None:
    """ln n: the largest entropy a row over n keys can have. None where it says nothing (fewer than two keys)."""
    return math.log(keys) if keys is not None and keys > 1 else None


def normalised(entropies: Sequence[float], keys: int | None) -> list[float | None]:
    """Entropy / ln n per head: 0 is one key, 1 is all visible keys alike. None where undefined."""
    ceiling = log_visible(keys)
    if ceiling is None:
        return [None] * len(entropies)
    return [None if math.isnan(h) else min(max(h / ceiling, 0.0), 1.0) for h in entropies]
