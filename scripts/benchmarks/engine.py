"""The model that is measured, prompts for it, and the contestants that every comparison needs."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from figures import Settings

from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.kernels.two_row_linear import two_row_linear
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.session import Session
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.commands import Write
from tui_entropy.records.model import COLUMNS, ModelSpec
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.panels import Panel
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

GREEDY = Controls(Knobs(temperature=0.0), {})


def loaded_model(settings: Settings) -> Loaded:
    """The model with an end of text that never comes, so that every contestant writes as many tokens."""
    loaded = load(ModelSpec(settings.model, device=settings.device), lambda progress: None)
    tokenizer = copy.copy(loaded.tokenizer)
    tokenizer.eos_ids = frozenset()
    loaded.model.generation_config.eos_token_id = None
    loaded.model.generation_config.pad_token_id = 0
    return replace(loaded, tokenizer=tokenizer)


def prompt_ids(loaded: Loaded, length: int) -> list[int]:
    """English of that many tokens."""
    ids = loaded.tokenizer.encode(" ".join(metric.meaning for metric in METRICS), None, chat=False)
    return (ids * (length // len(ids) + 1))[:length]


def finished(device: torch.device) -> float:
    """time.perf_counter() when everything that the device was asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Stopwatch:
    """When a call began, and when each of its tokens came. Also what `generate` calls a streamer."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]
        self.ids: list[int] = []

    def put(self, ids: torch.Tensor) -> None:
        if ids.dim() == 1:  # two dimensions: the prompt
            self.token(int(ids[0]))

    def token(self, token_id: int) -> None:
        self.ids.append(token_id)
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass

    @property
    def overall(self) -> float:
        """Tokens per second of the whole call, reading the prompt included."""
        return len(self.ids) / (self.times[-1] - self.times[0])

    @property
    def writing(self) -> float:
        """Tokens per second from the first token on."""
        return (len(self.ids) - 1) / (self.times[-1] - self.times[1])


def ours(
    loaded: Loaded,
    ids: list[int],
    new_tokens: int,
    now: Controls = GREEDY,
    score_prompt: bool = False,
    graph: bool | None = None,
) -> Stopwatch:
    """The loop as the inspector runs it. captured: see instruments."""
    with open_instruments(loaded, graph=graph) as instruments:
        watch = Stopwatch()
        for event in decode(
            loaded, instruments, TokenSequence(loaded, ids, new_tokens), lambda: now, 1, score_prompt
        ):
            if isinstance(event, Step):
                watch.token(event.token_id)
    return watch


@torch.inference_mode()
def bare(loaded: Loaded, ids: list[int], new_tokens: int) -> Stopwatch:
    """The least that a loop can do: our cache, our forward pass, the greatest logit. Nothing is looked at."""
    cache, new = new_cache(loaded.model, loaded.architecture), torch.tensor([ids], device=loaded.model.device)
    with two_row_linear(loaded.model, loaded.card.products == COLUMNS):
        watch = Stopwatch()
        for _ in range(new_tokens):
            new = forward(loaded, cache, new).argmax(-1, keepdim=True)
            watch.token(int(new))
    return watch


def generate(loaded: Loaded, ids: list[int], new_tokens: int, **options: Any) -> Stopwatch:
    on_device = torch.tensor([ids], device=loaded.model.device)
    watch = Stopwatch()
    loaded.model.generate(
        on_device,
        attention_mask=torch.ones_like(on_device),
        max_new_tokens=new_tokens,
        do_sample=False,
        streamer=watch,
        **options,
    )
    return watch


@contextmanager
def eager(loaded: Loaded) -> Iterator[None]:
    before = loaded.model.config._attn_implementation
    loaded.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        loaded.model.set_attn_implementation(before)


def generate_keeping_everything(loaded: Loaded, ids: list[int], new_tokens: int) -> Stopwatch:
    with eager(loaded):
        return generate(
            loaded,
            ids,
            new_tokens,
            output_attentions=True,
            output_hidden_states=True,
            output_logits=True,
            return_dict_in_generate=True,
        )


@contextmanager
def session_behind(settings: Settings, length: int) -> Iterator[Session]:
    """A text of so many tokens with one more written."""
    loaded = loaded_model(settings)
    with open_instruments(loaded) as instruments:
        session = Session(loaded, instruments, lambda event: None)
        write_behind(session, prompt_ids(loaded, length))
        yield session


def write_behind(session: Session, ids: list[int]) -> None:
    """A run whose prompt these tokens are, and one token."""
    text = session.state.loaded.tokenizer.hf_tokenizer.decode(ids)
    with torch.inference_mode():
        session.begin(Write(text, None, False, 1, Knobs(), False))
        while session.active:
            session.advance()


def milliseconds(session: Session, name: str, options: Mapping[str, Any], run: int = 1) -> float:
    """Of a probe at the newest token of a run."""
    return told(session, name, options, run)[0]


def told(session: Session, name: str, options: Mapping[str, Any], run: int = 1) -> tuple[float, tuple[Panel, ...]]:
    """Milliseconds, and the answer."""
    device, last = session.state.loaded.model.device, session.state.run_of(run).sequence.n_tokens - 1
    began = finished(device)
    answered = answer(session, AskProbe(name, run, last, dict(options)))
    assert answered.panels, answered.unavailable
    return 1e3 * (finished(device) - began), answered.panels
