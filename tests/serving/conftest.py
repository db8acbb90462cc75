"""A scripted engine with its first screen."""

from pathlib import Path

import pytest
from watchers import LOAD, Watcher, started

from tui_entropy.records.events import Ready


@pytest.fixture
def engine(own_folders):
    """Starts a scripted engine that has loaded, and the first screen of it."""
    running = []

    def make(load=LOAD, rate=300) -> tuple[Path, Watcher]:
        running.append(started("--rate", str(rate)))
        first = Watcher(running[-1].socket)
        first.send(load)
        first.until(Ready)
        return running[-1].socket, first

    make.processes = running
    yield make
    for each in running:
        each.process.kill()
        each.process.wait()
