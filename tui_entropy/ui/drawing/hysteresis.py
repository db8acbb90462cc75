"""Steps of a ramp that hold still while numbers only tremble: less flickers, and less has to be sent."""

from __future__ import annotations

from collections.abc import Hashable

MARGIN = 0.25
"""Parts of a step that a level has to go beyond the one that is shown before it shows another. Less than 1, so that
what is shown is never further than the next step from the exact one."""


class Hysteresis:
    """The step of a ramp that each cell shows for its level 0 ... 1, held until the level clearly leaves it. Only for
    what follows a text while it is written: a screen that rests shows the levels themselves."""

    def __init__(self) -> None:
        self._of: object = None
        self._steps = 1
        self._held: dict[Hashable, int] = {}

    def follow(self, of: object, steps: int) -> None:
        """Forget what is shown where it was of anything else."""
        if (of, steps) != (self._of, self._steps):
            self._of, self._steps, self._held = of, steps, {}

    def shown_level(self, cell: Hashable, level: float) -> float:
        """The level where a cell shows its step already, or one in the step that it goes on to show."""
        at = level * self._steps
        exact = min(int(max(at, 0.0)), self._steps - 1)
        step = self._held.get(cell, exact)
        if not step - MARGIN <= at <= step + 1 + MARGIN:
            step = exact
        self._held[cell] = step
        return level if step == exact else (step + 0.5) / self._steps
