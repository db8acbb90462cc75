"""The uncertainty of sentences under ensembles: how open the text is, and on what the members disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from tui_entropy.engine.ensembles.dropout import DropoutMode, dropout_on
from tui_entropy.engine.ensembles.spread import split
from tui_entropy.engine.ensembles.weight_noise import noisy_layers, weight_noise
from tui_entropy.engine.instruments.prompt_scores import SLICE_BYTES
from tui_entropy.engine.instruments.tensor_metrics import log_probs
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.scoring.scorer import OffsetsOf, Wanted, score
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.records.corpus.uncertainty import ENSEMBLES, SPREADS, ScoreSettings

WANTED = Wanted((), residual=True)
Member = tuple[Callable[[], AbstractContextManager[DropoutMode | None]], OffsetsOf | None]
"""What is changed of the model while a member reads, and what steers it."""


def of_ensemble(
    loaded: Loaded,
    passages: Sequence[Passage],
    family: str,
    settings: ScoreSettings,
    offsets: OffsetsOf | None = None,
    vectors: Sequence[OffsetsOf | None] = (),
    temperature: float = 1.0,
) -> list[dict[str, float | None]]:
    """Total, aleatoric and epistemic uncertainty, the means over the tokens of each passage. Unknown where members
    would not differ: without active dropout, or with fewer than two of `vectors`, each of which steers a member."""
    members = _members(loaded, family, settings, offsets, vectors)
    # What is dropped hangs on the shape of a batch, so each passage is read by itself.
    groups = [[one] for one in passages] if family == "dropout" else [list(passages)]
    rows = [means for group in groups for means in _means(loaded, group, members, temperature)]
    names = [f"{ENSEMBLES[family]}.{part}" for part in SPREADS]
    return [dict(zip(names, row or (None, None, None), strict=True)) for row in rows]


def _members(
    loaded: Loaded,
    family: str,
    settings: ScoreSettings,
    offsets: OffsetsOf | None,
    vectors: Sequence[OffsetsOf | None],
) -> list[Member]:
    seeds = [settings.seed * 1_000_003 + nth for nth in range(settings.members)]
    match family:
        case "dropout":
            attention = loaded.architecture.attention_modules
            return [(lambda seed=seed: dropout_on(attention, seed), offsets) for seed in seeds]  # type: ignore[misc]
        case "weight-noise":
            layers = noisy_layers(loaded.architecture.blocks)
            noise = settings.noise
            return [(lambda seed=seed: weight_noise(layers, noise, seed), offsets) for seed in seeds if layers]  # type: ignore[misc]
        case _:
            return [(nullcontext, steered) for steered in vectors]


def _means(
    loaded: Loaded, passages: Sequence[Passage], members: Sequence[Member], temperature: float
) -> Iterator[list[float] | None]:
    if len(members) < 2:
        yield from [None] * len(passages)
        return
    residuals: list[list[Tensor]] = []
    for change, offsets in members:
        with change() as mode:
            found = score(loaded, passages, WANTED, offsets or _unsteered, together=together_of(loaded))
            residuals.append([its.residual.clone() for its in found if its.residual is not None])
        if mode is not None and not mode.n_active:
            yield from [None] * len(passages)
            return
    for each in zip(*residuals, strict=True):
        yield [float(mean) for mean in _splits(loaded, torch.stack(each), temperature).double().mean(0)]


def _unsteered(passage: Passage) -> dict[int, Tensor]:
    return {}


@torch.inference_mode()
def _splits(loaded: Loaded, residual: Tensor, temperature: float) -> Tensor:
    """(members, n, d_model) -> (n, 3) nats, a slice of positions at a time."""
    members = len(residual)
    together = max(SLICE_BYTES // (4 * members * loaded.architecture.vocab), 1)
    parts = []
    for some in torch.split(residual, together, 1):
        logits = unembed(loaded.model, loaded.architecture, some.flatten(0, 1)) / temperature
        parts.append(split(log_probs(logits).view(members, some.shape[1], -1)).cpu())
    return torch.cat(parts)
