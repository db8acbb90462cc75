"""How a text that is read or asked for again agrees with what was recorded of it, in a phrase."""

from __future__ import annotations


def phrase(nats: float | None, rounding: float, unknown: str) -> str:
    """nats: the largest difference of ln p over what was recorded of the newest token. 0 is the same to the bit; None
    where there is nothing to compare, and then the phrase is `unknown`. rounding: what it alone comes to at most."""
    if nats is None:
        return unknown
    if nats == 0:
        return "as recorded, to the bit"
    if nats <= rounding:
        return f"as recorded but for rounding, {nats:.0e} nats"
    return f"NOT as recorded: {nats:.2g} nats apart"
