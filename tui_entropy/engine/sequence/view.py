"""A sequence as those see it that only read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from tui_entropy.engine.instruments.head_measures import AttentionState
    from tui_entropy.engine.measure.running_stats import RunningStats
    from tui_entropy.engine.measure.step_record import Numbers
    from tui_entropy.engine.sampling.distribution import ChainResult
    from tui_entropy.engine.sampling.settings import Controls
    from tui_entropy.engine.tokenization.tokenizer import DecodeStream
    from tui_entropy.records.step import Decision, Shadow


class Choice(NamedTuple):
    """The token chosen at a step with all that led to it, on the device and not waited for."""

    logp: Tensor
    """(vocab,) ln p of the model."""
    ids: Tensor
    """(n,) its candidates."""
    chained: ChainResult
    token: Tensor
    """The 0-d id that was drawn."""
    decision: Decision | None
    """Of an adaptive sampler."""


class Companion(Protocol):
    """Another mind on the same tokens, asked at every step: what a shadow is to the run that it stands beside."""

    def compare(self, now: Controls, watched: SequenceView, choice: Choice) -> dict[str, Tensor]:
        """Compare it with the run at a chosen token: tensors by name, on the device."""

    def record(self, numbers: Numbers, text: DecodeStream) -> Shadow:
        """The record of the numbers of `compare`, given on the host."""


class SequenceView(Protocol):
    """The part of a TokenSequence that choosing a token needs. Only the loop and what rewinds may write one, or
    its cache."""

    @property
    def ids(self) -> Tensor:
        """(n_tokens,)"""

    @property
    def prompt(self) -> Tensor:
        """(n_prompt,) ids."""

    @property
    def written(self) -> Tensor:
        """(n_written,) ids."""

    @property
    def n_tokens(self) -> int:
        """Prompt and written."""

    @property
    def n_written(self) -> int: ...
    @property
    def batch(self) -> Sequence[SequenceView]:
        """The sequences that are read in the same passes."""

    @property
    def batch_index(self) -> int:
        """Its row in the passes that it shares."""

    @property
    def position_offset(self) -> int:
        """The number that is taken off a position before its noise is asked for."""

    @property
    def mu(self) -> float | None:
        """Mirostat's bound in bits for the next step."""

    @property
    def forced(self) -> Sequence[int]:
        """Tokens that come next, whatever the model says."""

    @property
    def banned(self) -> frozenset[int]:
        """Tokens that the next one may not be."""

    @property
    def attention_state(self) -> AttentionState:
        """The state that the attention probe has of it."""

    @property
    def vectors(self) -> list[Tensor | None]:
        """Layer, 0 the embedding -> the newest residual vectors there, as ResidualInstrument has them."""

    @property
    def shadow(self) -> Companion | None: ...
    @property
    def running_stats(self) -> RunningStats: ...
    @property
    def text(self) -> DecodeStream: ...
