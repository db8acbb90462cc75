"""The vectors of a recorded session, read once more from where they were, for a server that is steered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.events import Event, Ready, SettingsPending, Started, VectorsChanged
from tui_entropy.records.settings import Vector
from tui_entropy.servers.run import changed
from tui_entropy.servers.vllm_lens.inside import Inside
from tui_entropy.servers.vllm_lens.steering import Change, steers


class RecordedVectors:
    """Every vector that a session knew, off, in the order in which it came to know them."""

    def __init__(self, events: Iterable[Event], inside: Inside | None) -> None:
        """inside: of a server that is steered, which reads those that it lacks."""
        self.lost: list[str] = []
        """Half a sentence for each that is not what it was."""
        self._there: dict[str, Vector] = {}
        known: dict[str, Vector] = {}
        acted: dict[str, None] = {}
        for event in events:
            if isinstance(event, Ready | Started | VectorsChanged | SettingsPending):
                known |= {one.name: one for one in event.vectors}
                acted |= {one.name: None for one in event.vectors if steers([one])}
        if inside is None and acted:
            self.lost.append(f"it was steered by {', '.join(acted)}, and this server is not steered")
        if inside is not None:
            self._read(known.values(), inside)

    def _read(self, known: Iterable[Vector], inside: Inside) -> None:
        for vector in known:
            there = {one.name: one for one in inside.steering.vectors}
            try:
                if vector.name not in there:
                    inside.steering.set(replace(vector, on=False))
            except UserError as mistake:
                self.lost.append(f"the vector {vector.name} is missing ({mistake})")
                continue
            found = next((one for one in inside.steering.vectors if one.name == vector.name), None)
            if found is None or (vector.hash and vector.hash != found.hash):
                self.lost.append(f"the vector {vector.name} of {vector.source} has other directions than it had")
            if found is not None:
                self._there[vector.name] = found

    def present(self, vectors: Sequence[Vector]) -> tuple[Vector, ...]:
        """As they were set, without those that are lost."""
        there = self._there
        return tuple(
            replace(one, source=there[one.name].source, blocks=there[one.name].blocks, hash=there[one.name].hash)
            for one in vectors
            if one.name in there
        )

    def changes(self, told: Sequence[VectorsChanged]) -> list[Change]:
        """What acted on a text from which step on. told: each time that they changed, the first as it began."""
        found: list[Change] = [(0, self.present(told[0].vectors) if told else ())]
        for one in told[1:]:
            vectors = self.present(one.vectors)
            found = [(0, vectors)] if one.rebuilt else changed(found, one.index, vectors)
        return found
