"""The head whose attention rows go into the record beside the means: which a person looks at, or a telling one."""

from __future__ import annotations

from tui_entropy.core.errors import UserError
from tui_entropy.engine.instruments.telling_head import telling_head
from tui_entropy.engine.sequence.view import SequenceView
from tui_entropy.engine.session.state import SessionState
from tui_entropy.records.events import HeadSelected


class HeadSelection:
    """Chosen once by what the heads looked at so far, as soon as enough is read; then only by a person."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._seeks = state.instruments.attention.recording.wanted == "shown"

    def select(self, layer: int, head: int | None) -> None:
        """Counts from the next step on. Raises UserError for a head that is not there."""
        card = self._state.loaded.card
        if not (1 <= layer <= card.n_layers and (head is None or 1 <= head <= card.n_heads)):
            which = f"block {layer}" if head is None else f"head {head} of block {layer}"
            raise UserError(
                f"there is no {which}: this model has {card.n_layers} blocks with {card.n_heads} heads each"
            )
        self._seeks = False
        self._take(HeadSelected(layer, head))

    def recall(self, selected: HeadSelected) -> None:
        """This one was selected before, as was told then."""
        self._seeks = False
        if self._state.instruments.attention.recording.wanted == "shown":
            self._state.instruments.attention.recording.select(selected.layer, selected.head)

    def find(self, sequence: SequenceView) -> None:
        """Select the one to begin with, once enough of a text is read to tell and unless a person did."""
        if not self._seeks:
            return
        instruments = self._state.instruments
        with instruments.aside():
            instruments.look_at(sequence)
            found = telling_head(instruments.attention)
        if found is not None:
            self._seeks = False
            self._take(HeadSelected(*found, by_score=True))

    def _take(self, selected: HeadSelected) -> None:
        recording = self._state.instruments.attention.recording
        if recording.wanted == "shown":
            recording.select(selected.layer, selected.head)
            self._state.emit(selected)
