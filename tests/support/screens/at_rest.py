"""When a screen under test is at rest.

Textual's pilot takes it to be once the process has been idle for a while. Here the event loop is asked, which knows
at once, and what is to be repainted is repainted without waiting for its turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from textual._context import active_app
from textual.app import App
from textual.timer import Timer

PATIENCE = 10
"""How much longer than asked for is waited at most, by the clock."""
SOON = 1 / 100
"""Seconds. A timer that rings by then is waited for."""


async def at_rest(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Wait until nothing is to be done now or soon, and the screen shows it.

    max_sleep: seconds that this process works meanwhile, at most. On a busy machine that is more by the clock.
    """
    loop, app = asyncio.get_running_loop(), active_app.get()
    now, worked = loop.time(), time.process_time() + max_sleep
    earliest, latest = now + min_sleep, now + PATIENCE * max_sleep
    while now < latest and time.process_time() < worked:
        await asyncio.sleep(0)
        now = loop.time()
        if loop._ready or _repainted(app):  # type: ignore[attr-defined]
            continue
        rings = (timer.when() for timer in loop._scheduled if not timer.cancelled())  # type: ignore[attr-defined]
        if (ring := min(rings, default=latest)) > max(now + SOON, earliest):
            ring = earliest
            if now >= earliest:
                return
        await asyncio.sleep(ring - now)


def _repainted(app: App[object]) -> bool:
    """Whether something was to be repainted. Textual does that a 60th of a second or two later."""
    timer: Timer | None = app.screen._Screen__update_timer  # type: ignore[attr-defined]
    if timer is None or not timer._active.is_set():
        return False
    app.screen._on_timer_update()
    return True


@contextmanager
def asked_of_the_loop() -> Iterator[None]:
    """The pilot's waits are `at_rest`."""
    with patch("textual.app.wait_for_idle", at_rest), patch("textual.pilot.wait_for_idle", at_rest):
        yield
