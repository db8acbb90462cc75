"""The plan of steering, a value: what is added to the residual stream at a step, and which parts are scaled, follows
from the vectors that are set, from how far the text has come, and from which conditions its newest token met.

Two passes are steered alike where their offsets are equal, whenever and by whom those were made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from msgspec.structs import replace
from torch import Tensor

from tui_entropy.breakpoints.condition import ConditionError
from tui_entropy.breakpoints.parser import parse
from tui_entropy.core.errors import UserError
from tui_entropy.engine.steering import control_vector
from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.records.model import ModelCard
from tui_entropy.records.settings import PART, Vector

REMEMBERED = 64
"""Sums of vectors that are kept as tensors; a schedule makes one for each token while a strength changes."""

Key = tuple[Vector, ...]
"""The vectors that act, each at the strength that it has now."""


Scales = Mapping[tuple[int, str], Tensor]
"""Block (1-based) and part of it, as `Vector.part` has it -> its factor: (), or (n,) of n tokens."""
ONE = torch.tensor(1.0)


def scales_of(offsets: Mapping[int, Tensor]) -> Scales:
    """The parts that are scaled beside these offsets."""
    return offsets.scales if isinstance(offsets, Offsets) else {}


def offsets_by_token(offsets: Sequence[Mapping[int, Tensor]]) -> Mapping[int, Tensor]:
    """Those of each token of a pass, block -> (d_model,), as one for all: block -> (n, d_model). Nothing where no
    token has any."""
    shapes = {block: torch.zeros_like(its) for each in offsets for block, its in each.items()}
    pushes = {block: torch.stack([each.get(block, none) for each in offsets]) for block, none in shapes.items()}
    scaled = dict.fromkeys(place for each in offsets for place in scales_of(each))
    scales = {place: torch.stack([scales_of(each).get(place, ONE) for each in offsets]) for place in scaled}
    return Offsets(None, pushes, scales) if scales else pushes


def above(offsets: Mapping[int, Tensor], block: int) -> Mapping[int, Tensor]:
    """Those of the blocks above one."""
    scales = {place: factor for place, factor in scales_of(offsets).items() if place[0] > block}
    pushes = {at: push for at, push in offsets.items() if at > block}
    return Offsets(None, pushes, scales) if scales else pushes


class Offsets(Mapping[int, Tensor]):
    """Block (1-based) -> (d_model,) added to its output, and what is scaled. Equal where the same vectors act at the
    same strengths; without a key each equals itself alone."""

    def __init__(self, key: Key | None, tensors: Mapping[int, Tensor], scales: Scales | None = None) -> None:
        self.key = key
        self._tensors = tensors
        self.scales = scales or {}

    def __getitem__(self, block: int) -> Tensor:
        return self._tensors[block]

    def __iter__(self) -> Iterator[int]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __bool__(self) -> bool:
        return bool(self._tensors or self.scales)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Offsets) and self.key is not None and self.key == other.key)

    def __hash__(self) -> int:
        return id(self) if self.key is None else hash(self.key)


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
            if vector.on and strength != vector.neutral and (not vector.condition or vector.condition in met):
                acting.append(replace(vector, strength=strength, schedule=(), condition="", blocks=_blocks(vector)))
        return tuple(acting)


def _blocks(vector: Vector) -> tuple[int, ...]:
    """Those of a vector are known by its name."""
    return vector.blocks if vector.part else ()


def check_vector(vector: Vector, card: ModelCard) -> None:
    """Raise UserError for a condition that is none, and for points of a schedule that do not rise."""
    try:
        if vector.condition:
            parse(vector.condition, card)
    except ConditionError as mistake:
        raise UserError(f"the condition of {vector.name!r}: {mistake}", mistake.place()) from None
    if vector.part and not (len(vector.blocks) == 1 and PART.fullmatch(f"{vector.blocks[0]}.{vector.part}")):
        raise UserError(f"{vector.part!r} is no part that is scaled: name a head by its number, or attention")
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
            pushes = control_vector.offsets([vector for vector in key if not vector.part], directions)
            scales = {(vector.blocks[0], vector.part): torch.tensor(vector.strength) for vector in key if vector.part}
            self._known[key] = Offsets(key, pushes, scales)
        return self._known[key]
