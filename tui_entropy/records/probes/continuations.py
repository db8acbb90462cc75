"""Continuations: the probe that says what else might have been written from a token on, as both ends know it."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

from msgspec import Meta, Struct

from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Column, Panel, Table, Tokens

CONTINUATIONS = "continuations"
"""The name of the probe."""
ABOUT = "Several short continuations from there, grouped by what they say."
ARTICLES = {"a", "an", "the"}
TO_SPACE = str.maketrans(dict.fromkeys(string.punctuation, " "))


class ContinuationOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How many continuations, how long, and which of them count as one."""

    n: Annotated[int, Meta(ge=1, le=64, description="How many are drawn.")] = 8
    tokens: Annotated[int, Meta(ge=1, le=128, description="Tokens of each.")] = 16
    same: Annotated[
        Literal["normalised", "exact"],
        Meta(description="What counts as the same text; normalised: without case, punctuation, articles and space."),
    ] = "normalised"


class Draw(NamedTuple):
    """A continuation before it is in a group."""

    text: str
    token_ids: tuple[int, ...]
    logprob: float
    ended: bool


class Continuation(Struct, frozen=True):
    text: str
    token_ids: tuple[int, ...]
    logprob: float
    """ln p of the whole, model; NaN where it is unknown."""
    ended: bool
    """With an end of text, and not at the length that was asked for."""
    group: int
    """Rows that say the same have the same number; 0 is the largest group."""


class SampledContinuations(Struct, frozen=True):
    """Short continuations of a text, all from before one token."""

    rows: tuple[Continuation, ...]
    tokens: int
    """Asked for, of each."""
    same: str
    """How two count as one: 'exact' or 'normalised'."""
    entropy: float
    """Over the groups, each as probable as it is frequent: discrete semantic entropy in nats (Farquhar et al. 2024,
    with text in place of entailment)."""

    @classmethod
    def grouped(cls, options: ContinuationOptions, draws: Sequence[Draw]) -> Self:
        """Those that say the same in one group, the largest group first."""
        keys = [one.text if options.same == "exact" else normalize_answer(one.text) for one in draws]
        groups = Counter(keys).most_common()
        place = {key: nth for nth, (key, _) in enumerate(groups)}
        shares = [count / len(draws) for _, count in groups]
        rows = tuple(Continuation(*one, place[key]) for one, key in zip(draws, keys, strict=True))
        entropy = max(-sum(share * math.log(share) for share in shares), 0.0)
        return cls(rows, options.tokens, options.same, entropy)

    @property
    def in_order(self) -> list[Continuation]:
        """The largest group first, and in it the most probable; one of unknown probability last."""
        return sorted(self.rows, key=lambda row: (row.group, math.isnan(row.logprob), -row.logprob))

    @property
    def panels(self) -> tuple[Panel, ...]:
        n_groups = len({row.group for row in self.rows})
        over = (
            Column("discrete semantic entropy", "nats"),
            Column("groups"),
            Column("draws"),
            Column("tokens of each"),
            Column("the same"),
        )
        each = Column("group"), Column("continuation"), Column("ln p", "nats"), Column("tokens"), Column("ends")
        return (
            Table("over the groups", over, ((self.entropy, n_groups, len(self.rows), self.tokens, self.same),)),
            Table(
                "continuations",
                each,
                tuple(
                    (
                        row.group,
                        Tokens(row.token_ids, row.text.encode("utf-8", "replace")),
                        None if math.isnan(row.logprob) else row.logprob,
                        len(row.token_ids),
                        row.ended,
                    )
                    for row in self.in_order
                ),
            ),
        )

    @classmethod
    def of(cls, answer: ProbeAnswer) -> Self:
        """Read off an answer. Raises ValueError for one that is none of this probe's."""
        match answer.panels:
            case (
                Table(rows=((float() as entropy, int(), int(), int() as tokens, str() as same),)),
                Table() as table,
            ):
                rows = tuple(_continuation(row) for row in table.rows)
                return cls(rows, tokens, same, entropy)
        raise ValueError("no continuations")


def _continuation(row: tuple[object, ...]) -> Continuation:
    match row:
        case (int() as group, Tokens() as said, float() | None as logprob, int(), bool() as ended):
            text, known = said.token_bytes.decode("utf-8", "replace"), math.nan if logprob is None else logprob
            return Continuation(text, said.ids, known, ended, group)
    raise ValueError("no continuations")


def normalize_answer(text: str) -> str:
    """Without case, punctuation, articles and runs of space, as answers are compared (Rajpurkar et al. 2016)."""
    return " ".join(word for word in text.lower().translate(TO_SPACE).split() if word not in ARTICLES)
