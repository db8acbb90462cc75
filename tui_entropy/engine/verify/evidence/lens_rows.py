"""The lens rows that steps carry, against the model with all blocks after a layer left out."""

from __future__ import annotations

import numpy as np

from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.verify.evidence.compare import PLAIN_PASS, Tally, allowed, outside
from tui_entropy.engine.verify.evidence.written import N_LAYERS, Seen, Text
from tui_entropy.engine.verify.second import belief
from tui_entropy.engine.verify.second.belief import Floats
from tui_entropy.records.lens_rows import LensRow

ROW = "lens rows"
COMPARED = "token, p, entropy, KL and rank of layers, against the model with all blocks after each left out"
SEVERAL = "its residual stream is several side by side"


def compare_lens_rows(loaded: Loaded, text: Text, tally: Tally) -> None:
    """Every row of every proposal; which layers there are, too."""
    proves = ["step.lens_rows", *(f"lens_row.{name}" for name in LensRow.__struct_fields__)]
    tally.row(ROW, "residual", COMPARED, "of bound", proves)
    tally.rests_on[ROW] = PLAIN_PASS
    architecture = loaded.architecture
    if architecture.n_streams > 1:
        tally.skipped[ROW] = SEVERAL
        return
    every = max(architecture.n_layers // N_LAYERS, 1)
    layers = sorted(architecture.n_layers - n for n in range(0, architecture.n_layers + 1, every))
    for seen in text.seen:
        tally.share(ROW, [row.layer for row in seen.step.lens_rows] == layers, True, 0.0)
        for row in seen.step.lens_rows:
            _row(loaded, seen, row, tally)


def _row(loaded: Loaded, seen: Seen, row: LensRow, tally: Tally) -> None:
    assert seen.plainly is not None
    vocab, dtype = len(seen.logits), loaded.model.dtype
    known = row.layer in seen.plainly.layers or row.layer == loaded.architecture.n_layers
    if not known or not 0 <= row.token_id < vocab:
        tally.share(ROW, False, True, 0.0)
        return
    logits = _logits(seen, row.layer)
    logp = belief.log_softmax(logits)
    bound = allowed(dtype, _size(logp) + _size(seen.logp))
    tally.share(ROW, loaded.tokenizer.token_bytes(row.token_id) == row.token_bytes, True, 0.0)
    tally.share(ROW, logp[row.token_id], logp.max(), bound)
    tally.share(ROW, row.p, float(np.exp(logp[row.token_id])), bound)
    tally.share(ROW, row.entropy, belief.entropy(logp), bound)
    tally.share(ROW, row.kl, belief.kl(seen.logp, logp), bound)
    best, worst = belief.ranks(logits, seen.step.token_id, bound)
    tally.share(ROW, outside(row.rank, best, worst), 0.0, 0.0)


def _logits(seen: Seen, layer: int) -> Floats:
    """(vocab,) of a layer; of the last one those that the step was chosen from."""
    assert seen.plainly is not None
    if layer not in seen.plainly.layers:
        return seen.logits
    logits: Floats = seen.plainly.layers[layer][seen.step.position - 1].double().numpy()
    return logits


def _size(logp: Floats) -> float:
    return float(np.abs(logp[logp > -np.inf]).max())
