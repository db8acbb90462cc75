"""Checks of a written text: its steps, its sampling chain, and that the same seed writes it again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.sampling.chain import apply, draw
from tui_entropy.engine.sampling.distribution import SamplingContext
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.verify.evidence.compare import (
    N_SINGLE,
    PLAIN_PASS,
    PROMPT,
    allowed,
    entropy64,
    forward_logits,
    worst,
)
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Event, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step


def written_steps(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """The loop itself: what its steps say, and that the same seed writes the same text."""
    prompt, steps = write(loaded)
    _, again = write(loaded)
    text = [step.token_id for step in steps]
    logits = forward_logits(loaded.model, torch.tensor(prompt + text, device=ids.device))[len(prompt) - 1 : -1].cpu()
    logp = logits.double().log_softmax(-1)
    expected = torch.stack([entropy64(logits), -logp.gather(-1, torch.tensor(text)[:, None])[:, 0]])
    actual = torch.tensor([[step.entropy for step in steps], [step.surprisal for step in steps]])
    bound = allowed(loaded.model.dtype, math.log(logits.shape[-1]))
    compared = "entropy and surprisal against float64 of one plain pass"
    yield Check("written steps", "logits", compared, "nats", worst(actual, expected), bound, rests_on=PLAIN_PASS)
    drawn = [[int(draw(row, seed, at)) for at, row in enumerate(logits) for seed in (1, 2)] for _ in range(2)]
    others = [step.token_id for step in again]
    differing = sum(a != b for a, b in itertools.zip_longest(drawn[0] + text, drawn[1] + others))
    knobs = Knobs(temperature=0.8, top_k=40, top_p=0.9)
    processors = LogitsProcessorList(
        [TemperatureLogitsWarper(knobs.temperature), TopKLogitsWarper(knobs.top_k), TopPLogitsWarper(knobs.top_p)]
    )
    nobody = torch.empty(0, dtype=torch.long)
    finals = torch.stack([apply(knobs, row, SamplingContext(nobody, nobody, 0)).final_logp.exp() for row in logits])
    compared = "final distribution against transformers' own processors"
    theirs = processors(nobody[None], logits.clone()).softmax(-1)  # type: ignore[arg-type]
    yield Check("sampling chain", "sampling", compared, "share", worst(finals, theirs), allowed(torch.float32, 1))
    compared = "draws and text of the same seed against the first time"
    yield Check("repeated draws", "sampling", compared, "tokens", float(differing), 0.0)


def write(loaded: Loaded) -> tuple[list[int], list[Step]]:
    """Ids of the prompt, and what the loop writes after it."""
    events: list[Event] = []
    with open_instruments(loaded, keep=0) as instruments:
        session = Session(loaded, instruments, events.append)
        session.begin(Write(PROMPT, None, False, N_SINGLE, Knobs()))
        while session.active:
            session.advance()
    prompt = [token.token_id for event in events if isinstance(event, Started) for token in event.prompt_tokens]
    return prompt, [event for event in events if isinstance(event, Step)]
