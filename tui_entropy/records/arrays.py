"""Grid: a read-only array of float32 as bytes and shape, without numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Grid(Struct, frozen=True, array_like=True):
    """A read-only float32 array that the screen can index without numpy."""

    shape: tuple[int, ...]
    data: bytes
    """Little-endian float32, row-major."""

    def __post_init__(self) -> None:
        if min(self.shape, default=0) < 0 or 4 * math.prod(self.shape) != len(self.data):
            raise ValueError(f"{len(self.data)} bytes are no grid of {self.shape}")

    @classmethod
    def of(cls, array: npt.ArrayLike) -> Grid:
        import numpy as np

        dense = np.ascontiguousarray(array, dtype="<f4")
        return cls(dense.shape, dense.tobytes())

    @property
    def view(self) -> memoryview[Any]:
        """Indexed as view[i, j] for two dimensions, view[i] for one."""
        return memoryview(self.data).cast("f", shape=self.shape) if math.prod(self.shape) else self.flat

    def rows(self) -> list[list[float]]:
        """A two-dimensional grid as nested lists."""
        height, width = self.shape
        if not width:
            return [[] for _ in range(height)]
        rows: Any = self.view.tolist()
        return list(rows)

    @property
    def flat(self) -> memoryview[Any]:
        """All values, row-major."""
        return memoryview(self.data).cast("f")

    def row(self, at: int) -> list[float]:
        """One of `rows`, at a fraction of their cost."""
        at, width = range(self.shape[0])[at], self.shape[1]
        return list(self.flat[at * width : (at + 1) * width])

    def column(self, at: int) -> list[float]:
        """One value of each of `rows`."""
        return list(self.flat[at :: self.shape[1]])

    def numpy(self) -> npt.NDArray[np.float32]:
        import numpy as np

        return np.frombuffer(self.data, dtype="<f4").reshape(self.shape)
