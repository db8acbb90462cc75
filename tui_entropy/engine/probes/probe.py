"""Probe: one question about a token, with what may be set of it and two ways to its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy.typing as npt
from msgspec import Struct

from tui_entropy.records.probes.answering import ProbeCancelled as ProbeCancelled
from tui_entropy.records.probes.answering import Unavailable as Unavailable
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Panel, Tokens
from tui_entropy.records.step import Step

if TYPE_CHECKING:
    from transformers import Cache

    from tui_entropy.engine.decoding.instruments import Instruments
    from tui_entropy.engine.models.loaded import Loaded
    from tui_entropy.engine.sampling.settings import Controls
    from tui_entropy.engine.sequence.sequence import TokenSequence
    from tui_entropy.engine.session.branching import Branches
    from tui_entropy.engine.session.run import Run
    from tui_entropy.engine.session.snapshot import Snapshot
    from tui_entropy.engine.session.state import SessionState
    from tui_entropy.records.model import ModelCard
    from tui_entropy.records.probes.attention_rows import AttentionRows, RowWindow

NOTHING, ONE_PASS, PASSES, GRADIENT = (
    "nothing but what is kept",
    "the pass that chose the token, once more",
    "passes over the whole text",
    "a pass forwards and one back",
)
"""What a probe needs of the model."""


class Difference(NamedTuple):
    """A number, or an array of them, got in two ways."""

    actual: npt.ArrayLike
    expected: npt.ArrayLike
    size: float
    """How large the numbers are that rounding acts on; 0 where nothing is rounded."""


class ProbeEvidence(Protocol):
    """The second way to answers: plain passes of the model over the text, which no code of a probe is part of.

    Everything is in float64 and of the place that was asked about.
    """

    def logp(self, blocks: int | None = None, back: int = 0) -> npt.NDArray[Any]:
        """(vocab,) ln p of the token there, or of one so many positions before. blocks: with those after so many left
        out."""

    def weights(self, block: int) -> npt.NDArray[Any] | None:
        """(n_heads, queries, keys) attention rows of a block (1-based) over the text before; None where the model's
        eager attention tells none."""

    def logprob(self, token_ids: Iterable[int]) -> float:
        """ln p of tokens after the text before."""

    def patched(self, layer: int, source: int, position: int) -> npt.NDArray[Any]:
        """(vocab,) ln p of the token there, where a layer puts out at one position what it puts out at another. 0 is
        the embedding."""

    def direct(self, token_id: int) -> npt.NDArray[Any] | None:
        """(n_layers + 1,) of the logit of a token there: what the head reads off what stands in the residual stream
        before the first block, and off what each block adds to it, through a norm of a known scale. None where
        blocks do not just add to it, or more than a norm stands behind them."""

    def stream(self) -> npt.NDArray[Any] | None:
        """(n_layers + 1, d_model): what the first block is given there, and what each puts out. None where more than
        one stream leads through them, or no norm stands behind them."""

    def embedding(self, is_output: bool) -> npt.NDArray[Any]:
        """(vocab, d_model)"""

    def gradients(self, token_id: int) -> npt.NDArray[Any] | None:
        """(n_tokens, 2, d_model): the vectors that the tokens before are embedded as, and the gradients of ln p of a
        token there. None where the model has none."""

    def parts(self) -> npt.NDArray[Any] | None:
        """(n_layers, 3, n_tokens, d_model) of each block: what it is given, what it adds with its feed-forward
        network silent, and what that adds; NaN where attention cannot be told from that. None where the residual
        stream is several."""

    @property
    def ids(self) -> Sequence[int]:
        """Of the text before."""

    @property
    def step(self) -> Step:
        """The one that was written there."""


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """Where a probe looks: a token of a run, and the model as it was when it chose that token."""

    state: SessionState
    branches: Branches
    run: Run
    position: int
    """Of the token in the whole context, at least 1. It may be the one that comes next."""
    progress: Callable[[float, float], None] = field(default=lambda done, total: None)
    """Tell how much is done, of how much. Raises ProbeCancelled where nobody waits any more, so a probe that takes
    long calls it between its parts."""

    @property
    def loaded(self) -> Loaded:
        return self.state.loaded

    @property
    def instruments(self) -> Instruments:
        return self.state.instruments

    @property
    def sequence(self) -> TokenSequence:
        return self.run.sequence

    @property
    def token_id(self) -> int | None:
        """None where it is not written yet."""
        return int(self.sequence.ids[self.position]) if self.position < self.sequence.n_tokens else None

    def token(self, token_id: int) -> Tokens:
        """A token, as panels name one."""
        return Tokens((token_id,), self.loaded.tokenizer.token_bytes(token_id))

    @property
    def step(self) -> int:
        """Which step wrote it, from 0 on. Raises Unavailable for a token of the prompt."""
        if self.position < self.sequence.n_prompt:
            raise Unavailable("no step wrote this token: it is one of the prompt's")
        return self.position - self.sequence.n_prompt

    @property
    def controls(self) -> Controls:
        """What is set now."""
        return self.state.controls()

    def pass_before(self) -> TokenSequence:
        """The pass of the token before, once more and to the bit: `logits` (vocab,) float32, and `vectors` and
        `attention_state` as the instruments had them. The sequence has no cache."""
        return self.branches.rewinder.recompute_step(self.sequence, self.position - 1)

    def replay(self, n: int) -> AbstractContextManager[TokenSequence]:
        """The newest n of the tokens before it, read once more in as few passes as they were read under the same;
        one alone to the bit. Hooks on the model's modules see them, the newest last, and what is read before."""
        return self.branches.rewinder.replay(self.sequence, max(self.position - n, 0), self.position)

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """The text before the token, with a cache to write on from."""
        return self.branches.rewinder.snapshot(self.sequence, self.step)

    def kept_rows(self, n_queries: int) -> AbstractContextManager[Cache]:
        """The instruments look at the text before the token, whose last so many queries are kept, or read again."""
        return self.branches.rewinder.kept_rows(self.sequence, self.position - 1, n_queries)

    def rows(self, window: RowWindow) -> AttentionRows:
        return self.branches.rewinder.rows(self.sequence, window)


@dataclass(frozen=True, slots=True)
class Probe:
    """One question. Its answers are panels, which are drawn, exported and recorded without knowing the probe."""

    name: str
    about: str
    """What it answers, in a sentence."""
    needs: str
    """NOTHING, ONE_PASS, PASSES or GRADIENT."""
    options: type[Struct]
    """A frozen record whose fields all have defaults; `Meta` of msgspec gives bounds and a description."""
    compute: Callable[[ProbeContext, Any], Iterable[Panel]]
    """The answer, under these options. Raises Unavailable, and UserError for options that this model cannot have."""
    check: Callable[[ProbeAnswer, ProbeEvidence], Iterator[Difference]]
    """The answer under the options as they are by default, held against another way to it."""
    trust: str = "logits"
    """The group of numbers that its answers belong to, one of TRUSTED."""
    memory: Callable[[ModelCard, int, Any], int] = field(default=lambda card, position, options: 0)
    """The bytes that it works with, beside the model and its cache: what there is not, is not begun."""
    is_light: bool = False
    """It costs less than a step, so whoever watches may ask it."""
    page: str = ""
    """The pane or page of the screen that shows it, where the one of probes does not do."""
    aliases: tuple[str, ...] = ()
    """Names that it had."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """Of options whose record does not describe them."""
