"""The cost of each view for the engine on this machine: seconds per step, and bytes kept per token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import quantiles
from time import perf_counter
from typing import TypeVar

import msgspec
import torch
from torch import Tensor
from transformers import Cache

from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.instruments.attention import attention_instrument
from tui_entropy.engine.instruments.prompt_scores import scores
from tui_entropy.engine.instruments.residual import block_stats, residual_instrument
from tui_entropy.engine.instruments.step_tensors import StepTensors, computed
from tui_entropy.engine.instruments.tensor_metrics import log_probs
from tui_entropy.engine.kernels.threads import one_thread
from tui_entropy.engine.kernels.two_row_linear import two_row_linear
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.registry import PROBES
from tui_entropy.engine.reliability.report import Cost
from tui_entropy.engine.reliability.trust import NO_ATTENTION
from tui_entropy.engine.sampling.chain import apply, draw
from tui_entropy.engine.sampling.distribution import SamplingContext
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.verify.evidence.compare import PROMPT
from tui_entropy.metrics.registry import COMPUTED
from tui_entropy.records.commands import Write
from tui_entropy.records.model import COLUMNS
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.attention_rows import RowWindow
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

T = TypeVar("T")

PLAIN = "forward pass, plain"
ROUNDS = 13
PROBE_ROUNDS = 3
WARM_UP = 2
"""Rounds that do not count."""


def costs(loaded: Loaded, ids: Tensor, step: Step) -> tuple[Cost, ...]:
    """Time every view in turn, round after round, so that what else the machine does falls on all alike.

    Told are medians and half the width of the middle half. Of what is measured inside the forward pass it is those of
    what it takes more than the plain pass of its round. step: one of this model's.
    """
    watch = _Watch(loaded, ids)
    with two_row_linear(loaded.model, loaded.card.products == COLUMNS):
        rounds = [watch.round() for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    named = []
    for view in rounds[0]:
        low, middle, high = quantiles([round[view] for round in rounds])
        named.append(Cost(view, middle, (high - low) / 2, watch.kept.get(view), PER.get(view, "step")))
    named += probe_costs(loaded)
    named.append(Cost("step record", kept=float(len(msgspec.msgpack.encode(step)))))
    if not any(loaded.architecture.attention):
        named += [Cost(view, skipped=NO_ATTENTION) for view in ("head grid", "attention rows")]
    return tuple(named)


def probe_costs(loaded: Loaded) -> Iterator[Cost]:
    """What each probe takes where the first token of a text is chosen, with its options as they are by default."""
    with open_instruments(loaded, graph=False) as instruments:
        session = Session(loaded, instruments, lambda event: None)
        session.begin(Write(PROMPT, None, False, 1, Knobs()))
        session.look_ahead(read_all=True)
        asks = [AskProbe(probe.name, 1, session.state.run_of(1).sequence.n_prompt) for probe in PROBES]
        rounds = [[answer(session, ask) for ask in asks] for _ in range(PROBE_ROUNDS)]
    for answers in zip(*rounds, strict=True):
        if answers[0].unavailable:
            yield Cost(f"probe {answers[0].name}", skipped=answers[0].unavailable)
            continue
        low, middle, high = quantiles([each.seconds for each in answers])
        yield Cost(f"probe {answers[0].name}", middle, (high - low) / 2, None, "request")


PER = {"attention rows": "request", "prompt scores": "prompt token"}


class _Watch:
    """The plain model and the watched one, each with its own cache, side by side."""

    def __init__(self, loaded: Loaded, ids: Tensor) -> None:
        self.loaded = loaded
        self.ids = ids
        self.kept: dict[str, float] = {}
        """View -> bytes per token."""
        self._caches = {view: new_cache(loaded.model, loaded.architecture) for view in ("plain", "heads", "residual")}
        for cache in self._caches.values():
            self._read(ids, cache)

    def round(self) -> dict[str, float]:
        """View -> seconds, once each. A token is read into every cache."""
        held = cache_bytes(self._caches["plain"])
        plain, logits = self._timed(lambda: self._read(self.ids[-1:], self._caches["plain"]))
        self.kept[PLAIN] = float(cache_bytes(self._caches["plain"]) - held)
        seconds = {PLAIN: plain}
        with residual_instrument(self.loaded.architecture) as residual:
            reading, _ = self._timed(lambda: self._read(self.ids[-1:], self._caches["residual"]))
            seconds["residual stream"] = (
                reading - plain + self._timed(lambda: block_stats(residual.stream()), small=True)[0]
            )
            last = residual.vectors[-1]
        if any(self.loaded.architecture.attention):
            seconds |= self._heads(plain)
        return seconds | self._of_logits(logits) | self._prompt_scores(last)

    def _heads(self, plain: float) -> dict[str, float]:
        cache, architecture = self._caches["heads"], self.loaded.architecture
        n = int(cache.get_seq_length()) + 1
        with attention_instrument(self.loaded.model, architecture, keep=n) as probe:
            reading, _ = self._timed(lambda: self._read(self.ids[-1:], cache))
            grid = reading - plain + self._timed(probe.head_statistics, small=True)[0]
            self.kept["head grid"] = probe.kept_bytes / len(probe.attention_state.kept)
            window = RowWindow(architecture.attention.index(True) + 1, None, n - 1, n, 0, n)
            return {"head grid": grid, "attention rows": self._timed(lambda: probe.rows(cache, window))[0]}

    def _of_logits(self, logits: Tensor) -> dict[str, float]:
        """(vocab,) -> seconds of what is made of them."""
        knobs, token, logp = Knobs(), logits.argmax(), log_probs(logits)
        past = SamplingContext(self.ids, self.ids[:0], len(self.ids))

        def metrics() -> None:
            tensors = StepTensors(logits, token=token)
            for metric in COMPUTED:
                computed(metric, tensors)

        def candidates() -> None:
            logp.topk(min(knobs.n_candidates, logp.numel()))

        def chain() -> None:
            chained = apply(knobs, logits, past)
            draw(chained.scores, knobs.seed, past.position)
            chained.summary()

        views = {"logit metrics": metrics, "candidates": candidates, "sampling chain and draw": chain}
        return {view: self._timed(act, small=True)[0] for view, act in views.items()}

    def _prompt_scores(self, residual: Tensor | None) -> dict[str, float]:
        """residual: (1, 1, d_model) of the last block, which stands for each token of the prompt."""
        assert residual is not None
        rows = residual[0].expand(len(self.ids), -1).contiguous()
        took, _ = self._timed(lambda: scores(self.loaded.model, self.loaded.architecture, rows, self.ids))
        return {"prompt scores": took / len(self.ids)}

    def _read(self, ids: Tensor, cache: Cache) -> Tensor:
        return forward(self.loaded, cache, ids[None])[0]

    def _timed(self, act: Callable[[], T], small: bool = False) -> tuple[float, T]:
        """Seconds until the device is done with it. small: on one thread, as in the loop."""
        on_accelerator = self.loaded.model.device.type != "cpu"
        if on_accelerator:
            torch.accelerator.synchronize()
        began = perf_counter()
        if small:
            with one_thread:
                value = act()
        else:
            value = act()
        if on_accelerator:
            torch.accelerator.synchronize()
        return perf_counter() - began, value


def cache_bytes(cache: Cache) -> int:
    """The bytes of the keys, values and states that are in use, without the room for more."""
    return sum(part.nbytes for layer in cache.layers for part in vars(layer).values() if isinstance(part, Tensor))
