"""What is hung into a model while a run is read: attention, residual stream, steering."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from tui_entropy.engine.cuda_graph.forward_pass import CapturedPass, why_not
from tui_entropy.engine.cuda_graph.graphs import Graphs
from tui_entropy.engine.cuda_graph.sampling_pass import CapturedChoice
from tui_entropy.engine.instruments.attention import AttentionProbe, attention_probe
from tui_entropy.engine.instruments.residual import ResidualProbe, residual_probe
from tui_entropy.engine.kernels.two_row_linear import few_rows
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.sequence import Context
from tui_entropy.engine.steering.hooks import Steering, steering
from tui_entropy.records.model import COLUMNS

PLAINLY = "decode steps run one kernel at a time and not as a CUDA graph: {}"
"""A word to a person who asked for graphs; `Instruments.plainly` goes in."""


class Captured(NamedTuple):
    """A decode step as a CUDA graph holds it."""

    step: CapturedPass
    choice: CapturedChoice


@dataclass(frozen=True, slots=True)
class Instruments:
    """What watches and steers a model while `instruments` is open."""

    attention: AttentionProbe
    residual: ResidualProbe
    steering: Steering
    captured: Captured | None = None
    """Single tokens are read and chosen by this where it can be."""
    plainly: str = ""
    """Why they are not, in half a sentence, where a device could hold them as graphs."""

    def look_at(self, context: Context) -> None:
        """What is measured and kept from now on is of this text, and of those that are read with it."""
        first = context.rows[0]
        self.attention.held, self.residual.vectors = first.held, first.vectors

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Whatever is looked at in between, the text that is looked at now is looked at again afterwards."""
        before = self.attention.held, self.residual.vectors
        try:
            yield
        finally:
            self.attention.held, self.residual.vectors = before


@contextmanager
def instruments(loaded: Loaded, keep: int = 512, captured: bool | None = None) -> Iterator[Instruments]:
    """Open every probe on a model; it is left as it was found.

    keep: recent queries kept for attention rows. captured: whether steps go the way that a CUDA graph can hold, if
    the model can; None for where there are graphs and they are wanted.
    """
    with (
        attention_probe(loaded.model, loaded.anatomy, keep) as attention,
        steering(loaded.anatomy) as steer,
        residual_probe(loaded.anatomy) as residual,
        few_rows(loaded.model, loaded.card.products == COLUMNS),
    ):
        if captured is None:
            captured = loaded.graph and loaded.model.device.type == "cuda"
        if not captured:
            yield Instruments(attention, residual, steer)
            return
        graphs = Graphs(loaded.model.device)
        step = CapturedPass(loaded, attention, residual, steer, graphs)
        reason = why_not(step)
        yield Instruments(
            attention, residual, steer, None if reason else Captured(step, CapturedChoice(graphs)), reason
        )
