"""Continuations: the probe that says what else might have been written from a token on, as both ends know it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from msgspec import Meta, Struct

from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Column, Panel, Table, Tokens

CONTINUATIONS = "continuations"
"""The name of the probe."""


class ContinuationOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How many continuations, how long, and which of them count as one."""

    n: Annotated[int, Meta(ge=1, le=64, description="How many are drawn.")] = 8
    tokens: Annotated[int, Meta(ge=1, le=128, description="Tokens of each.")] = 16
    same: Annotated[
        Literal["normalised", "exact"],
        Meta(description="What counts as the same text; normalised: without case, punctuation, articles and space."),
    ] = "normalised"


class Continuation(Struct, frozen=True):
    text: str
    token_ids: tuple[int, ...]
    logprob: float
    """ln p of the whole, model."""
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
        ordered = sorted(self.rows, key=lambda row: (row.group, -row.logprob))
        return (
            Table("over the groups", over, ((self.entropy, n_groups, len(self.rows), self.tokens, self.same),)),
            Table(
                "continuations",
                each,
                tuple(
                    (
                        row.group,
                        Tokens(row.token_ids, row.text.encode("utf-8", "replace")),
                        row.logprob,
                        len(row.token_ids),
                        row.ended,
                    )
                    for row in ordered
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
        case (int() as group, Tokens() as said, float() as logprob, int(), bool() as ended):
            return Continuation(said.token_bytes.decode("utf-8", "replace"), said.ids, logprob, ended, group)
    raise ValueError("no continuations")
