"""From logits to the next token over buffers, so that a CUDA graph can hold that too (graphs.py).

The knobs are numbers in a buffer: turning one needs no new graph; switching a stage on or off does. What looks at the
host for each token is not done here: stages that are not `in_graph`, bans, forced tokens, adaptive samplers, shadows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace
from torch import Tensor

from tui_entropy.engine.cuda_graph.graphs import Graphs
from tui_entropy.engine.instruments.head_measures import HeadStatistics
from tui_entropy.engine.measure.step_record import (
    Numbers,
    choice_metrics,
    model_metrics,
    pack,
    tracked_token_metrics,
    unpack,
)
from tui_entropy.engine.sampling.chain import chain, draw_of_all, first_mu, is_greedy, settled, stages
from tui_entropy.engine.sampling.distribution import SamplingContext
from tui_entropy.engine.sampling.gumbel import stream, uniform
from tui_entropy.engine.sequence.view import SequenceView
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.registry import BY_NAME, STAGES

if TYPE_CHECKING:
    from tui_entropy.engine.sampling.settings import Controls

HELD = tuple(knob for stage in STAGES if stage.in_graph for knob in stage.knobs if knob.is_number)
"""Knobs in the buffer, followed there by mirostat's bound and the uniform number of the step."""


@dataclass(frozen=True)
class GraphInputs:
    """Buffers that a choice reads."""

    logits: Tensor
    """(vocab,) float32."""
    measures: HeadStatistics
    stream: Tensor
    """(n_layers, d_model)."""
    values: Tensor
    """(len(HELD) + 2,) float32."""
    noise: Tensor
    """0-d int64, see gumbel.stream."""
    watched: Tensor
    """(n,) ids."""


class GraphSampling:
    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self._asked: dict[int, GraphInputs] = {}
        """By how many tokens are watched."""

    def supports(self, now: Controls, sequence: SequenceView) -> bool:
        """Whether all that acts here is in tensors."""
        interventions = sequence.forced or sequence.banned or sequence.shadow is not None or now.knobs.banned
        held = all(BY_NAME[stage].in_graph for stage in stages(now.knobs))
        return now.knobs.adaptive == "off" and not interventions and held

    def choose(
        self,
        logits: Tensor,
        measures: HeadStatistics,
        stream: Tensor,
        also: Mapping[str, Tensor],
        now: Controls,
        sequence: SequenceView,
    ) -> tuple[tuple[str, ...], Numbers]:
        """The stages that are on, and all numbers of the step (see step_record), on the host. also: further ones,
        which nothing here looks at."""
        asked = self._fill(logits, measures, stream, now, sequence)
        knobs, on = settled(now.knobs), stages(now.knobs)
        key = ("choice", on, *acting(on, knobs), knobs.n_candidates, len(now.watched))
        flat, sizes = self._graphs.run(key, lambda: _chosen(asked, on, knobs))
        if also:
            flat = torch.cat([flat, pack(also)])
        return on, unpack(flat, {**sizes, **{name: tensor.numel() for name, tensor in also.items()}})

    def _fill(
        self, logits: Tensor, measures: HeadStatistics, stream_: Tensor, now: Controls, sequence: SequenceView
    ) -> GraphInputs:
        knobs, position = now.knobs, sequence.n_tokens - sequence.position_offset
        if len(now.watched) not in self._asked:
            self._asked[len(now.watched)] = GraphInputs(
                torch.empty_like(logits),
                HeadStatistics(*map(torch.empty_like, measures)),
                torch.empty_like(stream_),
                logits.new_empty(len(HELD) + 2),
                torch.zeros((), dtype=torch.long, device=logits.device),
                torch.zeros(len(now.watched), dtype=torch.long, device=logits.device),
            )
        asked = self._asked[len(now.watched)]
        asked.logits.copy_(logits)
        for held, new in zip(asked.measures, measures, strict=True):
            held.copy_(new)
        asked.stream.copy_(stream_)
        numbers = [float(getattr(knobs, knob.name)) for knob in HELD]
        numbers += [first_mu(sequence.mu, knobs), uniform(knobs.seed, position)]
        asked.values.copy_(torch.tensor(numbers))
        asked.noise.fill_(stream(knobs.seed, position))
        if now.watched:
            asked.watched.copy_(torch.tensor(now.watched))
        return asked


def _chosen(asked: GraphInputs, on: tuple[str, ...], knobs: Knobs) -> tuple[Tensor, Mapping[str, int]]:
    """The choice itself, of nothing but tensors that stay where they are. knobs: for what is not a number."""
    *values, mu, uniform = asked.values.unbind()
    knobs = settled(knobs)
    acts = acting(on, knobs)
    held: dict[str, Any] = {knob.name: value for knob, value in zip(HELD, values, strict=True) if knob.name in acts}
    logp, numbers = model_metrics(asked.logits, asked.measures, asked.stream, knobs.n_candidates)
    numbers |= tracked_token_metrics(asked.logits, logp, asked.watched)
    no_tokens = asked.noise.new_empty(0)
    past = SamplingContext(no_tokens, no_tokens, 0, mu, uniform=uniform)
    chained = chain(on, replace(knobs, **held), asked.logits, past, narrows=False)
    token = draw_of_all(chained.scores, asked.noise)
    numbers = numbers | choice_metrics(asked.logits, logp, numbers["ids"], chained, token)
    return pack(numbers), {name: tensor.numel() for name, tensor in numbers.items()}


def acting(on: tuple[str, ...], knobs: Knobs) -> list[str]:
    """The knobs of HELD that a stage looks at as a tensor. What is off or greedy stays a number for Python to see."""
    given = {name for stage in on for name in BY_NAME[stage].given}
    given -= {"temperature"} if is_greedy(knobs) else set()
    return [knob.name for knob in HELD if knob.name in given and getattr(knobs, knob.name) != knob.off]
