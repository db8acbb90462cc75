"""The plan of steering, a value: what is added to the residual stream at a step follows from the vectors that are
set, from how far the text has come, and from which of their conditions its newest token met.

Two passes are steered alike where their offsets are equal, whenever and by whom those were made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tui_entropy.breakpoints.condition import ConditionError
from tui_entropy.breakpoints.parser import parse
from tui_entropy.core.errors import UserError
from tui_entropy.engine.steering import control_vector
from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.records.model import ModelCard
from tui_entropy.records.settings import Vector

REMEMBERED = 64
"""Sums of vectors that are kept as tensors; a schedule makes one for each token while a strength changes."""

Key = tuple[Vector, ...]
"""The vectors that act, each at the strength that it has now."""


def offsets_by_token(offsets: Sequence[Mapping[int, Tensor]]) -> Mapping[int, Tensor]:
    """Those of each token of a pass, block -> (d_model,), as one for all: block -> (n, d_model). Nothing where no
    token has any."""
    shapes = {block: torch.zeros_like(its) for each in offsets for block, its in each.items()}
    return {block: torch.stack([each.get(block, none) for each in offsets]) for block, none in shapes.items()}


class Offsets(Mapping[int, Tensor]):
    """Block (1-based) -> (d_model,) added to its output. Equal where the same vectors act at the same strengths."""

    def __init__(self, key: Key, tensors: Mapping[int, Tensor]) -> None:
        self.key = key
        self._tensors = tensors

    def __getitem__(self, block: int) -> Tensor:
        return self._tensors[block]

    def __iter__(self) -> Iterator[int]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Offsets) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def same_offsets(one: Mapping[int, Tensor], other: Mapping[int, Tensor]) -> bool:
    """Whether two steer alike. A mapping that is no `Offsets` has no value to go by, and equals itself alone unless
    it is empty."""
    if one is other or not (one or other):
        return True
    return isinstance(one, Offsets) and one == other


@dataclass(frozen=True)
class SteeringPlan:
    """Vectors with their strengths, ranges of blocks, schedules and conditions."""

    vectors: tuple[Vector, ...]

    @property
    def conditions(self) -> frozenset[str]:
        """The conditions of vectors that are on."""
        return frozenset(vector.condition for vector in self.vectors if vector.on and vector.condition)

    def at(self, step: int, met: Collection[str]) -> Key:
        """The vectors that act on the pass for step `step`, 1 for the first, which the prompt is read for. met:
        conditions that the newest token met."""
        acting = []
        for vector in self.vectors:
            strength = vector.strength_at(step)
            if vector.on and strength and (not vector.condition or vector.condition in met):
                acting.append(Vector(vector.name, vector.source, (), strength, True, vector.first, vector.last))
        return tuple(acting)


def check_vector(vector: Vector, card: ModelCard) -> None:
    """Raise UserError for a condition that is none, and for points of a schedule that do not rise."""
    try:
        if vector.condition:
            parse(vector.condition, card)
    except ConditionError as mistake:
        raise UserError(f"the condition of {vector.name!r}: {mistake}", mistake.place()) from None
    if any(one >= other for (one, _), (other, _) in pairwise(vector.schedule)):
        raise UserError(f"the steps of the schedule of {vector.name!r} do not rise: name each once, in order")


class OffsetCache:
    """Offsets by their key, so that what acts on every step is summed up once."""

    def __init__(self) -> None:
        self._known: dict[Key, Offsets] = {}

    def of(self, key: Key, directions: Mapping[str, ControlVector]) -> Offsets:
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = Offsets(key, control_vector.offsets(key, directions))
        return self._known[key]
