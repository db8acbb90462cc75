"""A lens of a model fitted to a text: for each layer the affine map that comes nearest to what the last block says.

By least squares in closed form, so in one reading of the text. An error counts in proportion to what it is an error
of, since the final norm takes lengths away. The map is pulled towards the identity, the logit lens, by a ridge on
what it adds; how much, a tenth of the text says that the map is not fitted to. Another tenth, the last, is held out
and tells how good it came out. Belrose et al. 2023, whose lenses these are, descend to such maps by gradients of KL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.parts import taken_by
from tui_entropy.engine.decomposition.residual_stream import watching_stream
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.lenses.lens import LOGIT_LENS, AffineMap, Lens
from tui_entropy.engine.models.forward import read
from tui_entropy.engine.models.free_memory import free_bytes
from tui_entropy.engine.models.loaded import Loaded

WINDOW = 512
"""Tokens read at a time, each stretch by itself."""
MAX_SKIPPED = 16
"""First tokens of a stretch that are left out: what they put out is like nothing that comes later."""
HELD_OUT = 0.1
"""Of the text, at its end."""
MIN_TOKENS = 256
ROWS = 64
"""Tokens whose logits are compared at a time."""
RIDGES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""Of which one is chosen, as shares of the variance of what a map is given."""
Progress = Callable[[str, float, float], None]


class LayerReport(NamedTuple):
    """KL(what the model says || what a layer says) in nats, the mean over the held-out tokens."""

    layer: int
    fitted: float
    plain: float
    """Of the logit lens."""


@dataclass(frozen=True)
class Fit:
    lens: Lens
    layers: tuple[LayerReport, ...]
    n_fitted: int
    """Tokens that it was fitted to."""
    n_held_out: int


@torch.inference_mode()
def fit(loaded: Loaded, ids: Sequence[int], progress: Progress) -> Fit:
    """Fit a lens to the tokens of a text. Raises UserError where there are too few."""
    _check(loaded)
    if len(ids) < MIN_TOKENS:
        raise UserError(
            f"the text has {len(ids)} tokens and a lens is fitted to {MIN_TOKENS} at least, better to thousands: "
            "give a longer text"
        )
    tenth, n_layers = round(len(ids) * HELD_OUT), loaded.architecture.n_layers
    fitted, choosing = _Moments(loaded), _Moments(loaded)
    for part, moments in ((ids[: -2 * tenth], fitted), (ids[-2 * tenth : -tenth], choosing)):
        for stream in _streams(loaded, part):
            moments.add(stream)
            progress("reading the text", fitted.n + choosing.n, len(ids))
    maps = {}
    for layer in range(n_layers):
        maps[layer] = _map(fitted, choosing, layer)
        progress("fitting layers", layer + 1, n_layers)
    lens = Lens("fitted lens", maps)
    held_out = list(_streams(loaded, ids[-tenth:]))
    report = tuple(_reports(loaded, lens, held_out, progress))
    return Fit(lens, report, fitted.n + choosing.n, sum(stream.shape[1] for stream in held_out))


def _check(loaded: Loaded) -> None:
    """Raises UserError for a model that has no such lens here."""
    architecture = loaded.architecture
    if architecture.n_streams > 1:
        raise UserError(
            f"{loaded.card.name} has {architecture.n_streams} residual streams side by side, and a lens is fitted to "
            "one: take another model"
        )
    needed = 2 * 8 * architecture.n_layers * (architecture.d_model + 1) * (2 * architecture.d_model + 1)
    free = free_bytes(loaded.model.device)
    if needed > free:
        raise UserError(
            f"to fit a lens takes {needed / 1e9:.1f} GB beside the model, and {free / 1e9:.1f} GB are free: make "
            "room, or take a smaller model"
        )


def _streams(loaded: Loaded, ids: Sequence[int]) -> Iterator[Tensor]:
    """(n_layers + 1, n, d_model) float32 of each stretch, without its first tokens."""
    window = min(WINDOW, loaded.card.context)
    skipped = min(MAX_SKIPPED, window // 4)
    # The blocks of a decoder that takes this would leave out the other tokens too.
    more = {} if "logits_to_keep" in taken_by(loaded.architecture.decoder) else {"logits_to_keep": 1}
    for first in range(0, len(ids), window):
        part = ids[first : first + window]
        if len(part) <= skipped:
            continue
        with watching_stream(loaded.architecture, len(part) - skipped) as watch:
            read(loaded.model, None, torch.tensor([list(part)], device=loaded.model.device), **more)
            yield watch.stream().float()


class _Moments:
    """Sums over tokens from which a map follows: of what a layer puts out, and of what it lacks to the last one."""

    def __init__(self, loaded: Loaded) -> None:
        n_layers, width, device = loaded.architecture.n_layers, loaded.architecture.d_model, loaded.model.device
        self.n = 0
        self.gram = torch.zeros(n_layers, width + 1, width + 1, device=device, dtype=torch.float64)
        """Of vectors with a 1 behind them, each weighted."""
        self.cross = torch.zeros(n_layers, width + 1, width, device=device, dtype=torch.float64)
        """With what they lack."""
        self.lacking = torch.zeros(n_layers, device=device, dtype=torch.float64)
        """Squares of what they lack."""

    def add(self, stream: Tensor) -> None:
        """stream: (n_layers + 1, n, d_model)."""
        last = stream[-1].double()
        weight = 1 / last.square().mean(-1, keepdim=True).clamp(min=1e-12)
        for layer in range(len(stream) - 1):
            vectors = stream[layer].double()
            lacking = last - vectors
            with_one = torch.cat([vectors, torch.ones_like(vectors[:, :1])], -1)
            self.gram[layer] += (with_one * weight).T @ with_one
            self.cross[layer] += (with_one * weight).T @ lacking
            self.lacking[layer] += (weight * lacking.square()).sum()
        self.n += stream.shape[1]


def _map(fitted: _Moments, choosing: _Moments, layer: int) -> AffineMap:
    """The map of a layer, under the ridge that leaves the least error where it was not fitted."""
    gram, cross = fitted.gram[layer], fitted.cross[layer]
    total = gram[-1, -1]
    mean, mean_lacking = gram[-1, :-1] / total, cross[-1] / total
    centred = gram[:-1, :-1] - total * torch.outer(mean, mean)
    scale = centred.diagonal().clamp(min=1e-12 * float(centred.diagonal().amax().clamp(min=1e-30))).rsqrt()
    values, basis = torch.linalg.eigh(centred * scale[:, None] * scale)
    onto = basis.T @ (scale[:, None] * (cross[:-1] - total * torch.outer(mean, mean_lacking)))
    best: tuple[float, Tensor] | None = None
    for ridge in RIDGES:
        added = scale[:, None] * (basis @ (onto / (values.clamp(min=0) + ridge)[:, None]))
        affine = torch.cat([added, (mean_lacking - mean @ added)[None]])
        # |lacking - affine x|^2, summed over the tokens that choose, from their moments alone.
        error = (affine * (choosing.gram[layer] @ affine - 2 * choosing.cross[layer])).sum() + choosing.lacking[layer]
        if best is None or float(error) < best[0]:
            best = float(error), affine
    assert best is not None
    added = best[1].float().cpu()
    return AffineMap((added[:-1].T + torch.eye(added.shape[1])).contiguous(), added[-1].contiguous())


def _reports(loaded: Loaded, lens: Lens, streams: list[Tensor], progress: Progress) -> Iterator[LayerReport]:
    stream = torch.cat(streams, 1)
    layers, n = range(loaded.architecture.n_layers), stream.shape[1]
    far = torch.zeros(len(layers), 2, dtype=torch.float64)
    for rows in torch.split(torch.arange(n, device=stream.device), ROWS):
        said = _logits(loaded, stream[-1, rows]).softmax(-1)
        negative_entropy = torch.special.xlogy(said, said).sum(-1)
        for layer in layers:
            for which, one in enumerate((lens, LOGIT_LENS)):
                logits = _logits(loaded, one(layer, stream[layer, rows]))
                # KL(p || softmax z) = sum of p ln p - p z, + ln of the sum of e^z: no array of ln p is made.
                each = negative_entropy - (said * logits).sum(-1) + logits.logsumexp(-1)
                far[layer, which] += float(each.sum())
        progress("comparing on held-out text", int(rows[-1]) + 1, n)
    yield from (LayerReport(layer, *mean) for layer, mean in zip(layers, (far / n).tolist(), strict=True))


def _logits(loaded: Loaded, vectors: Tensor) -> Tensor:
    """(n, vocab) float32 of float32 vectors."""
    return unembed(loaded.model, loaded.architecture, vectors.to(loaded.model.dtype))
