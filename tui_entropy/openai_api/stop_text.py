"""StopText: a text that comes in parts, up to a stop string that may be spread over several of them."""

from __future__ import annotations


class StopText:
    """Gives out what cannot belong to a stop string any more."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops, self._held = stops, ""
        self.stopped_by: str | None = None
        """The stop string that came."""

    def push(self, text: str) -> str:
        """What can be given out now that this came."""
        if self.stopped_by is not None:
            return ""
        held = self._held + text
        found = [(at, stop) for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            at, self.stopped_by = min(found, key=lambda each: each[0])
            self._held = ""
            return held[:at]
        n = max((_begun(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - n :]
        return held[: len(held) - n]

    def finish(self) -> str:
        """What was held back, where no stop string came of it."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """Characters at the end of a text with which a stop string begins."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
