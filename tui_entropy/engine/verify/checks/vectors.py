"""Control vectors from files: where a direction acts that a file names, how strongly, and within which blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from msgspec.structs import replace
from safetensors.numpy import save_file
from torch import Tensor

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.steering.control_vector import ControlVector, load, save_gguf, save_safetensors
from tui_entropy.engine.verify.evidence.compare import PLAIN_PASS, Tally, allowed, gap
from tui_entropy.engine.verify.evidence.plain import plain
from tui_entropy.engine.verify.evidence.written import OFF
from tui_entropy.records.commands import Write
from tui_entropy.records.settings import Vector

PROMPT = "The weather today is"
STRENGTH = -0.75
N_WRITTEN = 2
"""Tokens: one is chosen after the prompt, the next one after what was written."""
Directions = dict[int, "np.ndarray[tuple[int], np.dtype[np.float32]]"]
"""By number in a file: N acts on what block N puts out, counted from 0."""


def vector_files(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Files written by other libraries steer as a plain hook does that adds their directions."""
    tally, n_layers = Tally(), loaded.architecture.n_layers
    plainly = "logits under it, against a plain hook on block N counted from 0"
    for kind in ("GGUF", "safetensors"):
        tally.row(f"vector file, {kind}", "residual", plainly, "logits", [f"vector {kind}"])
    tally.row("two vectors", "residual", f"from two files, added up: {plainly}", "logits", ["vector sum"])
    tally.row("vector of some blocks", "residual", f"range and strength: {plainly}", "logits", ["vector range"])
    tally.row(
        "vector written", "residual", "names and numbers, read by other libraries", "numbers", ["vector written"]
    )
    steering = "vector file, GGUF", "vector file, safetensors", "two vectors", "vector of some blocks"
    tally.rests_on |= dict.fromkeys(steering, PLAIN_PASS)
    if n_layers < 2:
        tally.skipped |= dict.fromkeys(
            ("vector file, GGUF", "two vectors", "vector of some blocks"), "it has one block"
        )
    numbers = sorted({1, n_layers // 2, n_layers - 1} & set(range(1, n_layers))) or [0]
    noise = np.random.default_rng(0)
    lengths = plain(loaded, ids).streams.square().mean((1, 2)).sqrt().tolist()
    directions: Directions = {
        number: (lengths[number] * noise.standard_normal(loaded.architecture.d_model)).astype(np.float32)
        for number in numbers
    }
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder), directions)
        for kind, path in files.items():
            if kind != "GGUF" or numbers != [0]:
                steered_logits(loaded, {path: STRENGTH}, directions, None, tally, f"vector file, {kind}")
        some = {number: direction for number, direction in directions.items() if number + 1 <= numbers[0] + 1}
        if n_layers > 1:
            limits = 1, numbers[0] + 1
            steered_logits(loaded, {files["safetensors"]: STRENGTH}, some, limits, tally, "vector of some blocks")
        if numbers != [0]:
            both = dict(zip(files.values(), (STRENGTH, 0.5), strict=True))
            steered_logits(loaded, both, directions, None, tally, "two vectors")
        written_files(Path(folder), directions, tally)
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
    save_file({f"direction.{number}": v for number, v in directions.items()}, folder / "other.safetensors")
    return {"GGUF": folder / "made.gguf", "safetensors": folder / "other.safetensors"}


def steered_logits(
    loaded: Loaded,
    files: Mapping[Path, float],
    directions: Directions,
    limits: tuple[int, int] | None,
    tally: Tally,
    row: str,
) -> None:
    """The logits after a prompt and after the first tokens written, with the files as a person gives them, against
    plain hooks. files: each with its strength. limits: blocks, 1-based."""
    first, last = limits or (None, None)
    with open_instruments(loaded, keep=0, graph=False) as instruments:
        session = Session(loaded, instruments, lambda event: None)
        for path, strength in files.items():
            session.set_vector(Vector(path.stem, str(path), strength=strength, on=True, first=first, last=last))
        ends = tuple(sorted(loaded.tokenizer.eos_ids))
        session.begin(Write(PROMPT, None, False, N_WRITTEN, replace(OFF, banned=ends), score_prompt=False))
        step_logits = []
        for _ in range(N_WRITTEN):
            session.look_ahead(read_all=True)
            assert session.state.sequence is not None and session.state.sequence.logits is not None
            step_logits.append(session.state.sequence.logits.cpu())
            ids = session.state.sequence.ids.clone()
            session.advance()
    actual = torch.stack(step_logits)
    offsets = {
        number + 1: torch.from_numpy(sum(files.values()) * direction) for number, direction in directions.items()
    }
    logits, unmoved = (plain(loaded, ids, under).logits[-N_WRITTEN:] for under in (offsets, None))
    bound = allowed(loaded.model.dtype, float(logits.abs().max()))
    tally.add(row, gap(actual, logits), bound)
    if gap(unmoved, logits) <= bound:  # nothing could have been told from it
        tally.add(row, float("nan"), bound)


def written_files(folder: Path, directions: Directions, tally: Tally) -> None:
    """Vector files that we write, read by gguf and safetensors, and read by us again."""
    vector = ControlVector("written", {number + 1: direction for number, direction in directions.items()})
    save_safetensors(vector, folder / "ours.safetensors")
    from safetensors.numpy import load_file

    read = load_file(folder / "ours.safetensors")
    actual = {name: read.get(name) for name in (f"direction.{number}" for number in directions)}
    missing = [name for name, direction in actual.items() if direction is None]
    tally.add("vector written", float(len(missing) + len(read) - len(directions)), 0.0)
    for number, direction in directions.items():
        tally.add("vector written", gap(actual[f"direction.{number}"], direction), 0.0)
    if 0 in directions:
        return
    save_gguf(vector, folder / "ours.gguf", "llama")
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(folder / "ours.gguf").tensors}
    for number, direction in directions.items():
        tally.add("vector written", gap(tensors.get(f"direction.{number}"), direction), 0.0)
        tally.add("vector written", gap(load(folder / "ours.gguf").directions.get(number + 1), direction), 0.0)
