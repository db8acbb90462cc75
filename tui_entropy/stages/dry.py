"""DRY: a token that would go on repeating a sequence is penalised, the more the longer the sequence.

Source: llama.cpp, llama_sampler_dry: the sequence repeated does not reach over a breaker, a breaker itself is not
penalised, and the exponent stops where float32 would overflow.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from msgspec import Meta

from tui_entropy.stages.inputs import ExactPast, ExactRow, Past, Row
from tui_entropy.stages.stage import HUGE, Knob, Stage, rungs

BREAKERS = Annotated[tuple[Annotated[str, Meta(max_length=4096)], ...], Meta(max_length=4096)]


def _taken_off(
    row: Row, past: Past, multiplier: float, base: float, allowed: int, breakers: object, last_n: int
) -> Any:
    """multiplier * base ^ (length - allowed). breakers: their texts; `past` has the tokens with them."""
    longest = repeats(past.seen(last_n).cpu().numpy(), past.breakers)
    most = math.log(HUGE, base) if base > 1 else math.inf
    penalties = {
        token_id: min(multiplier * base ** min(length - allowed, most), HUGE)
        for token_id, length in longest.items()
        if length >= allowed and token_id not in past.breakers
    }
    ids = past.prompt.new_tensor(list(penalties))
    return row.scores - row.sums(ids, row.scores.new_tensor(list(penalties.values())))


def repeats(context: Any, breakers: frozenset[int]) -> dict[int, int]:
    """Token id -> length of the longest end of the context that occurred before, followed by this token.

    context: (n,) ids, an array. The end begins after the newest breaker.
    """
    unbroken = next(
        (n for n, token_id in enumerate(reversed(context.tolist())) if token_id in breakers), len(context)
    )
    longest: dict[int, int] = {}
    (ends,) = (context[:-1] == context[-1:]).nonzero()  # of what equals the newest `length` tokens
    for length in range(1, min(unbroken, len(context) - 1) + 1):
        if not len(ends):
            break
        longest |= dict.fromkeys(context[ends + 1].tolist(), length)
        ends = ends[ends >= length]
        ends = ends[context[ends - length] == context[-1 - length]]
    return longest


def _check(
    row: ExactRow, past: ExactPast, multiplier: float, base: float, allowed: int, breakers: object, last_n: int
) -> Any:
    """Every place in the context is compared with its end, token by token backwards."""
    context, changed = past.newest(last_n), row.scores.copy()
    lengths: dict[int, int] = {}
    for place in range(1, len(context)):
        length = 0
        while length < place and context[place - 1 - length] == context[-1 - length] not in past.breakers:
            length += 1
        lengths[context[place]] = max(lengths.get(context[place], 0), length)
    for token, length in lengths.items():
        if length >= max(allowed, 1) and token not in past.breakers:
            beyond = (length - allowed) * math.log(base)
            changed[token] -= min(multiplier * math.exp(min(beyond, math.log(1e30))), 1e30)
    return changed


NEEDS = ("dry_multiplier",)
DRY = (
    Stage(
        (
            Knob(
                "dry_multiplier", "DRY", "Taken off a token that would go on repeating a sequence. 0 is off.",
                0.0, 0.0, high=100, rungs=(*rungs(0.0, 2.0, 0.1), 3.0, 5.0), cost=1.5,
            ),
            Knob(
                "dry_base", "DRY-base", "By how much DRY grows with each further token that is repeated.",
                1.75, low=1, high=100, rungs=rungs(1.0, 4.0, 0.25), needs=NEEDS,
            ),
            Knob(
                "dry_allowed_length", "DRY-allowed", "The longest sequence that may be repeated before DRY grows.",
                2, low=1, high=1000, rungs=(1, 2, 3, 4, 5, 6, 8, 10, 15, 20), needs=NEEDS,
            ),
            Knob(
                "dry_breakers", "DRY-breakers",
                "Texts that end a repeated sequence, such as '\\n,:'; set on the command line.",
                ("\n", ":", '"', "*"), needs=NEEDS, type=BREAKERS,
            ),
        ),
        places=(4, 4, 4), rescore=_taken_off, check=_check, also=("penalty_last_n",),
        example={"dry_multiplier": 2.0},
    ),
)  # fmt: skip
