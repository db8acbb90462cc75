"""The instruments that hang in a model while a run is read: attention, residual stream, steering."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from tui_entropy.engine.cuda_graph.forward_pass import GraphForward, unsupported_reason
from tui_entropy.engine.cuda_graph.graphs import Graphs
from tui_entropy.engine.cuda_graph.sampling_pass import GraphSampling
from tui_entropy.engine.instruments.attention import AttentionInstrument, attention_instrument
from tui_entropy.engine.instruments.attention_functions import own_function, unwatched
from tui_entropy.engine.instruments.head_measures import AttentionState
from tui_entropy.engine.instruments.residual import ResidualInstrument, residual_instrument
from tui_entropy.engine.kernels.two_row_linear import two_row_linear
from tui_entropy.engine.lenses.decoding import Decoding
from tui_entropy.engine.lenses.live import LiveLens
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.view import SequenceView
from tui_entropy.engine.steering.hooks import Steering, steering
from tui_entropy.records.model import COLUMNS

NO_GRAPH = "decode steps run one kernel at a time and not as a CUDA graph: {}"
"""A word to a person who asked for graphs; `Instruments.plainly` goes in."""


class GraphDecoder(NamedTuple):
    """A decode step as a CUDA graph holds it."""

    step: GraphForward
    choice: GraphSampling


@dataclass(frozen=True, slots=True)
class Instruments:
    """What watches and steers a model while `open_instruments` is."""

    attention: AttentionInstrument
    residual: ResidualInstrument
    steering: Steering
    lens: LiveLens
    graph_decoder: GraphDecoder | None = None
    """Single tokens are read and chosen by this where it can be."""
    no_graph_reason: str = ""
    """Why they are not, in half a sentence, where a device could hold them as graphs."""

    @property
    def way(self) -> str:
        """The way in which decode steps run on a device that knows both: 'graph' or 'plain'."""
        return "graph" if self.graph_decoder and not self.graph_decoder.step.graphs.failed else "plain"

    def look_at(self, sequence: SequenceView) -> None:
        """Measure and keep, from now on, what is of this text and of those that are read with it."""
        first = sequence.batch[0]
        self.attention.attention_state, self.residual.vectors = first.attention_state, first.vectors

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Whatever is looked at in between, the text that is looked at now is looked at again afterwards."""
        before = self.attention.attention_state, self.residual.vectors
        try:
            yield
        finally:
            self.attention.attention_state, self.residual.vectors = before

    @contextmanager
    def nobody_looking(self, loaded: Loaded) -> Iterator[None]:
        """The model is read by itself for as long as the `with` lasts; what steers it may be set, and is put back."""
        attention = [module for module in loaded.architecture.attention_modules if module is not None]
        before = self.steering.rows
        with self.aside(), unwatched(attention, own_function(loaded.architecture.decoder)):
            self.attention.attention_state = AttentionState(keeps=False)
            self.residual.vectors = list(self.residual.vectors)
            try:
                yield
            finally:
                self.steering.set(*before)


@contextmanager
def open_instruments(
    loaded: Loaded, keep: int = 512, graph: bool | None = None, record: str = "off"
) -> Iterator[Instruments]:
    """Hang every instrument into a model; it is left as it was found.

    keep: recent queries kept for attention rows. record: which rows each step has with it, one of RECORDED_ROWS.
    graph: whether steps go the way that a CUDA graph can hold, if the model can; None for where there are graphs and
    they are wanted.
    """
    with (
        attention_instrument(loaded.model, loaded.architecture, keep, record) as attention,
        steering(loaded.architecture) as steer,
        residual_instrument(loaded.architecture) as residual,
        two_row_linear(loaded.model, loaded.card.products == COLUMNS),
    ):
        lens = LiveLens(Decoding(loaded.model, loaded.architecture))
        if graph is None:
            graph = loaded.graph and loaded.model.device.type == "cuda"
        if not graph:
            yield Instruments(attention, residual, steer, lens)
            return
        graphs = Graphs(loaded.model.device)
        step = GraphForward(loaded, attention, residual, steer, graphs)
        reason = unsupported_reason(step)
        decoder = None if reason else GraphDecoder(step, GraphSampling(graphs))
        yield Instruments(attention, residual, steer, lens, decoder, reason)
