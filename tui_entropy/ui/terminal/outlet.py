"""The terminal as a file to write to."""

from __future__ import annotations

import os
import select
from collections.abc import Callable


class Outlet:
    """Writes to a descriptor, and passes over what can no longer be shown: a terminal may go at any time.

    gone: called once, by the thread that writes, when the terminal is gone.
    """

    def __init__(self, descriptor: int, encoding: str, gone: Callable[[], object]) -> None:
        self._descriptor, self._encoding, self._gone = descriptor, encoding, gone
        self._is_gone = False

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        left = memoryview(text.encode(self._encoding, "backslashreplace"))
        while left and not self._is_gone:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # whoever started the program left it so
                select.select([], [self._descriptor], [])
            except OSError:
                self._is_gone = True
                self._gone()
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""
