"""Distributions as the stages of a chain see them, and what each stage did."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tui_entropy.engine.instruments.tensor_metrics import SURPRISAL_LIMIT, log_probs
from tui_entropy.engine.sampling.gumbel import uniform


@dataclass(frozen=True, slots=True)
class SamplingContext:
    """The text so far, as the stages know it. The ids are int64 and on the device of the logits."""

    prompt: Tensor
    """(n,) ids."""
    written: Tensor
    """(m,) ids."""
    position: int
    """Context position of the token that is about to be drawn."""
    mu: float | Tensor | None = None
    """Bits; mirostat's bound. None at the start of a text, where it is twice the target."""
    breakers: frozenset[int] = frozenset()
    """Ids of the tokens that end a repeated sequence for DRY."""
    banned: frozenset[int] = frozenset()
    """Ids of tokens that can not be drawn, unless nothing else is there."""
    uniform: Tensor | None = None
    """0-d, the number of the step, where it is already on the device."""

    def seen(self, last_n: int) -> Tensor:
        """(k,) newest ids of prompt and written text; all of them where last_n is 0."""
        return torch.cat([self.prompt, self.written])[-last_n:]

    def number(self, seed: int) -> float | Tensor:
        """A uniform number in (0, 1), a function of seed and position."""
        return uniform(seed, self.position) if self.uniform is None else self.uniform


@dataclass(frozen=True)
class Row:
    """The result of a stage (stages/inputs.py)."""

    scores: Tensor
    """(n,) float32; -inf for a token of the whole vocabulary that can not be drawn."""
    vocab: int
    ids: Tensor | None = None
    """(n,) their token ids, ascending; None where it is the whole vocabulary."""
    rescored: bool = False
    """It holds every token of the row before."""
    narrows: bool = True
    """Once tokens are removed it is the survivors alone. Where to find them would wait for the device it does not,
    and is always the whole vocabulary."""

    @cached_property
    def logp(self) -> Tensor:
        """(n,) ln p, nats."""
        return log_probs(self.scores)

    @cached_property
    def entropy(self) -> Tensor:
        """0-d, nats."""
        return self.logp.exp() @ (-self.logp).clamp(max=SURPRISAL_LIMIT)

    @property
    def alive(self) -> Tensor:
        """(n,) bool: which tokens can be drawn."""
        return self.scores > -torch.inf

    @cached_property
    def survivors(self) -> Tensor:
        """0-d int64."""
        if self.ids is not None:
            return torch.tensor(len(self.ids))
        if not self.narrows:
            return self.alive.sum()
        return torch.tensor(np.count_nonzero(self.scores.numpy() > -math.inf))

    def best(self, numbers: Tensor) -> Tensor:
        """(n,) -> (n,) bool: the place of the highest alone."""
        return torch.zeros_like(numbers, dtype=torch.bool).scatter_(0, numbers.argmax(keepdim=True), True)

    def above(self, numbers: Tensor, edge: float) -> Tensor:
        """(n,) on the host -> (k,) int64: the places of those above an edge."""
        return torch.from_numpy(np.flatnonzero(numbers.numpy() > edge))

    def sums(self, token_ids: Tensor, values: Tensor) -> Tensor:
        """(k,) ids and their (k,) values -> (n,): the sum of the values of each token of the row."""
        sums = self.scores.new_zeros(self.vocab).scatter_add_(0, token_ids, values)
        return sums if self.ids is None else sums[self.ids]

    def at(self, token_ids: Tensor, numbers: Tensor) -> Tensor:
        """(k,) those of (n,) numbers of this row that belong to these tokens; -inf for a token that is not left."""
        if self.ids is None:
            return numbers[token_ids]
        places = torch.searchsorted(self.ids, token_ids).clamp_(max=len(self.ids) - 1)
        return numbers[places].masked_fill_(self.ids[places] != token_ids, -torch.inf)

    def whole(self, numbers: Tensor) -> Tensor:
        """(vocab,) the (n,) numbers of this row in their places, -inf for what is not left."""
        if self.ids is None:
            return numbers
        return numbers.new_full((self.vocab,), -torch.inf).scatter_(0, self.ids, numbers)

    def mass(self, after: Row) -> Tensor:
        """0-d: the share of this distribution that the survivors of a later row had."""
        if after.ids is not None:
            return self.at(after.ids, self.logp).exp().sum().clamp(max=1)
        return self.logp.exp().where(after.scores > -torch.inf, 0).sum().clamp(max=1)


@dataclass(frozen=True)
class ChainResult:
    """The result of the chain for one row of logits."""

    stages: tuple[str, ...]
    """Those that are on, in order."""
    rows: tuple[Row, ...]
    """(n_stages + 1,): the logits, then what each stage left."""

    @property
    def scores(self) -> Tensor:
        """(vocab,) float32: the final distribution is its softmax; a token at -inf can not be drawn."""
        return self.rows[-1].whole(self.rows[-1].scores)

    @property
    def final_logp(self) -> Tensor:
        """(vocab,) float32, ln p of the final distribution."""
        return self.rows[-1].whole(self.rows[-1].logp)

    def removed_by(self, token_ids: Tensor) -> Tensor:
        """(n,) ids -> (n,) int64: index into `stages` of the one that removed the token, -1 if it can be drawn."""
        gone = torch.stack([row.at(token_ids, row.scores) for row in self.rows]).isneginf()
        return (gone.long().argmax(0) - 1).where(gone[-1], -1)  # the first row where it is gone; row 0: never there

    def summary(self) -> Tensor:
        """(n_stages, 3) float32: survivors of each stage, their mass in what the stage was given, entropy in nats."""
        if not self.stages:
            return self.rows[0].scores.new_empty(0, 3)
        one = self.rows[0].scores.new_ones(())
        numbers = [
            number
            for before, after in zip(self.rows, self.rows[1:], strict=False)
            for number in (after.survivors.float(), one if after.rescored else before.mass(after), after.entropy)
        ]
        return torch.stack(numbers).view(-1, 3)

    def probs(self, token_ids: Tensor) -> Tensor:
        """(n,) ids -> (n_stages, n) float32: the probability of each token after each stage."""
        if not self.stages:
            return self.rows[0].scores.new_empty(0, len(token_ids))
        return torch.stack([row.at(token_ids, row.logp) for row in self.rows[1:]]).exp_()


def narrow(row: Row, kept: Tensor) -> Row:
    """A row without the tokens that (n,) `kept` does not have."""
    if not row.narrows:
        return Row(row.scores.where(kept, -torch.inf), row.vocab, narrows=False)
    alive = row.scores.numpy() > -math.inf
    left = torch.from_numpy(np.flatnonzero(kept.numpy() & alive))  # many times faster than torch's comparison
    return Row(row.scores[left], row.vocab, left if row.ids is None else row.ids[left])
