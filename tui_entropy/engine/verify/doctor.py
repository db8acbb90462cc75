"""Proof, on this very model and machine, of the numbers that are shown: each got in two ways and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tui_entropy.engine.architecture.parts import decoder_of
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import Check, Report, machine
from tui_entropy.engine.verify.checks.attention import attention
from tui_entropy.engine.verify.checks.branches import branches
from tui_entropy.engine.verify.checks.draws import adaptive_samplers, draws, long_texts
from tui_entropy.engine.verify.checks.lanes import lanes
from tui_entropy.engine.verify.checks.logits import (
    captured_step,
    decode_equals_prefill,
    last_lens_row,
    precision,
    revisited_step,
)
from tui_entropy.engine.verify.checks.probes import probes
from tui_entropy.engine.verify.checks.steering import rows, steering
from tui_entropy.engine.verify.checks.steps import steps
from tui_entropy.engine.verify.checks.units import units
from tui_entropy.engine.verify.checks.vectors import vector_files
from tui_entropy.engine.verify.checks.written import write, written_steps
from tui_entropy.engine.verify.costs import costs
from tui_entropy.engine.verify.evidence.compare import N_PROMPT, PROMPT
from tui_entropy.engine.verify.evidence.library import library
from tui_entropy.records.events import Progress


def doctor(loaded: Loaded, tell: Callable[[Progress], None]) -> Report:
    """Make every check and take every cost. The model is left as it was found."""
    ids = torch.tensor(loaded.tokenizer.encode(PROMPT, None, chat=False)[:N_PROMPT], device=loaded.model.device)
    before = condition(loaded.model)
    with torch.inference_mode():
        tell(Progress("checking transformers against itself"))
        itself = library(loaded, ids)
        checks = list(itself.checks)
        for examined in CHECKS:
            tell(Progress(f"checking {examined.__name__.replace('_', ' ')}"))
            checks += map(itself.judged, examined(loaded, ids))
        tell(Progress("timing the views"))
        prices = costs(loaded, ids, write(loaded)[1][-1])
    checks.append(left_as_found(before, condition(loaded.model)))
    card = loaded.card
    return Report(
        model=card.name,
        revision=card.revision,
        device=card.device,
        dtype=card.dtype,
        machine=machine(),
        versions=card.versions,
        at=datetime.now().isoformat(" ", "minutes"),
        n_tokens=len(ids),
        checks=tuple(checks),
        costs=prices,
    )


def condition(model: PreTrainedModel) -> dict[str, str]:
    """The state of a model that a probe could leave changed: the attention in use, hooks, training mode."""
    decoder = decoder_of(model)
    modules = list(model.modules())
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
    return {
        "attention": str(decoder.config._attn_implementation),
        "hooks": str(hooks),
        "training": str([module.training for module in modules]),
    }


def left_as_found(before: Mapping[str, str], after: Mapping[str, str]) -> Check:
    changed = float(sum(before[part] != after[part] for part in before))
    return Check(
        "left as found", "logits", f"{', '.join(before)} after all this against before", "parts", changed, 0.0
    )


CHECKS: tuple[Callable[[Loaded, Tensor], Iterator[Check]], ...] = (
    last_lens_row, decode_equals_prefill, revisited_step, precision, attention, steering, rows, captured_step,
    written_steps, steps, units, draws, adaptive_samplers, long_texts, lanes, branches, vector_files, probes,
)  # fmt: skip
