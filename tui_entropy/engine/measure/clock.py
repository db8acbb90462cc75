"""The clock of a step: where its time went."""

from __future__ import annotations

from time import perf_counter

import torch


class Clock:
    """Seconds of each forward pass and of what follows it, and of all work so far (pauses not counted).

    On CUDA a forward pass is still running when the host is done with it: the device's own events are read for it,
    after the step's one copy has waited for the device.
    """

    def __init__(self, device: torch.device, worked: float = 0.0) -> None:
        self._cuda = device.type == "cuda"
        self._worked = worked
        self.forward_seconds = 0.0
        self.sample_seconds = 0.0
        self.at = worked
        """Seconds of work from the first `start` to the last `stop`, and what was worked before this clock."""

    def start(self) -> None:
        self._began = perf_counter()
        self._events = [self._event()]

    def forward_done(self) -> None:
        self.forward_seconds = perf_counter() - self._began
        self._events.append(self._event())

    def stop(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()
            began, done = self._events
            assert began is not None and done is not None
            self.forward_seconds = began.elapsed_time(done) / 1000
        total = perf_counter() - self._began
        self.sample_seconds = max(total - self.forward_seconds, 0.0)
        self.at = self._worked + total

    def rest(self) -> None:
        """The turn is over: what was done since `stop` was work too, what comes now is not."""
        self._worked += perf_counter() - self._began

    def _event(self) -> torch.cuda.Event | None:
        if not self._cuda:
            return None
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
