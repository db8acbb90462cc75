"""Which arithmetic the products of one row or two take: chosen once for a model on a machine, and kept.

Both ways are right, and round differently. So the same command gives the same numbers to the bit only if the choice,
which hangs on a stopwatch, is not made anew each time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from tui_entropy.core import choices
from tui_entropy.core.choices import keep, kept
from tui_entropy.core.errors import UserError
from tui_entropy.engine.kernels.two_row_linear import linear_by_columns, linear_layers
from tui_entropy.records.model import COLUMNS, ROWS, ModelCard

AUTO = "auto"
CLEARLY = 0.9
"""Of the time of one row: what two columns must stay below, so that noise does not decide."""


def products(model: nn.Module, card: ModelCard, asked: str = AUTO) -> str:
    """COLUMNS or ROWS, as asked, or as it was chosen before for this model, dtype, device, library and processor.

    Raises UserError for another word, and for columns where a model has no product that could be taken so.
    """
    check(asked)
    layers = linear_layers(model)
    if not layers:
        if asked == COLUMNS:
            raise UserError(f"--products {COLUMNS} is for float32 on a CPU: leave it out, or add --dtype float32")
        return ROWS
    if asked != AUTO:
        return asked
    path, known = path_of(card), (COLUMNS, ROWS)
    return kept(path, known.__contains__) or keep(path, faster(layers), known.__contains__)


def check(asked: str) -> None:
    """Raise UserError for a word that is no way to take products."""
    if asked not in (AUTO, COLUMNS, ROWS):
        raise UserError(f"there is no --products {asked}: it can be {AUTO}, {COLUMNS} or {ROWS}")


def path_of(card: ModelCard) -> Path:
    """The file that keeps the choice."""
    about = card.name, card.revision or "", card.source, card.dtype, card.device
    machine = torch.__version__, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), _processor()
    return choices.path_of("products", *about, *machine)


def faster(layers: list[nn.Linear]) -> str:
    """Which of the two this processor and its library do faster, found by trying the largest product."""
    largest = max(layers, key=lambda module: module.weight.numel())
    by_columns = _time_one_row(linear_by_columns, largest) < CLEARLY * _time_one_row(nn.Linear.forward, largest)
    return COLUMNS if by_columns else ROWS


def _time_one_row(way: Callable[[nn.Linear, Tensor], Tensor], module: nn.Linear) -> float:
    """Seconds that one row takes, the best of several."""
    row, seconds = torch.ones(1, 1, module.in_features), []
    for _ in range(5):
        began = perf_counter()
        way(module, row)
        seconds.append(perf_counter() - began)
    return min(seconds)


def _processor() -> str:
    """Its name, where the system tells it."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as cpuinfo:
        return next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "")
    return ""
