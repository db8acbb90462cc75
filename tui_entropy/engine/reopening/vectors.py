"""The vectors of a recorded session, read once more from where they were."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.engine.session.state import SessionState
from tui_entropy.engine.steering import control_vector
from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.records.events import Event, Ready, SettingsPending, Started, VectorsChanged
from tui_entropy.records.settings import Vector


class RecordedVectors:
    """Every vector that a session knew, by name, in the order in which it came to know them."""

    def __init__(self) -> None:
        self._known: dict[str, Vector] = {}
        self._lost: set[str] = set()

    def take(self, event: Event) -> None:
        if isinstance(event, Ready | Started | VectorsChanged | SettingsPending):
            self._known |= {vector.name: vector for vector in event.vectors}

    def read(self, state: SessionState) -> tuple[str, ...]:
        """Have the state know them, off as it is. Returns half a sentence for each that is not what it was; one that
        is not there any more steers nothing."""
        found: list[str] = []
        there = {vector.name: vector for vector in state.vectors}
        for name, vector in self._known.items():
            try:
                there[name] = self._found(state, vector, there.get(name))
            except UserError as mistake:
                self._lost.add(name)
                found.append(f"{'what scales' if vector.part else 'the vector'} {name} is missing ({mistake})")
                state.directions[name] = ControlVector(name, {})
                continue
            if vector.hash and vector.hash != there[name].hash:
                found.append(f"the vector {name} of {vector.source} has other directions than it had")
        known = [there[name] for name in self._known if name not in self._lost]
        state.vectors = (*known, *(vector for vector in state.vectors if vector.name not in self._known))
        return tuple(found)

    @staticmethod
    def _found(state: SessionState, vector: Vector, built_in: Vector | None) -> Vector:
        """It as it is there now, off. Raises UserError."""
        if vector.part:
            state.find_part(vector)
            return replace(vector, on=False)
        if built_in is None or built_in.source != vector.source:
            read = control_vector.load(Path(vector.source))
            control_vector.check(read, state.loaded.card.n_layers, state.loaded.card.d_model)
            state.directions[vector.name] = read
        made = state.directions[vector.name]
        return replace(vector, blocks=tuple(sorted(made.directions)), on=False, hash=made.hash)

    def present(self, state: SessionState, vectors: Iterable[Vector]) -> tuple[Vector, ...]:
        """Vectors as they were set, without those that are lost."""
        there = {vector.name: vector for vector in state.vectors}
        return tuple(
            replace(vector, blocks=there[vector.name].blocks, hash=there[vector.name].hash)
            for vector in vectors
            if vector.name in there
        )
