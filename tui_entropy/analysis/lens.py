"""A lens fitted to a text without a screen, and how well it reads beside the logit lens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.core import text_table
from tui_entropy.core.errors import UserError
from tui_entropy.engine.lenses.files import PARAMS, save
from tui_entropy.engine.lenses.fit import Fit, fit
from tui_entropy.engine.loading.loader import load
from tui_entropy.metrics.metric import LN2
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelSpec


def fit_lens(spec: ModelSpec, text: str, n_tokens: int, folder: Path) -> Fit:
    """Load a model, fit a lens to the first so many tokens of a text, and keep it. Raises UserError."""
    if (folder / PARAMS).exists():
        raise UserError(f"{folder} has a lens already: name another folder, or remove that one")
    narrator = Narrator()
    loaded = load(spec, narrator.progress)
    narrator.done(f"{loaded.card.name} · {loaded.card.device} {loaded.card.dtype}")
    ids = loaded.tokenizer.encode(text, None, chat=False)[:n_tokens]
    found = fit(loaded, ids, lambda stage, done, total: narrator.progress(Progress(stage, done, total)))
    save(found.lens, folder, loaded)
    narrator.done(f"kept in {folder}: take it with --option lens={folder}")
    return found


def report(found: Fit, bits: bool) -> str:
    """A table with a row for each layer, the last first."""
    unit = LN2 if bits else 1.0
    head = "layer", "fitted lens", "logit lens", "KL to the output"
    rows = [
        (str(one.layer), f"{one.fitted / unit:.3f}", f"{one.plain / unit:.3f}", "bits" if bits else "nats")
        for one in reversed(found.layers)
    ]
    of = f"fitted to {found.n_fitted} tokens; the mean over {found.n_held_out} held out behind them\n"
    return "\n".join([*text_table.lines([head, *rows]), of])


def as_fields(found: Fit) -> dict[str, Any]:
    """In nats."""
    layers = [{"layer": one.layer, "fitted_kl_nats": one.fitted, "logit_kl_nats": one.plain} for one in found.layers]
    return {"tokens": found.n_fitted, "held_out": found.n_held_out, "layers": layers}
