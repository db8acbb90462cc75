"""The answers of probes, each in two ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tui_entropy.engine.decoding.instruments import instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.registry import PROBES
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.verify.checks.attention import eager_maps
from tui_entropy.engine.verify.evidence.compare import EAGER_PASS, PROMPT, Tally, allowed, forward_logits, gap
from tui_entropy.engine.verify.evidence.fields import TIMES
from tui_entropy.engine.verify.second.belief import log_softmax
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Event
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

N_WRITTEN = 4


def probes(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Every probe that there is, asked of the last token of a short text."""
    tally, events = Tally(), list[Event]()
    for probe in PROBES:
        name = f"probe {probe.name}"
        tally.row(name, probe.trust, "its answer, against plain passes of the model", TIMES, [name])
        tally.rests_on[name] = EAGER_PASS
    with instruments(loaded, graph=False) as watching:
        session = Session(loaded, watching, events.append)
        banned = tuple(sorted(loaded.tokenizer.eos_ids))
        session.begin(Write(PROMPT, None, False, N_WRITTEN, Knobs(banned=banned)))
        while session.active:
            session.advance()
        sequence = session.state.run_of(1).sequence
        position = sequence.n_tokens - 1
        answers = [answer(session, AskProbe(probe.name, 1, position)) for probe in PROBES]
    evidence = Evidence(loaded, sequence.ids, position, next(one for one in events[::-1] if isinstance(one, Step)))
    for probe, found in zip(PROBES, answers, strict=True):
        name = f"probe {probe.name}"
        if found.unavailable:
            tally.skipped[name] = found.unavailable
            continue
        for actual, expected, size in probe.check(found, evidence):
            bound = allowed(loaded.model.dtype, size)
            difference = gap(actual, expected)
            tally.add(name, difference / bound if bound else np.inf if difference else 0.0, 1.0)
    yield from tally.checks()


class Evidence:
    """A text and a token of it, read by the model alone: see `ProbeEvidence`."""

    def __init__(self, loaded: Loaded, ids: Tensor, position: int, step: Step) -> None:
        self._loaded, self._before, self.step = loaded, ids[:position], step
        self._maps: dict[int, Tensor] | str | None = None

    def logp(self, blocks: int | None = None, back: int = 0) -> npt.NDArray[Any]:
        architecture = self._loaded.architecture
        with ExitStack() as hooks:
            for block in architecture.blocks[architecture.n_layers if blocks is None else blocks :]:
                hooks.callback(block.register_forward_hook(_unchanged, with_kwargs=True).remove)
            logits = forward_logits(self._loaded.model, self._before)[-1 - back]
        return log_softmax(logits.cpu().double().numpy())

    @property
    def ids(self) -> list[int]:
        return list(map(int, self._before))

    def weights(self, block: int) -> npt.NDArray[Any] | None:
        if self._maps is None:
            self._maps = eager_maps(self._loaded, self._before)
        return self._maps[block - 1].numpy() if isinstance(self._maps, dict) and block - 1 in self._maps else None

    def logprob(self, token_ids: Iterable[int]) -> float:
        added = torch.tensor(list(token_ids), device=self._before.device)
        logits = forward_logits(self._loaded.model, torch.cat([self._before, added]))[len(self._before) - 1 : -1]
        each = map(log_softmax, logits.cpu().double().numpy())
        return float(sum(logp[token] for logp, token in zip(each, added.tolist(), strict=True)))


def _unchanged(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """A block that puts out what it was given."""
    hidden = args[0] if args else kwargs["hidden_states"]
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
