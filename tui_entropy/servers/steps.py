"""StepMaker: what a server told of a token, as a step: what is known, what is bounded, and nothing else."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from tui_entropy.metrics.registry import numbers
from tui_entropy.records.arrays import Grid
from tui_entropy.records.model import ModelCard
from tui_entropy.records.source import OwnDraw
from tui_entropy.records.step import PERPLEXITY_WINDOW, Bounds, Candidate, Stage, Step, sparse_step
from tui_entropy.servers.streams.band import (
    MOST_VOCAB,
    ROUNDING,
    Band,
    are_probabilities,
    bands,
)
from tui_entropy.servers.streams.told_token import Alternative, ToldToken
from tui_entropy.servers.tokens import TokenNames


class StepMaker:
    """The steps of one run, in order. What it counts up can be taken back to an earlier step by making it anew."""

    def __init__(self, card: ModelCard, names: TokenNames, n_prompt: int) -> None:
        self._card, self._names, self._n_prompt = card, names, n_prompt
        self._n, self._nats = 0, 0.0
        """Tokens counted, and the sum of their surprisals; NaN once one of them is unknown."""
        self._window: deque[float] = deque(maxlen=PERPLEXITY_WINDOW - 1)

    def count(self, step: Step) -> None:
        """This step is part of the text now."""
        self._n, self._nats = self._n + 1, self._nats + step.surprisal
        self._window.append(step.surprisal)

    def step(
        self,
        told: ToldToken,
        run: int,
        index: int,
        n_candidates: int,
        seconds: float,
        at: float,
        forced: bool = False,
        own: OwnDraw | None = None,
        inside: Mapping[str, Any] | None = None,
    ) -> Step:
        """seconds: since the token before. at: since the run began. forced: it is written whatever the model said.
        own: how it was drawn here. inside: fields of the step that were measured at the server."""
        name = self._names.of(told)
        top = told.alternatives[: self._card.server.n_logprobs] if self._card.server else told.alternatives
        candidates = tuple(self._candidate(one) for one in top[:n_candidates])
        n_asked = self._card.server.n_logprobs if self._card.server else 0
        values, bounds = known(told, self._card.vocab, n_asked)
        surprisal = values.get("surprisal")
        spent = math.nan if surprisal is None else surprisal
        drawn = _own(own, candidates) if own else _forced(name.token_id, spent, candidates) if forced else {}
        return sparse_step(
            self._card,
            numbers(**values),
            **{
                "run": run, "index": index, "position": self._n_prompt + index,
                "token_id": name.token_id, "token_bytes": name.token_bytes, "text": told.text,
                "perplexity": _perplexity(self._nats + spent, self._n + 1),
                "window_perplexity": _perplexity(sum(self._window) + spent, len(self._window) + 1),
                "candidates": candidates, "bounds": bounds, "forward_seconds": seconds, "at": at, **drawn,
                **(inside or {}),
            },
        )  # fmt: skip

    def _candidate(self, one: Alternative) -> Candidate:
        name = self._names.of_alternative(one)
        return Candidate(name.token_id, name.token_bytes, one.logprob, math.nan)


def known(told: ToldToken, vocab: int, n_logprobs: int) -> tuple[dict[str, float | None], tuple[Bounds, ...]]:
    """(numbers by the fields of metrics, bounds of others). vocab: 0 where it is not known. n_logprobs: how many were
    asked for. Where what is told can be no log-probabilities, nothing is known."""
    values = [one.logprob for one in told.alternatives]
    if (told.logprob is not None and told.logprob > ROUNDING) or (values and not are_probabilities(values)):
        return {}, ()
    n_lost, values = _lost(told, n_logprobs), most_probable(told, n_logprobs)
    found: dict[str, float | None] = {}
    if told.logprob is not None:
        found["surprisal"] = max(-told.logprob, 0.0)
    if len(values) < 2:
        return found, ()
    size = max(vocab or MOST_VOCAB, len(values))
    entropy, varentropy = bands(values, size, n_lost > 0)
    bounds: dict[str, Band | None] = {"entropy": entropy, "varentropy": varentropy}
    if not n_lost:
        found |= {"logit_margin": values[0] - values[1], "prob_margin": math.exp(values[0]) - math.exp(values[1])}
    if vocab:
        bounds["uniform_kl"] = Band(max(math.log(vocab) - entropy.high, 0.0), max(math.log(vocab) - entropy.low, 0.0))
    if told.logprob is not None:
        better = sum(value > told.logprob for value in values)
        if better < len(values) or len(values) == vocab:
            bounds["rank"] = Band(better + 1, better + 1 + n_lost)
        elif vocab:
            bounds["rank"] = Band(len(values) + 1, vocab)
    for name, band in bounds.items():
        if band is not None and band.is_point:
            found[name] = (band.low + band.high) / 2
    left = [(name, band) for name, band in bounds.items() if band is not None and name not in found]
    return found, tuple(Bounds(name, *band) for name, band in left)


SCORED = ("surprisal", "rank", "logit_margin", "prob_margin")
"""What is known of the tokens of a prompt."""


def prompt_scores(told: Sequence[ToldToken], vocab: int, n_logprobs: int) -> Grid:
    """(n, len(SCORED)) for tokens of a prompt that were told of; NaN is unknown."""
    found = (known(one, vocab, n_logprobs)[0] for one in told)
    values = [[one.get(name) for name in SCORED] for one in found]
    return Grid.of([[math.nan if value is None else value for value in row] for row in values])


def most_probable(told: ToldToken, n_logprobs: int) -> list[float]:
    """Those of which it is sure that no other token is more probable: the written one is told beside them where it is
    not among so many, and says nothing of those between."""
    values = [one.logprob for one in told.alternatives[: n_logprobs or None]]
    if not values or told.alternatives[0].token_id is not None:
        return values
    if told.logprob is None:  # among tokens that are named by texts nothing tells whether it is one of them
        return []
    return values[:-1] if values[-1] <= told.logprob + 1e-6 else values


def _lost(told: ToldToken, n_logprobs: int) -> int:
    """How many of the most probable tokens may be missing: where tokens are named by their texts, those of one text
    are one. The written token may be told beside the others."""
    others = told.alternatives
    if not others or others[0].token_id is not None:
        return 0
    is_extra = told.logprob is not None and others[-1].logprob >= told.logprob - 1e-6
    return max(n_logprobs - (len(others) - is_extra), 0)


def _perplexity(nats: float, n: int) -> float:
    """exp of the mean of n surprisals that add up to so much; NaN where one of them is unknown."""
    return math.exp(min(nats / n, 700.0)) if nats == nats else math.nan


def _forced(token_id: int, surprisal: float, candidates: tuple[Candidate, ...]) -> dict[str, Any]:
    """Fields of a step whose token a person put there: after that stage it has all of the probability."""
    row = [1.0, *(float(one.token_id == token_id) for one in candidates)]
    return {"stages": (Stage("forced", 1, math.exp(-surprisal), 0.0),), "stage_probs": Grid.of([row])}


def _own(own: OwnDraw, candidates: tuple[Candidate, ...]) -> dict[str, Any]:
    """Fields of a step whose token our own chain drew."""
    ways = zip(candidates, own.candidate_probs, own.cut, strict=True)
    return {
        "stages": own.stages, "stage_probs": own.stage_probs, "final_entropy": own.final_entropy,
        "final_prob": own.final_prob,
        "candidates": tuple(replace(one, final_prob=final, cut=cut) for one, final, cut in ways),
    }  # fmt: skip
