"""Lens rows: what each layer would have said at a step, had the model stopped there."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from msgspec import Struct

PACKED = struct.Struct("<HIIfff")
"""A row in a trace: layer, token id and rank as whole numbers; p, entropy and KL."""


LARGEST = 3e38
"""No number is larger in size; one of float32 can be no more."""


class LensRow(Struct, frozen=True, array_like=True):
    """One layer, read as the model reads its last one."""

    layer: int
    """0 for the embedding, k for the output of block k."""
    token_id: int
    """The most probable token."""
    token_bytes: bytes
    p: float
    """Its probability."""
    entropy: float
    """Nats."""
    kl: float
    """KL(the last layer || this one), nats."""
    rank: int
    """Of the token that was written; 1 is the most probable, 0 is unknown."""


def layers_read(n_layers: int, every: int, first: int = 0) -> tuple[int, ...]:
    """Every so many layers, from the last one back to the first that there is; in their order."""
    return tuple(range(n_layers, first - 1, -every))[::-1]


def packed(rows: Sequence[LensRow]) -> bytes:
    """Rows as a trace has them: PACKED, one after the other."""
    return b"".join(PACKED.pack(row.layer, row.token_id, row.rank, row.p, row.entropy, row.kl) for row in rows)


def unpacked(data: object, n_layers: int, token_bytes: Callable[[int], bytes]) -> tuple[LensRow, ...]:
    """The rows of these bytes; none where they cannot be of a model of so many layers. 0: nobody knows how many."""
    if not isinstance(data, bytes) or len(data) % PACKED.size:
        return ()
    found = tuple(
        LensRow(layer, token_id, token_bytes(token_id), p, entropy, kl, rank)
        for layer, token_id, rank, p, entropy, kl in PACKED.iter_unpack(data)
    )
    return found if fits(found, n_layers) else ()


def fits(rows: Sequence[LensRow], n_layers: int) -> bool:
    """Whether an engine could have read these of a model of so many layers, 0 where nobody knows how many. NaN is
    unknown."""
    layers = [row.layer for row in rows]
    if not layers:
        return True
    if layers != sorted(set(layers)) or layers[-1] != (n_layers or layers[-1]):
        return False
    return all(
        min(row.layer, row.token_id, row.rank) >= 0
        and max(row.layer >> 16, row.token_id >> 32, row.rank >> 32) == 0
        and not any(abs(value) > LARGEST for value in (row.p, row.entropy, row.kl))
        for row in rows
    )
