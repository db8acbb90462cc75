"""ToldNumbers: what a hook told of one position, taken from a reply that may hold anything. Nothing is unpickled."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tui_entropy.records.arrays import Grid
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.step import ATTENTION, BLOCKS
from tui_entropy.servers.streams.told_token import Alternative, ToldToken
from tui_entropy.servers.tokens import TokenNames
from tui_entropy.servers.vllm_lens.hook_plan import N_KEPT, N_RANKED, Measured

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

PUBLISHED = "tui-entropy"
"""As in worker_hook.py."""
MOST_RANKS = 64
MOST_POSITION = 2**24
"""Ids and positions below this survive float32."""
ROUNDING = 1e-3


class ToldNumbers(Struct, frozen=True):
    """Of the pass that read the token at one position."""

    token_id: int
    """That token."""
    n_pushed: int
    """Blocks that were steered there."""
    numbers: bytes
    """Little-endian float32 in the order of `Measured`; NaN is unknown."""
    measured: Measured

    def fields(self, written: int | None, names: TokenNames) -> dict[str, Any]:
        """Of the step whose token that pass chose. written: the id of that token."""
        import numpy as np

        measured, model = self.measured, self.measured.model
        numbers = np.frombuffer(self.numbers, "<f4")
        n_blocks = len(BLOCKS) * model.n_layers
        heads = np.full((2, model.n_layers, model.n_heads), np.nan, np.float32)
        whole = np.full((model.n_layers, len(ATTENTION)), np.nan, np.float32)
        visible: list[int | None] = [None] * model.n_layers
        for n, block in enumerate(measured.attention):
            at = n_blocks + n * measured.n_heads_told
            told = numbers[at : at + measured.n_heads_told]
            heads[:, block - 1] = told[: 2 * model.n_heads].reshape(2, -1)
            whole[block - 1] = told[-4:-1]
            visible[block - 1] = int(told[-1]) if told[-1] == told[-1] else None
        at = n_blocks + len(measured.attention) * measured.n_heads_told
        return {
            "blocks": Grid.of(numbers[:n_blocks].reshape(model.n_layers, -1)),
            "head_entropy": Grid.of(heads[0]), "head_varentropy": Grid.of(heads[1]), "attention": Grid.of(whole),
            "visible_keys": tuple(visible), "lens_rows": self._lens_rows(numbers[at:], written, names),
        }  # fmt: skip

    def _lens_rows(self, numbers: Floats, written: int | None, names: TokenNames) -> tuple[LensRow, ...]:
        if not len(numbers) or numbers[0] != numbers[0]:
            return ()
        ranked = numbers[:N_RANKED].astype(int).tolist()
        rows = numbers[N_RANKED:].reshape(len(self.measured.lens), -1).tolist()
        names.learn(ToldToken(alternatives=tuple(Alternative(0.0, int(row[0])) for row in rows)))
        place = ranked.index(written) if written in ranked else None
        return tuple(
            LensRow(
                layer,
                int(top),
                names.token_bytes(int(top)),
                p,
                entropy,
                kl,
                0 if place is None else int(ranks[place]),
            )
            for layer, (top, p, entropy, kl, *ranks) in zip(self.measured.lens, rows, strict=True)
        )


class Reply(Struct, frozen=True):
    """What a reply of `/v1/hooks/collect` says of one request."""

    by_position: dict[int, ToldNumbers] = {}
    n_odd: int = 0
    """Entries that are none of ours, or whose numbers can be none."""
    error: str = ""
    """What went wrong in the hook."""


def read_reply(reply: object, stream: str, measured: Measured) -> Reply:
    """stream: by which the request is known: what is said of others is passed over."""
    results = reply.get("results") if isinstance(reply, dict) else None
    for contexts in results.values() if isinstance(results, dict) else ():
        told = contexts.get(PUBLISHED) if isinstance(contexts, dict) else None
        if isinstance(told, dict) and told.get("stream") == stream:
            return _read(told, measured)
    return Reply()


def told_streams(reply: object) -> set[str]:
    """The requests of this program that a reply says anything of."""
    results = reply.get("results") if isinstance(reply, dict) else None
    every = [one for one in results.values() if isinstance(one, dict)] if isinstance(results, dict) else []
    told = [one.get(PUBLISHED) for one in every]
    names = [one.get("stream") for one in told if isinstance(one, dict)]
    return {name for name in names if isinstance(name, str)}


def _read(told: Mapping[str, Any], measured: Measured) -> Reply:
    n_odd, found = 0, dict[int, "Floats"]()
    error = told.get("error", "")
    for rank in [name for name in told if name.startswith("rank ")][:MOST_RANKS]:
        rows = told[rank] if isinstance(told[rank], list) else [None]
        n_odd += max(len(rows) - N_KEPT, 0)
        for row in rows[-N_KEPT:]:
            told_there = _row(row, measured)
            if told_there is None:
                n_odd += 1
                continue
            position, numbers = told_there
            found[position] = _joined(found[position], numbers) if position in found else numbers
    by_position = {position: made for position, numbers in found.items() if (made := _checked(numbers, measured))}
    return Reply(by_position, n_odd + len(found) - len(by_position), error[:300] if isinstance(error, str) else "?")


def _row(row: object, measured: Measured) -> tuple[int, Floats] | None:
    """Of [position, base64 of little-endian float32]; None for anything else."""
    import numpy as np

    if not (isinstance(row, list) and len(row) == 2 and isinstance(row[1], str) and type(row[0]) is int):
        return None
    sizes = {4 * measured.n_plain, 4 * (measured.n_plain + measured.n_lens)}
    if not 0 <= row[0] < MOST_POSITION or len(row[1]) not in {4 * -(-size // 3) for size in sizes}:
        return None
    try:
        data = base64.b64decode(row[1], validate=True)
    except (binascii.Error, ValueError):
        return None
    return (row[0], np.frombuffer(data, "<f4")) if len(data) in sizes else None


def _joined(one: Floats, other: Floats) -> Floats:
    """What two ranks know of a position: what one does not know, the other may."""
    import numpy as np

    return np.where(np.isnan(one), other, one) if one.shape == other.shape else one


def _checked(numbers: Floats, measured: Measured) -> ToldNumbers | None:
    """None where they can be no measurement."""
    import numpy as np

    token_id, n_pushed = numbers[:2].tolist()
    if np.isinf(numbers).any() or not _is_whole(token_id, measured.model.vocab) or not _is_whole(n_pushed, 2**16):
        return None
    blocks = numbers[2 : 2 + 3 * measured.model.n_layers].reshape(-1, 3)
    heads = numbers[2 + blocks.size : measured.n_plain].reshape(-1, measured.n_heads_told)
    lens = numbers[measured.n_plain :]
    # An entropy of a row, a norm or a deviation below zero is none; NaN compares as neither.
    if (blocks[:, 1:] < 0).any() or (heads < -ROUNDING).any() or (lens < -ROUNDING).any():
        return None
    if (heads[:, -1:] != heads[:, -1:].round()).any() and not np.isnan(heads[:, -1:]).all():
        return None
    if len(lens) and not np.isnan(lens).all():
        ranked, rows = lens[:N_RANKED], lens[N_RANKED:].reshape(len(measured.lens), -1)
        ids, ranks = np.concatenate([ranked, rows[:, 0]]), rows[:, 4:]
        if np.isnan(lens).any() or ids.max() >= measured.model.vocab or (rows[:, 1] > 1 + ROUNDING).any():
            return None
        if (ids != ids.round()).any() or (ranks != ranks.round()).any() or ranks.min() < 1:
            return None
    return ToldNumbers(int(token_id), int(n_pushed), numbers[2:].astype("<f4").tobytes(), measured)


def _is_whole(value: float, most: int) -> bool:
    return value == value and value == int(value) and 0 <= value < most
