"""Attention rows in few bytes: the largest weights of each in 8 bits, and what all other keys get as one number."""

from __future__ import annotations

import math
import struct
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORM = "sqrt8"
"""The name of this quantisation, in traces. Another one has another name."""
N_KEYS = 24
"""Keys of a row that are kept by name, at most."""
LEVELS = 255
"""A weight w is kept as the whole number next to LEVELS * sqrt(w): small ones, which most are, finer."""
FAR = 255
"""A distance from one key to the next that is this large or larger stands among the far ones."""
HEAD = struct.Struct("<HHHHB")
WIDTHS = {2: "H", 4: "I"}
"""Bytes of a far distance -> its code."""
MAX_POSITION = 2**31


class TopKeys(NamedTuple):
    """One row: the keys that get most of it."""

    keys: tuple[int, ...]
    """Positions, ascending."""
    weights: tuple[float, ...]
    """What each of them gets, 0 ... 1."""
    rest: float
    """What all others get together. Where a learned sink takes a part, all of a row is less than 1."""


class QuantisedRows(Struct, frozen=True, array_like=True):
    """The attention rows of the query that chose a step, as they are recorded: of every block the mean of its heads,
    and of one head, or of all of them.

    `data`, little-endian: four uint16 (blocks; heads of each that are there, 0 for the mean alone; block and head of
    the one row that stands beside the means, 0 for none) and a byte (of a far distance, 2 or 4), then a byte for each
    row with how many keys it has, one for each row with the rest, one for each key with its weight, one for each key
    with its distance from the key before it in the row (FAR: it stands among the far ones), at last those. Rows:
    block after block its mean and its heads, then the one beside. A row without keys is unknown.
    """

    data: bytes
    form: str = FORM

    @property
    def readable(self) -> bool:
        """Whether this version knows the form."""
        return self.form == FORM and len(self.data) >= HEAD.size

    @property
    def shown(self) -> tuple[int, int] | None:
        """Block and head (1-based) of the row beside the means."""
        if not self.readable:
            return None
        _, _, layer, head, _ = HEAD.unpack_from(self.data)
        return (layer, head) if layer and head else None

    def row(self, layer: int, head: int | None) -> TopKeys | None:
        """The row of a block and head (1-based; None for the mean of heads); None where it was not recorded, and for
        bytes that are none of these rows."""
        if not self.readable:
            return None
        n_layers, n_heads, *beside, width = HEAD.unpack_from(self.data)
        n_rows = n_layers * (1 + n_heads) + any(beside)
        if not 1 <= layer <= n_layers or width not in WIDTHS:
            return None
        if head is None or 1 <= head <= n_heads:
            at = (layer - 1) * (1 + n_heads) + (head or 0)
        elif [layer, head] == beside:
            at = n_rows - 1
        else:
            return None
        return self._decoded(at, n_rows, width)

    def _decoded(self, at: int, n_rows: int, width: int) -> TopKeys | None:
        data = self.data
        counts = data[HEAD.size : HEAD.size + n_rows]
        first, n_keys, total = sum(counts[:at]), counts[at] if at < len(counts) else 0, sum(counts)
        codes = HEAD.size + 2 * n_rows
        gaps = codes + total
        if not n_keys or len(data) < gaps + total:
            return None
        steps = data[gaps + first : gaps + first + n_keys]
        far, n_far = gaps + total + width * data.count(FAR, gaps, gaps + first), steps.count(FAR)
        if len(data) < far + width * n_far:
            return None
        jumps = iter(struct.unpack_from(f"<{n_far}{WIDTHS[width]}", data, far))
        keys = tuple(accumulate(next(jumps) if step == FAR else step for step in steps))
        if keys[-1] > MAX_POSITION or any(later <= key for key, later in pairwise(keys)):
            return None
        weights = tuple(map(_weight, data[codes + first : codes + first + n_keys]))
        return TopKeys(keys, weights, _weight(data[HEAD.size + n_rows + at]))


def quantised(
    rows: npt.NDArray[np.float32], n_layers: int, n_heads: int = 0, shown: tuple[int, int] | None = None
) -> QuantisedRows:
    """Rows as they are recorded.

    rows: (n_rows, 2 * k + 1) of the k largest weights, the position of each, and what all other keys get; NaN where
    a row is unknown. n_layers, n_heads, shown: which rows they are, as in QuantisedRows; of `shown` block and head.

    What is read back differs from a weight w by at most `error_bound(w)`.
    """
    import numpy as np

    k = rows.shape[1] // 2
    codes = np.rint(LEVELS * np.sqrt(np.clip(np.nan_to_num(rows), 0.0, 1.0))).astype(np.uint8)
    kept, rest = codes[:, :k], codes[:, -1]
    keys = np.where(kept > 0, np.nan_to_num(rows[:, k:-1]), MAX_POSITION).astype(np.int64)
    order = np.argsort(keys, axis=1)
    keys, kept = np.take_along_axis(keys, order, 1), np.take_along_axis(kept, order, 1)
    there = kept > 0
    steps = np.diff(keys, axis=1, prepend=0)[there]
    far, width = steps[steps >= FAR], 2 if steps.max(initial=0) < 2**16 else 4
    near = np.minimum(steps, FAR).astype(np.uint8)
    parts = there.sum(1).astype(np.uint8), rest, kept[there], near, far.astype(f"<u{width}")
    head = HEAD.pack(n_layers, n_heads, *(shown or (0, 0)), width)
    return QuantisedRows(head + b"".join(part.tobytes() for part in parts))


def error_bound(weight: float) -> float:
    """By how much a weight that is read back may differ from this one.

    Its root is off by at most half a level, e = 1 / (2 LEVELS), and |a² - b²| = |a - b| (a + b) <= e (2 sqrt(w) + e).
    A row that sums to 1 is read back, rest included, as one that sums to 1 within the sum of these.
    """
    half = 0.5 / LEVELS
    return half * (2 * math.sqrt(max(weight, 0.0)) + half)


def _weight(code: int) -> float:
    return (code / LEVELS) ** 2
