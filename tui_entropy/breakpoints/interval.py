"""Interval: a number of which only bounds are known, as conditions reckon with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """A number that is neither below `low` nor above `high`.

    A comparison is True or False where that is so for every number between them, else None: it is unknown. Two
    intervals are reckoned with as if any number of the one could go with any of the other (Moore 1966), so what is
    said of them is certain, and less than could be said of a quantity that stands in an expression twice.
    """

    low: float
    high: float

    @staticmethod
    def of(value: object) -> Interval:
        """A number as an interval of one."""
        return value if isinstance(value, Interval) else Interval(value, value)  # type: ignore[arg-type]

    # --- Comparisons -----------------------------------------------------------------------------------------

    def __lt__(self, other: object) -> bool | None:
        beside = Interval.of(other)
        return True if self.high < beside.low else False if self.low >= beside.high else None

    def __le__(self, other: object) -> bool | None:
        beside = Interval.of(other)
        return True if self.high <= beside.low else False if self.low > beside.high else None

    def __gt__(self, other: object) -> bool | None:
        return Interval.of(other) < self

    def __ge__(self, other: object) -> bool | None:
        return Interval.of(other) <= self

    def __eq__(self, other: object) -> bool | None:  # type: ignore[override]
        beside = Interval.of(other)
        if self.high < beside.low or beside.high < self.low:
            return False
        return True if self.low == self.high == beside.low == beside.high else None

    def __ne__(self, other: object) -> bool | None:  # type: ignore[override]
        equal = self == other
        return None if equal is None else not equal

    def __bool__(self) -> bool:
        """Whether it is certainly not 0, so that it can be divided by."""
        return not self.low <= 0 <= self.high

    # --- Arithmetic ------------------------------------------------------------------------------------------

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __add__(self, other: object) -> Interval:
        beside = Interval.of(other)
        return Interval(self.low + beside.low, self.high + beside.high)

    def __sub__(self, other: object) -> Interval:
        return self + -Interval.of(other)

    def __mul__(self, other: object) -> Interval:
        beside = Interval.of(other)
        corners = [a * b for a in (self.low, self.high) for b in (beside.low, beside.high)]
        return Interval(min(corners), max(corners))

    def __truediv__(self, other: object) -> Interval:
        beside = Interval.of(other)
        return self * Interval(1 / beside.high, 1 / beside.low)

    def __mod__(self, other: object) -> None:
        """Unknown: it may have wrapped around."""

    def __radd__(self, other: float) -> Interval:
        return Interval.of(other) + self

    def __rsub__(self, other: float) -> Interval:
        return Interval.of(other) - self

    def __rmul__(self, other: float) -> Interval:
        return Interval.of(other) * self

    def __rtruediv__(self, other: float) -> Interval:
        return Interval.of(other) / self

    def __rmod__(self, other: float) -> None:
        """As __mod__."""
