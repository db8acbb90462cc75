"""The answers of probes, each in two ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tui_entropy.engine.architecture.architecture import dispatches_attention
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.instruments.attention_functions import eager
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.registry import PROBES
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.verify.checks.attention import eager_maps
from tui_entropy.engine.verify.evidence.compare import EAGER_PASS, PROMPT, Tally, allowed, forward_logits, gap
from tui_entropy.engine.verify.evidence.fields import TIMES
from tui_entropy.engine.verify.evidence.plain import left_out
from tui_entropy.engine.verify.second.belief import log_softmax
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Event
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

N_WRITTEN = 4
CACHES = {"past_key_values", "past_key_value", "layer_past", "cache_params"}
"""What blocks call the cache that they are given."""


def probes(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Every probe that there is, asked of the last token of a short text."""
    tally, events = Tally(), list[Event]()
    for probe in PROBES:
        name = f"probe {probe.name}"
        tally.row(name, probe.trust, "its answer, against plain passes of the model", TIMES, [name])
        tally.rests_on[name] = EAGER_PASS
    with open_instruments(loaded, graph=False) as watching:
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
        layer = self._loaded.architecture.n_layers if blocks is None else blocks
        logits = left_out(self._loaded, self._before, layer)[-1 - back]
        return log_softmax(logits.cpu().double().numpy())

    def patched(self, layer: int, source: int, position: int) -> npt.NDArray[Any]:
        block, copying = self._loaded.architecture.blocks[max(layer - 1, 0)], partial(_copied, source, position)
        if layer:
            hook = block.register_forward_hook(lambda _, args, output: copying(output))
        else:
            hook = block.register_forward_pre_hook(partial(_given, copying), with_kwargs=True)
        try:
            logits = forward_logits(self._loaded.model, self._before)[-1]
        finally:
            hook.remove()
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

    def direct(self, token_id: int) -> npt.NDArray[Any] | None:
        architecture = self._loaded.architecture
        if len(architecture.tail) != 1 or architecture.n_streams > 1:
            return None
        (norm,) = architecture.tail
        stream, logits = self._streamed()
        logit = float(logits[token_id])
        added = torch.cat([stream[0], *(after - before for before, after in pairwise(stream))]).float()
        head, whole, nothing = architecture.unembedding, stream[-1].float(), torch.zeros_like(stream[-1])
        spread = _deviation if torch.allclose(norm(stream[-1]), norm(stream[-1] + 1), atol=1e-3) else _length
        like = added * (
            spread(whole) / spread(added).clamp(min=1e-30)
        )  # as large as the whole, so that eps acts alike
        through = (norm(like.to(stream[-1].dtype)[None])[0] - norm(nothing)[0]).double().cpu()
        read = through @ head.get_parameter("weight")[token_id].double().cpu()
        read *= (spread(added) / spread(whole)).flatten().double().cpu()
        heard = norm(stream[-1]).double().cpu().flatten() @ head.get_parameter("weight")[token_id].double().cpu()
        bias = getattr(head, "bias", None)
        parts: npt.NDArray[Any] = (
            read * logit / (heard + (0.0 if bias is None else float(bias[token_id].detach())))
        ).numpy()
        return parts

    def stream(self) -> npt.NDArray[Any] | None:
        if not self._loaded.architecture.tail or self._loaded.architecture.n_streams > 1:
            return None
        found: npt.NDArray[Any] = torch.cat([one.double().cpu() for one in self._streamed()[0]]).detach().numpy()
        return found

    def embedding(self, is_output: bool) -> npt.NDArray[Any]:
        architecture = self._loaded.architecture
        part = architecture.unembedding if is_output else architecture.embedding
        found: npt.NDArray[Any] = part.get_parameter("weight").detach().double().cpu().numpy()
        return found

    def _streamed(self) -> tuple[list[Tensor], Tensor]:
        """What each block and the norm behind them are given of the last token, (1, d_model) each; and its (vocab,)
        logits."""
        architecture, stream = self._loaded.architecture, list[Tensor]()
        with ExitStack() as hooks:
            for module in (*architecture.blocks, architecture.tail[0]):
                hooks.callback(module.register_forward_pre_hook(partial(_keep, stream), with_kwargs=True).remove)
            return stream, forward_logits(self._loaded.model, self._before)[-1]

    def parts(self) -> npt.NDArray[Any] | None:
        architecture, found = self._loaded.architecture, list[Tensor]()
        if architecture.n_streams > 1:
            return None
        with ExitStack() as hooks:
            for block in architecture.blocks:
                hooks.callback(block.register_forward_hook(partial(_part, found), with_kwargs=True).remove)
            forward_logits(self._loaded.model, self._before)
        return torch.stack(found).double().cpu().numpy()

    def gradients(self, token_id: int) -> npt.NDArray[Any] | None:
        architecture = self._loaded.architecture
        with torch.inference_mode(False), torch.enable_grad():
            ids = self._before.clone()
            vectors = architecture.embedding(ids[None]).detach().requires_grad_()
            hook = architecture.embedding.register_forward_hook(lambda *_: vectors)
            try:
                with eager(architecture.decoder):
                    logits = forward_logits(self._loaded.model, ids)[-1]
                (gradient,) = torch.autograd.grad(logits.double().log_softmax(-1)[token_id], vectors)
            except (RuntimeError, NotImplementedError):  # of whatever model
                return None
            finally:
                hook.remove()
        both: npt.NDArray[Any] = torch.stack([vectors.detach()[0], gradient[0]], 1).double().cpu().numpy()
        return both


def _copied(source: int, position: int, given: Any) -> Any:
    """(1, n, d_model), alone or as the first of several, with the vector of one token in the place of another's."""
    hidden = (given if isinstance(given, Tensor) else given[0]).clone()
    hidden[:, position] = hidden[:, source]
    return hidden if isinstance(given, Tensor) else type(given)([hidden, *given[1:]])


def _given(act: Callable[[Any], Any], module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    """The arguments of a module with what it is given changed."""
    if args:
        return act(args), kwargs
    return args, kwargs | {"hidden_states": act(kwargs["hidden_states"])}


def _part(found: list[Tensor], block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """Run a block once more with its feed-forward network silent: (3, n, d_model)."""
    given, alone = (args[0] if args else kwargs["hidden_states"]), {**kwargs}
    for name in CACHES & alone.keys():
        alone[name] = None
    attention = next((module for module in block.modules() if dispatches_attention(module)), None)
    whole = (output[0] if isinstance(output, tuple) else output).clone()
    with ExitStack() as hooks:
        for module in _without(block, attention):
            hooks.callback(module.register_forward_hook(_silent).remove)
        silent = block.forward(*args, **alone)
    silent = silent[0] if isinstance(silent, tuple) else silent
    parts = torch.stack([given[0], (silent - given)[0], (whole - silent)[0]])
    found.append(parts if attention is not None else torch.full_like(parts, torch.nan))


def _without(block: nn.Module, attention: nn.Module | None) -> Iterator[nn.Module]:
    """What of a block has matrices and does not hold its attention."""
    for child in block.children():
        matrices = any(weight.ndim > 1 for weight in child.parameters())
        if matrices and attention is not None and attention not in set(child.modules()):
            yield child


def _silent(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    if isinstance(output, tuple):
        return (torch.zeros_like(output[0]), *output[1:])
    return torch.zeros_like(output)


def _keep(stream: list[Tensor], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """(1, d_model) of the last token, as a module is given it."""
    stream.append((args[0] if args else kwargs["hidden_states"])[0, -1:].clone())


def _length(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return length


def _deviation(vectors: Tensor) -> Tensor:
    return vectors.std(-1, keepdim=True)
