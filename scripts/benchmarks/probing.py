"""What answers of probes cost, in passes of the model over the text that they are about."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from engine import loaded_model, prompt_ids
from figures import Figure, Settings, in_turns, ratio, spread

from tui_entropy.engine.attribution.patching import Cell, PatchedText, TextStates, read_states, sites
from tui_entropy.engine.decoding.instruments import Instruments, open_instruments
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded

LENGTHS = (5, 64, 512)
LAYERS = 4
"""Of the grid, at even distances; their cells cost what all cost."""
COLUMNS = 16


def patching(settings: Settings) -> Iterator[Figure]:
    """A cell of the grid of patching, and a pass over the text that the states are put into."""
    loaded, rounds = loaded_model(settings), 3 if settings.quick else 9
    with open_instruments(loaded) as watching:
        for length in LENGTHS:
            yield _cell(loaded, watching, length, rounds)


def _cell(loaded: Loaded, watching: Instruments, length: int, rounds: int) -> Figure:
    ids = torch.tensor(prompt_ids(loaded, length), device=loaded.model.device)
    n = min(length, COLUMNS)
    text = read_states(loaded, watching, ids, [{}] * length, n, "block")
    n_layers = loaded.architecture.n_layers
    layers = [round((at + 0.5) * n_layers / LAYERS) for at in range(LAYERS)]

    def grid() -> None:
        for layer in layers:
            _row(loaded, watching, text, layer, n)

    @torch.inference_mode()
    def whole() -> None:
        with watching.nobody_looking(loaded):
            forward(loaded, None, ids[None])

    for warming in (grid, whole):
        warming()
    times = in_turns({"grid": lambda: _seconds(grid), "pass": lambda: _seconds(whole)}, rounds)
    cells = [one / (len(layers) * n) for one in times["grid"]]
    detail = (
        f"cell {spread([1000 * one for one in cells], 'ms')}, pass {1000 * statistics.median(times['pass']):.4g} ms"
    )
    return Figure(
        f"patch grid cell / forward pass, {length} tokens", ratio(cells, times["pass"]), "x", "<= 0.5", detail
    )


def _row(loaded: Loaded, watching: Instruments, text: TextStates, layer: int, n: int) -> None:
    """The newest state at each of the newest n positions."""
    patched, first = PatchedText(loaded, watching, text), len(text.ids) - n
    states = [text.states[site][-1:].expand(n, -1) for site in sites(loaded.architecture, layer, "block")]
    done = 0
    while done < n:
        some = range(done, min(done + patched.rows_beside(first + done), n))
        patched.logits(
            layer,
            "block",
            [one[list(some)] for one in states],
            [Cell(row, first + at) for row, at in enumerate(some)],
        )
        done += len(some)


def _seconds(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
