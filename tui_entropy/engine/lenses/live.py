"""The lens left on while a text is written: layers at the newest position read as tokens, of what the pass left."""

from __future__ import annotations

import torch
from torch import Tensor

from tui_entropy.engine.kernels.onednn_linear import PackedLinear
from tui_entropy.engine.lenses.decoding import Decoding
from tui_entropy.engine.lenses.lens import LOGIT_LENS, Lens
from tui_entropy.engine.lenses.readout import Final, measured
from tui_entropy.records.lens_rows import layers_read


class LiveLens:
    """Reads the residual stream that the residual probe holds, in the very arithmetic of the lens probe."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self.head = PackedLinear(decoding.architecture.unembedding)

    @property
    def is_there(self) -> bool:
        """Whether the model has one residual stream, which its head reads."""
        return self._decoding.architecture.n_streams == 1

    @torch.inference_mode()
    def read(self, stream: Tensor, logits: Tensor, token_id: int, every: int, lens: Lens = LOGIT_LENS) -> Tensor:
        """Every so many layers, from the last one back: (layers, 7) float32, the layer and then as in `Readout`.

        stream: (n_layers + 1, d_model), the embedding first. logits: (vocab,) float32 of the model, which are what
        its last layer says and so are not made again. token_id: of the token that is written.
        """
        architecture = self._decoding.architecture
        layers = layers_read(architecture.n_layers, every)
        *before, _ = layers
        final = Final.of(logits.log_softmax(-1))
        rows = [logits]
        if before:
            vectors = torch.cat([lens(layer, stream[layer : layer + 1]) for layer in before])
            depth = torch.tensor(before, device=stream.device, dtype=torch.float32) / architecture.n_layers
            with self.head.taking(lay_out=True):
                rows = [*self._decoding.logits(vectors, depth), logits]
        wanted = torch.tensor(token_id, device=logits.device)
        table = measured((row, final, wanted) for row in rows)
        return torch.cat([torch.tensor(layers, device=table.device)[:, None].to(table), table], 1).float()
