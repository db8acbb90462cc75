"""One run of a recording on its way to be one of a session: its tokens, what each was read under, what follows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tui_entropy.core.errors import UserError
from tui_entropy.engine.measure.running_stats import Floats
from tui_entropy.engine.sampling.chain import next_mu
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.state import SessionState
from tui_entropy.engine.steering.plan import Offsets, SteeringPlan
from tui_entropy.engine.tokenization.tokenizer import DecodeStream
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import NextTokens, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.trace.reader import Trace

MEASURED = ("entropy", "varentropy", "surprisal", "head entropy")
"""Metrics by which later steps are judged."""
COLUMNS = (
    "token_id",
    "at_seconds",
    "final_prob",
    "mirostat_mu_bits",
    *(BY_NAME[name].column for name in MEASURED),
)


class RecordedStep(NamedTuple):
    """A step of a file, as far as later ones hang on it."""

    token_id: float
    at: float
    final_prob: float
    mirostat_mu: float
    """NaN where it is off."""
    entropy: float
    varentropy: float
    surprisal: float
    attention: float
    """NaN where it is unknown."""
    norms: Floats


class RestoredRun:
    """A run as it was when so much of its recording had happened."""

    def __init__(
        self, state: SessionState, trace: Trace, started: Started, sequence: TokenSequence, limit: int, scored: bool
    ) -> None:
        """sequence: with what it shares with others. limit: steps that it may come to. scored: whether the tokens of
        its prompt are scored as they are read."""
        self.started, self.sequence, self.limit, self.scored = started, sequence, limit, scored
        self.knobs: Knobs = started.knobs
        self.vectors: tuple[Vector, ...] = started.vectors
        """Both as they were applied last."""
        self._state, self._trace = state, trace
        self._steps = self._recorded_steps()

    @property
    def number(self) -> int:
        return self.started.run

    def write(self, n: int) -> None:
        """Up to so many steps, those that are shared included, are written."""
        sequence = self.sequence
        conditions = SteeringPlan(self.vectors).conditions
        while sequence.n_written < n:
            at, step = sequence.n_written, next(self._steps)
            self.read(sequence.n_tokens, self._state.offsets_of(self.vectors, sequence, at))
            self._write(step)
            if conditions:
                self._state.judge(sequence, self.vectors, self._trace.step(self.number, at))

    def read(self, last: int, offsets: Offsets) -> None:
        """The tokens before this position that were not read yet, and the newest of them, were read under these."""
        sequence = self.sequence
        sequence.n_read = max(min(len(sequence.offsets), last - 1), 0)
        sequence.mark_read(last, offsets)
        sequence.n_read = 0

    def read_prompt(self, n: int) -> None:
        """So many tokens of the prompt were read, before the first step and under what was set then."""
        if not self.sequence.n_written and n > len(self.sequence.offsets):
            self.read(min(n, self.sequence.n_prompt), self._state.offsets_of(self.vectors, self.sequence, 0))

    def read_anew(self) -> None:
        """The whole text was read once more, under the vectors of the next step."""
        n = min(len(self.sequence.prefix_ids), self.sequence.n_tokens - 1)
        self.sequence.read_anew(n, self._state.offsets_of(self.vectors, self.sequence))

    def tell_next(self, told: NextTokens) -> None:
        sequence = self.sequence
        sequence.given, sequence.forced = list(told.given), list(told.forced)
        sequence.banned = frozenset(told.banned)

    def finish(self) -> None:
        """All of it is written: what needs no step by step follows."""
        sequence = self.sequence
        sequence.text = DecodeStream(self._state.loaded.tokenizer, sequence.prompt.tolist())
        sequence.text.decode_bytes(sequence.written.tolist())
        sequence.make_room(max(self.limit - sequence.n_written, 0))

    def _write(self, step: RecordedStep) -> None:
        """As `TokenSequence.commit`."""
        sequence = self.sequence
        if not 0 <= step.token_id < self._state.loaded.card.vocab:
            raise UserError(
                f"{self._trace.path} lacks step {sequence.n_written + 1} of run {self.number}, so it cannot be gone "
                "on with: `tui-entropy replay` shows what there is of it"
            )
        if sequence.forced or sequence.banned:
            sequence.interventions[sequence.n_written] = sequence.forced[:1], sequence.banned
        sequence.write(int(step.token_id))
        attention = None if math.isnan(step.attention) else step.attention
        sequence.running_stats.count(step.entropy, step.varentropy, step.surprisal, attention, step.norms)
        off = math.isnan(step.mirostat_mu)
        sequence.mirostat_mus.append(None if off else next_mu(step.mirostat_mu, self.knobs, step.final_prob))
        sequence.elapsed.append(step.at)
        sequence.met.append(frozenset())
        sequence.forced, sequence.banned, sequence.given = sequence.forced[1:], frozenset(), sequence.given[1:]

    def _recorded_steps(self) -> Iterator[RecordedStep]:
        """Those that it wrote itself, as they are asked for."""
        first, run = self.sequence.n_written, self.number
        columns = self._trace.columns(run, COLUMNS, first)
        norms = np.frombuffer(self._trace.norms(run, first), np.float32).astype(np.float64)
        blocks = norms.reshape(len(columns[0]), -1)
        for row in zip(*columns, blocks, strict=True):
            yield RecordedStep._make(row)
