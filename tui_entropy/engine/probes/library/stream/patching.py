"""Patching: what a text says once states of another text, or of another of its tokens, are put into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta, Struct
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.engine.attribution.patching import (
    MOST_KEYS,
    MOST_ROWS,
    PatchedText,
    Place,
    TextStates,
    Unpatchable,
    read_states,
    sites,
)
from tui_entropy.engine.attribution.patching import Cell as PatchCell
from tui_entropy.engine.probes.probe import Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.engine.probes.target import AgainstName, Target, TokenName, target_of
from tui_entropy.engine.session.run import Run
from tui_entropy.records.arrays import Grid
from tui_entropy.records.bounds import Position
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Axis, Cell, Column, Heatmap, Note, Panel, Table, Tokens

Floats = npt.NDArray[np.float64]
Offsets = Mapping[int, Tensor]
N_LARGEST = 8
"""Cells that the table has of those where most changes."""


class PatchingOptions(Struct, frozen=True, forbid_unknown_fields=True):
    into: Annotated[
        str,
        Meta(
            max_length=1 << 16,
            description="Where states are put: another prompt, or #2 for run 2. Empty: into this text itself.",
        ),
    ] = ""
    source: (
        Annotated[
            Position,
            Meta(
                description="The position here that every state is of; none: each of where it is put, or of the "
                "newest where that is this text."
            ),
        ]
        | None
    ) = None
    at: Annotated[
        Place, Meta(description="The states: what blocks put out, or their attention, or feed-forward.")
    ] = "block"
    token: TokenName | None = None
    against: AgainstName | None = None
    before: Annotated[int, Meta(ge=0, le=255, description="How many positions before the newest are put at.")] = 15
    every: Annotated[int, Meta(ge=1, le=64, description="Every so many layers, from the last one back.")] = 1
    says: Annotated[bool, Meta(description="The token that it says then stands in each cell.")] = True


@dataclass(frozen=True)
class Patch:
    """What is put where."""

    at: ProbeContext
    options: PatchingOptions
    source: int | None
    """The position here that all states are taken from."""
    here: TextStates
    there: TextStates
    name: str
    """Of the text that they are put into."""
    target: Target
    n: int
    """Positions that they are put at, the newest ones."""

    def value(self, logits: Tensor) -> Tensor:
        """(rows, vocab) -> (rows,): the probability of the token; of two, the difference of logits."""
        if self.target.is_difference:
            return sum((sign * logits[:, token] for token, sign in self.target.signs.items()), logits.new_zeros(()))
        (token,) = self.target.signs
        return logits.softmax(-1)[:, token]

    def taken_from(self, column: int) -> int:
        """The position here whose state is put at a column."""
        return len(self.here.ids) - self.n + column if self.source is None else self.source

    def put_at(self, column: int) -> int:
        return len(self.there.ids) - self.n + column

    @property
    def unit(self) -> str:
        return "nats" if self.target.is_difference else "share"

    @property
    def what(self) -> str:
        return f"logit of {self.target.name}" if self.target.is_difference else f"probability of {self.target.name}"


def compute(at: ProbeContext, options: PatchingOptions) -> Iterator[Panel]:
    """The grid of what the token's probability, or the difference of two, becomes.

    Sources: Vig et al. 2020; Meng et al. 2022, 'Locating and editing factual associations in GPT'.
    """
    try:
        patch = _patch(at, options)
        layers = tuple(range(at.loaded.architecture.n_layers, -1 if options.at == "block" else 0, -options.every))
        values, says = _grid(patch, layers)
    except Unpatchable as reason:
        raise Unavailable(str(reason)) from None
    yield _unpatched(patch)
    yield from _heat_maps(patch, layers, values, says)
    yield _largest(patch, layers, values, says)
    if patch.here is not patch.there and len(patch.here.ids) != len(patch.there.ids) and patch.source is None:
        yield Note(
            "positions are counted from the end",
            f"the text here has {len(patch.here.ids)} tokens and the other one {len(patch.there.ids)}, so that those "
            "as far from the end stand for each other",
        )


def _patch(at: ProbeContext, options: PatchingOptions) -> Patch:
    """Both texts read, or the one. Raises UserError and Unpatchable."""
    source = options.source if options.into or options.source is not None else at.position - 1
    if source is not None and source >= at.position:
        raise UserError(f"source is {source}, and the text before this token has positions 0 to {at.position - 1}")
    ids, offsets = _text(at.run, at.position)
    there, under, name = _other(at, options.into, offsets) if options.into else (ids, offsets, "this text")
    n = min(options.before + 1, len(ids), len(there))
    kept = max(n, 0 if source is None else at.position - source)
    here = read_states(at.loaded, at.instruments, ids, offsets, kept, options.at)
    other = here if there is ids else read_states(at.loaded, at.instruments, there, under, n, options.at)
    target = target_of(at, options.token, options.against, int(here.logits.argmax()))
    return Patch(at, options, source, here, other, name, target, n)


def _text(run: Run, n: int) -> tuple[Tensor, list[Offsets]]:
    """The first n tokens of a run, and what each was read under; what is set, for one that was not read yet."""
    ids, known = run.sequence.ids[:n], run.sequence.offsets[:n]
    return ids, [*known, *[run.controls.offsets] * (len(ids) - len(known))]


def _other(at: ProbeContext, wanted: str, offsets: list[Offsets]) -> tuple[Tensor, list[Offsets], str]:
    """The text that states are put into: its ids, what each is read under, and its name. Raises UserError.

    Another prompt stands in the place of the run's, before what was written of it; of a text that was read, in the
    place of all that is before the token.
    """
    sequence = at.sequence
    if wanted[0] == "#" and wanted[1:].isdecimal():
        run = at.state.run_of(int(wanted[1:]))
        return *_text(run, at.position), f"run {run.number}"
    started, card = at.run.started, at.loaded.card
    n_prompt = sequence.n_prompt + started.n_given
    is_prompt = at.position >= n_prompt
    chat = started.chat and is_prompt
    ids = at.loaded.tokenizer.encode(wanted, started.system if chat else None, chat)
    if is_prompt:
        ids += sequence.ids[n_prompt : at.position].tolist()
    if len(ids) >= card.context:
        raise UserError(
            f"the other text has {len(ids)} tokens and {card.name} reads at most {card.context}: shorten it"
        )
    under = [offsets[0]] * max(len(ids) - len(offsets), 0) + offsets
    return torch.tensor(ids, device=sequence.ids.device), under[-len(ids) :], "the other text"


def _grid(patch: Patch, layers: tuple[int, ...]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(layers, n) of what is measured, and the most probable token; unknown, and -1, where a block has no such part.

    A state that is there already is not put there.
    """
    text = PatchedText(patch.at.loaded, patch.at.instruments, patch.there)
    as_it_is = float(patch.value(patch.there.logits[None]))
    values = np.full((len(layers), patch.n), as_it_is)
    says = np.full((len(layers), patch.n), int(patch.there.logits.argmax()))
    for row, layer in enumerate(layers):
        places = sites(patch.at.loaded.architecture, layer, patch.options.at)
        if not places:
            values[row], says[row] = np.nan, -1
            continue
        states = [_states(patch, patch.here.states[site]) for site in places]
        had = [patch.there.states[site][-patch.n :] for site in places]
        columns = [
            n for n in range(patch.n) if not all(torch.equal(a[n], b[n]) for a, b in zip(states, had, strict=True))
        ]
        done = 0
        while done < len(columns):
            patch.at.progress(row + done / len(columns), len(layers))
            some = columns[done : done + text.rows_beside(patch.put_at(columns[done]))]
            cells = [PatchCell(at, patch.put_at(column)) for at, column in enumerate(some)]
            logits = text.logits(layer, patch.options.at, [one[some] for one in states], cells)
            values[row, some], says[row, some] = patch.value(logits).cpu(), logits.argmax(-1).cpu()
            done += len(some)
    return values, says


def _states(patch: Patch, kept: Tensor) -> Tensor:
    """(n, width) the states that are put at each column. kept: those at the newest positions here."""
    first = len(patch.here.ids) - len(kept)
    return kept[[patch.taken_from(column) - first for column in range(patch.n)]]


# --- Panels --------------------------------------------------------------------------------------------------


def _unpatched(patch: Patch) -> Table:
    """What both texts say as they are: the ends between which patched values are read."""
    texts = [("here", patch.here)] + [(patch.name, patch.there)] * (patch.there is not patch.here)
    rows: list[tuple[Cell, ...]] = []
    for name, text in texts:
        p, best = text.logits.softmax(-1), int(text.logits.argmax())
        value = float(patch.value(text.logits[None]))
        rows.append((name, value, patch.at.token(best), float(p[best]), len(text.ids)))
    columns = (
        Column("text"),
        Column(patch.what, patch.unit),
        Column("it says"),
        Column("at", "share"),
        Column("tokens"),
    )
    return Table("as they are, with nothing put in", columns, tuple(rows))


def _heat_maps(
    patch: Patch, layers: tuple[int, ...], values: Floats, says: npt.NDArray[np.int64]
) -> Iterator[Heatmap]:
    rows = Axis("layer", tuple(map(str, layers)))
    columns = Axis("position", positions=tuple(range(len(patch.here.ids) - patch.n, len(patch.here.ids))))
    shown = (
        tuple(patch.at.token(int(one)) if one >= 0 else Tokens((), b"") for one in says.flat)
        if patch.options.says
        else ()
    )
    state = "state" if patch.options.at == "block" else patch.options.at
    source = patch.source
    taken = f"the {state} from here" if source is None else f"the {state} of position {source}"
    known = np.nan_to_num(np.abs(values))
    both = [float(abs(patch.value(text.logits[None]))) for text in (patch.here, patch.there)]
    top = max(float(known.max(initial=0.0)), *both) or 1.0
    title = f"{patch.what} with {taken}"
    yield Heatmap(title, Grid.of(values), rows, columns, patch.unit, top, shown)
    if (values < 0).any():
        yield Heatmap("the same where it is below 0", Grid.of(-values), rows, columns, patch.unit, top, shown)


def _largest(patch: Patch, layers: tuple[int, ...], values: Floats, says: npt.NDArray[np.int64]) -> Table:
    """The cells where most changes."""
    was = float(patch.value(patch.there.logits[None]))
    change = np.nan_to_num(np.abs(values - was))
    rows: list[tuple[Cell, ...]] = []
    for cell in np.argsort(-change, axis=None, kind="stable")[:N_LARGEST]:
        row, column = divmod(int(cell), patch.n)
        if not change[row, column]:
            break
        position, now = patch.taken_from(column), float(values[row, column])
        taken, had = (
            int(text.ids[place]) for text, place in ((patch.here, position), (patch.there, patch.put_at(column)))
        )
        rows.append(
            (
                layers[row],
                patch.at.token(taken),
                patch.at.token(had),
                patch.put_at(column),
                now,
                now - was,
                patch.at.token(int(says[row, column])),
            )
        )
    columns = (
        Column("layer"),
        Column("state of"),
        Column("put at"),
        Column("position"),
        Column("becomes", patch.unit),
        Column("more by", patch.unit),
        Column("it says"),
    )
    return Table("where most changes", columns, tuple(rows))


# --- Doctor --------------------------------------------------------------------------------------------------


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """Cells against a plain pass in which a layer's vector of one token is copied to another."""
    _, grid, *_ = answer.panels
    assert isinstance(grid, Heatmap)
    n_layers, n, token = grid.rows.n - 1, grid.columns.n, evidence.step.token_id
    newest = grid.columns.positions[-1]
    for layer in sorted({0, 1, n_layers // 2, n_layers - 1, n_layers}):
        for column in sorted({0, n // 2, n - 1}):
            logp = evidence.patched(layer, newest, grid.columns.positions[column])
            size = float(np.abs(logp).max())
            yield Difference(grid.values.numpy()[n_layers - layer, column], np.exp(logp[token]), size)
            (shown,) = grid.tokens[(n_layers - layer) * n + column].ids
            yield Difference(logp[shown], logp.max(), size)


def memory(card: ModelCard, position: int, options: PatchingOptions) -> int:
    """States of two texts, and the keys and values of those that are read beside each other."""
    states = 2 * 4 * (card.n_layers + 1) * position * card.d_model
    kv = 2 * card.d_model * card.n_kv_heads // max(card.n_heads, 1)
    return 2 * states + 4 * card.n_layers * kv * max(MOST_KEYS, 3 * position) + 4 * 3 * MOST_ROWS * card.vocab


PROBE = Probe(
    "patching",
    "What another text says with a state of this one put in, by layer and position.",
    "a pass over each text, and a part of one for each cell",
    PatchingOptions,
    compute,
    check,
    memory=memory,
)
