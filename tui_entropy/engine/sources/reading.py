"""Reads files from elsewhere by code that takes them at their word, a library's or ours: its faults are told as those
of the files."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

from tui_entropy.core.errors import UserError

SAID = 300
"""Characters of what an error says of itself that go into a sentence."""
PANIC = "PanicException"
"""What libraries in Rust raise where they have a fault themselves; each has a class of its own of that name."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No more can be written."""


@contextmanager
def reading(refusal: Callable[[BaseException], UserError]) -> Iterator[None]:
    """Whatever is raised within lies in what is read, and becomes what `refusal` makes of it, also what Rust raises
    past Exception. A person's mistake, an interruption and a full disk stay what they are."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        is_fault = isinstance(error, Exception) or type(error).__name__ == PANIC
        if not is_fault or (isinstance(error, OSError) and error.errno in FULL):
            raise
        raise refusal(error) from error


def said_by(error: BaseException) -> str:
    """The words of an error, in a phrase; a bare key or nothing at all says too little without its kind."""
    if isinstance(error, UnpicklingError) and "weights_only" in str(error):
        return "it holds more than tensors, and no code of a file is run"  # torch's own words advise to run it
    lines = [line.strip() for line in str(error).strip().splitlines()[:2]]
    reason = "; ".join(filter(None, lines)).rstrip(".")[:SAID]
    kind = type(error).__name__
    return reason if reason and not isinstance(error, LookupError) else f"{kind}: {reason}" if reason else kind
