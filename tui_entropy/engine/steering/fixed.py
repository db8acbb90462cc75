"""What vectors add and scale where they act in one way all along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.steering import control_vector
from tui_entropy.engine.steering.plan import OffsetCache, Offsets, SteeringPlan, check_vector
from tui_entropy.records.settings import Vector


def fixed_offsets(loaded: Loaded, vectors: Sequence[Vector]) -> Offsets:
    """The sum of vectors, whose files are read; none of them scales a part. Raises UserError for one that a model of
    this shape cannot have, and for one with a schedule or a condition: a text that is read at once has no step that
    it could hang on."""
    directions: dict[str, control_vector.ControlVector] = {}
    named: list[Vector] = []
    for vector in vectors:
        check_vector(vector, loaded.card)
        if vector.schedule or vector.condition:
            raise UserError(f"{vector.name} acts at some steps only, and here a text is read at once: leave that out")
        own = control_vector.load(Path(vector.source))
        control_vector.check(own, loaded.card.n_layers, loaded.card.d_model)
        name = control_vector.free_name(vector.name, directions)
        directions[name] = own
        named.append(replace(vector, name=name, blocks=tuple(sorted(own.directions))))
    return OffsetCache().of(SteeringPlan(tuple(named)).at(1, ()), directions)
