"""Remark: what is said of an answer while it is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Remark(NamedTuple):
    """A sentence on an answer; empty where there is nothing to say."""

    sentence: str = ""
    at: int | None = None
    """The character where it is wrong, which keeps it from being taken; None where it can be."""


Check = Callable[[str], Remark]


def checked(read: Callable[[str], object]) -> Check:
    """What is said of an answer that `read` takes: the sentence of the ValueError that it raises for one that is
    wrong."""

    def check(typed: str) -> Remark:
        try:
            read(typed)
        except ValueError as mistake:
            return Remark(str(mistake), 0)
        return Remark()

    return check
