"""From the logits of a pass to a chosen token and its step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tui_entropy.engine.decoding import entropix_sampler
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.instruments.head_measures import HeadStatistics
from tui_entropy.engine.instruments.row_recording import WIDTH, RowRecording
from tui_entropy.engine.kernels.threads import one_thread
from tui_entropy.engine.measure.clock import Clock
from tui_entropy.engine.measure.finite import broken, refuse
from tui_entropy.engine.measure.step_record import (
    Numbers,
    choice_metrics,
    model_metrics,
    step_record,
    to_host,
    tracked_token_metrics,
)
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.chain import apply, draw, first_mu, force_token, next_mu
from tui_entropy.engine.sampling.distribution import ChainResult, SamplingContext
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.view import Choice, SequenceView
from tui_entropy.engine.tokenization.tokenizer import DecodeStream
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.quantised_rows import QuantisedRows, quantised
from tui_entropy.records.step import Decision, Step


def build_step(
    loaded: Loaded,
    instruments: Instruments,
    sequence: SequenceView,
    now: Controls,
    chose: Chosen,
    clock: Clock,
    run: int,
) -> tuple[Step, float | None]:
    """The step that comes next, and mirostat's bound for the one after it."""
    numbers = chose[1]
    return step_of(
        sequence, now, chose, instruments.attention.visible_keys(),
        run=run, forward_seconds=clock.forward_seconds, sample_seconds=clock.sample_seconds, at=clock.at,
        shadow=None if sequence.shadow is None else sequence.shadow.record(numbers, sequence.text),
        attention_rows=_recorded_rows(
            instruments.attention.recording, instruments.attention.recorded_rows(sequence.batch_index).shown, numbers
        ),
        lens_rows=_lens_rows(numbers, sequence.text),
    )  # fmt: skip


def step_of(
    sequence: SequenceView, now: Controls, chose: Chosen, visible_keys: tuple[int | None, ...], **known: Any
) -> tuple[Step, float | None]:
    """The same from what was chosen, with further fields that are known of it."""
    stages, numbers, decision = chose
    mu = first_mu(sequence.mu, now.knobs) if "mirostat_tau" in stages else None
    step = step_record(
        numbers, stages, visible_keys, sequence.running_stats, sequence.text,
        index=sequence.n_written, position=sequence.n_tokens, decision=decision, mirostat_mu=mu, **known,
    )  # fmt: skip
    return step, None if mu is None else next_mu(mu, now.knobs, step.final_prob)


def _recorded_rows(recording: RowRecording, shown: tuple[int, int] | None, numbers: Numbers) -> QuantisedRows | None:
    if "attention_rows" not in numbers:
        return None
    rows = numbers["attention_rows"].reshape(-1, WIDTH)
    if recording.wanted == "all":
        return quantised(rows, recording.n_layers, recording.n_heads)
    return quantised(rows if shown else rows[:-1], recording.n_layers, 0, shown)


def _lens_rows(numbers: Numbers, text: DecodeStream) -> tuple[LensRow, ...]:
    rows = numbers["lens"].reshape(-1, 7).tolist() if "lens" in numbers else []
    return tuple(
        LensRow(int(layer), int(top), text.token_bytes(int(top)), p, entropy, kl, int(rank))
        for layer, top, p, entropy, kl, rank, _ in rows
    )


Chosen = tuple[tuple[str, ...], Numbers, Decision | None]
"""The stages that were on, the numbers on the host, and what an adaptive sampler decided."""


def choose(
    instruments: Instruments, sequence: SequenceView, now: Controls, logits: Tensor, given: int | None = None
) -> Chosen:
    """From (vocab,) logits to the next token: what the model believes, what the chain makes of it, the draw; or the
    token that is given. Then, where the lens is on, what layers before the last would have said."""
    stages, numbers, decision = _choose(instruments, sequence, now, logits, given)
    knobs = now.knobs
    if knobs.lens and now.lens and sequence.n_written % knobs.lens_steps == 0 and instruments.lens.is_there:
        layers, token_id = instruments.residual.layers(sequence.batch_index), int(numbers["token_id"][0])
        rows = instruments.lens.read(layers, logits, token_id, knobs.lens, now.lens)
        numbers = {**numbers, "lens": rows.flatten().cpu().numpy()}
    return stages, numbers, decision


@one_thread
def _choose(
    instruments: Instruments, sequence: SequenceView, now: Controls, logits: Tensor, given: int | None
) -> Chosen:
    instruments.look_at(sequence)
    row = sequence.batch_index
    measures, stream = instruments.attention.head_statistics(row), instruments.residual.stream(row)
    recorded = (
        {"attention_rows": instruments.attention.recorded_rows(row).rows} if instruments.attention.recording else {}
    )
    graph = instruments.graph_decoder if given is None else None
    if graph is not None and graph.choice.supports(now, sequence):
        stages, metrics = graph.choice.choose(logits, measures, stream, recorded, now, sequence)
        return stages, whole(metrics, logits, sequence), None
    logp, belief = believed(sequence, now, logits, measures, stream)
    decision = None
    if now.knobs.adaptive != "off":
        seen = entropix_sampler.decision_inputs(
            whole(to_host(belief), logits, sequence), instruments.attention.visible_keys()
        )
        newest = int(sequence.ids[-1]) if sequence.n_written else None
        may_ask = now.clarifier not in (None, newest)
        decision = entropix_sampler.decide(now.knobs, seen, sequence.running_stats, may_ask)
    forced = sequence.forced[0] if sequence.forced else None
    drawn = sample_token(logits, logp, now, sequence, sequence.prompt, decision, sequence.banned, forced, given)
    numbers = belief | recorded | choice_metrics(logits, logp, belief["ids"], *drawn)
    if sequence.shadow is not None:
        numbers |= sequence.shadow.compare(now, sequence, Choice(logp, belief["ids"], *drawn, decision))
    return drawn[0].stages, whole(to_host(numbers), logits, sequence), decision


def believed(
    sequence: SequenceView, now: Controls, logits: Tensor, measures: HeadStatistics, stream: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the model believes, as `model_metrics`, with the tokens that are watched. Raises NotFinite."""
    logp, belief = model_metrics(logits, measures, stream, now.knobs.n_candidates)
    if broken(logp):  # before any stage looks at it
        refuse(logits, f"at step {sequence.n_written + 1}")
    return logp, belief | tracked_token_metrics(logits, logp, now.watched)


def whole(numbers: Numbers, logits: Tensor, sequence: SequenceView) -> Numbers:
    """These numbers of a step, once they are on the host. Raises NotFinite where its logits are none."""
    if math.isnan(numbers["entropy"][0]):
        refuse(logits, f"at step {sequence.n_written + 1}")
    return numbers


def sample_token(
    logits: Tensor,
    logp: Tensor,
    now: Controls,
    sequence: SequenceView,
    prompt: Tensor,
    decision: Decision | None,
    banned: frozenset[int] = frozenset(),
    forced: int | None = None,
    given: int | None = None,
) -> tuple[ChainResult, Tensor]:
    """Run the chain on (vocab,) logits and draw: its result, and the token, a 0-d id.

    logp: ln p of them. prompt: (n,) ids that what is written in the sequence follows. given: the token that is there,
    whatever would have been drawn.
    """
    knobs = now.knobs if decision is None else decision.knobs
    position = sequence.n_tokens - sequence.position_offset
    chained = apply(
        knobs,
        logits,
        SamplingContext(prompt, sequence.written, position, sequence.mu, now.breakers, banned.union(knobs.banned)),
    )
    if forced is not None:
        chained = force_token(chained, "forced", forced)
    elif entropix_sampler.asks(decision):
        assert now.clarifier is not None
        chained = force_token(chained, "adaptive", now.clarifier)
    if given is not None:
        return chained, torch.tensor(given, device=logits.device)
    seeds = [knobs.seed + (n << 32) for n in range(entropix_sampler.draws(decision))]
    token = draw(chained.scores, seeds[0], position)
    for seed in seeds[1:]:
        other = draw(chained.scores, seed, position)
        token = torch.where(logp[other] > logp[token], other, token)
    return chained, token
