"""Durations and sizes as a person types them: 30m, 64MiB."""

from __future__ import annotations

import re

from tui_entropy.core.errors import UserError
from tui_entropy.records.bounds import LONGEST_STAY

MOST_BYTES = 2**50
UNITS = {"h": 3600, "m": 60, "s": 1}


def seconds(text: str) -> float:
    """'30m', '12h', '90s' or '0' -> seconds. Raises UserError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])|0", text)
    if match is None:
        raise UserError(f"--keep {text}: wanted a time such as 90s, 30m or 12h, or 0 to end with the last screen")
    value = float(match[1]) * UNITS[match[2]] if match[1] else 0.0
    if value > LONGEST_STAY:
        raise UserError(f"--keep {text} is longer than {LONGEST_STAY / UNITS['h']:.0f}h: give at most that")
    return value


def n_bytes(text: str) -> int:
    """'512MiB', '1.5GiB' or '0' -> bytes. Raises UserError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG])iB|0", text)
    if match is None:
        raise UserError(f"--kept-cache {text}: wanted a size such as 512MiB or 1.5GiB, or 0 to keep nothing")
    value = float(match[1]) * 1024 ** (1 + "KMG".index(match[2])) if match[1] else 0
    if value > MOST_BYTES:
        raise UserError(f"--kept-cache {text} is more than {MOST_BYTES >> 30}GiB: give at most that")
    return int(value)


def duration(seconds: float) -> str:
    """In the largest unit that it fills: 1800 -> '30 minutes'."""
    unit, name = next((u, n) for u, n in ((3600, "hour"), (60, "minute"), (1, "second")) if seconds >= u or u == 1)
    return f"{seconds / unit:.3g} {name}{'' if seconds == unit else 's'}"
