"""Control vectors from files: where a direction acts that a file names, how strongly, and within which blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from tui_entropy.engine.decode import instruments
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.session import Session
from tui_entropy.engine.vectors import ControlVector, load, save_gguf, save_safetensors
from tui_entropy.engine.verify.compare import PLAIN_PASS, Tally, allowed, gap
from tui_entropy.engine.verify.plain import plain
from tui_entropy.engine.verify.written import OFF
from tui_entropy.records import Vector, Write
from tui_entropy.report import Check

PROMPT = "The weather today is"
STRENGTH = -0.75
Directions = dict[int, "np.ndarray[tuple[int], np.dtype[np.float32]]"]
"""By number in a file: N acts on what block N puts out, counted from 0."""


def vector_files(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Files written by other libraries steer as a plain hook does that adds their directions."""
    tally, n_layers = Tally(), loaded.anatomy.n_layers
    plainly = "logits under it, against a plain hook on block N counted from 0"
    for kind in ("GGUF", "safetensors"):
        tally.row(f"vector file, {kind}", "residual", plainly, "logits", [f"vector {kind}"])
    tally.row("vector of some blocks", "residual", f"range and strength: {plainly}", "logits", ["vector range"])
    tally.row(
        "vector written", "residual", "names and numbers, read by other libraries", "numbers", ["vector written"]
    )
    steering = "vector file, GGUF", "vector file, safetensors", "vector of some blocks"
    tally.rests_on |= dict.fromkeys(steering, PLAIN_PASS)
    if n_layers < 2:
        tally.skipped |= dict.fromkeys(("vector file, GGUF", "vector of some blocks"), "it has one block")
    numbers = sorted({1, n_layers // 2, n_layers - 1} & set(range(1, n_layers))) or [0]
    noise = np.random.default_rng(0)
    lengths = plain(loaded, ids).streams.square().mean((1, 2)).sqrt().tolist()
    directions: Directions = {
        number: (lengths[number] * noise.standard_normal(loaded.anatomy.d_model)).astype(np.float32)
        for number in numbers
    }
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder), directions)
        for kind, path in files.items():
            if kind != "GGUF" or numbers != [0]:
                steered(loaded, path, directions, None, tally, f"vector file, {kind}")
        some = {number: direction for number, direction in directions.items() if number + 1 <= numbers[0] + 1}
        if n_layers > 1:
            limits = 1, numbers[0] + 1
            steered(loaded, files["safetensors"], some, limits, tally, "vector of some blocks")
        written(Path(folder), directions, tally)
    yield from tally.checks()


def write(folder: Path, directions: Directions) -> dict[str, Path]:
    """As repeng and llama.cpp have them, without a line of ours."""
    writer = gguf.GGUFWriter(folder / "made.gguf", "controlvector")
    for number, direction in directions.items():
        writer.add_tensor(f"direction.{number}", direction)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file({f"direction.{number}": v for number, v in directions.items()}, folder / "made.safetensors")
    return {"GGUF": folder / "made.gguf", "safetensors": folder / "made.safetensors"}


def steered(
    loaded: Loaded, path: Path, wanted: Directions, limits: tuple[int, int] | None, tally: Tally, row: str
) -> None:
    """The logits after a prompt, with the file as a person gives it, against plain hooks. limits: blocks, 1-based."""
    first, last = limits or (None, None)
    with instruments(loaded, keep=0, captured=False) as probes:
        session = Session(loaded, probes, lambda event: None)
        session.set_vector(Vector(path.stem, str(path), strength=STRENGTH, on=True, first=first, last=last))
        session.begin(Write(PROMPT, None, False, 1, OFF, score_prompt=False))
        session.look_ahead(read_all=True)
        assert session.context is not None and session.context.logits is not None
        found, ids = session.context.logits.cpu(), session.context.prompt.clone()
    pushes = {number + 1: torch.from_numpy(STRENGTH * direction) for number, direction in wanted.items()}
    logits, unmoved = plain(loaded, ids, pushes).logits[-1], plain(loaded, ids).logits[-1]
    bound = allowed(loaded.model.dtype, float(logits.abs().max()))
    tally.add(row, gap(found, logits), bound)
    if gap(unmoved, logits) <= bound:  # nothing could have been told from it
        tally.add(row, float("nan"), bound)


def written(folder: Path, directions: Directions, tally: Tally) -> None:
    """What we write, as gguf and safetensors read it; and what we read of it again."""
    vector = ControlVector("written", {number + 1: direction for number, direction in directions.items()})
    save_safetensors(vector, folder / "ours.safetensors")
    from safetensors.numpy import load_file

    read = load_file(folder / "ours.safetensors")
    found = {name: read.get(name) for name in (f"direction.{number}" for number in directions)}
    missing = [name for name, direction in found.items() if direction is None]
    tally.add("vector written", float(len(missing) + len(read) - len(directions)), 0.0)
    for number, direction in directions.items():
        tally.add("vector written", gap(found[f"direction.{number}"], direction), 0.0)
    if 0 in directions:
        return
    save_gguf(vector, folder / "ours.gguf", "llama")
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(folder / "ours.gguf").tensors}
    for number, direction in directions.items():
        tally.add("vector written", gap(tensors.get(f"direction.{number}"), direction), 0.0)
        tally.add("vector written", gap(load(folder / "ours.gguf").directions.get(number + 1), direction), 0.0)
