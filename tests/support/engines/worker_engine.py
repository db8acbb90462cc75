"""An engine in a process of its own, with orders sent and events heard by a test."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tui_entropy.records.commands import Follow, Write
from tui_entropy.records.events import Failed
from tui_entropy.records.sampling import Knobs
from tui_entropy.transport import connection

WORKER = (sys.executable, "-m", "tui_entropy.serving.worker")
ENDLESS = Write("ABCDEFGHIJ", None, False, 200, Knobs(temperature=1.0, top_k=0, seed=1))


class Engine:
    """A screen's end of a real engine process."""

    def __init__(self, folder: Path, program: Sequence[str] = WORKER) -> None:
        self.log = folder / "engine.log"
        path = self.socket = folder / "private" / "engine.sock"
        self.process = subprocess.Popen([*program, str(path), str(self.log)], stdin=subprocess.DEVNULL)
        self.end = self._reached(path)
        self.end.send(Follow())
        self.heard: list = []
        self.looked = 0

    def _reached(self, path: Path) -> connection.ScreenEnd:
        for _ in range(1000):
            try:
                return connection.connect(path)
            except OSError:
                assert self.process.poll() is None
                time.sleep(0.01)
        raise AssertionError("the engine never listened")

    def until(self, kind, number: int = 1, seconds: float = 180):
        """Read events until `number` of a kind have come after the one that the last call found; the last of them."""
        deadline = time.monotonic() + seconds
        while True:
            while self.looked < len(self.heard):
                event = self.heard[self.looked]
                self.looked += 1
                assert kind is Failed or not isinstance(event, Failed), event
                number -= isinstance(event, kind)
                if not number:
                    return event
            assert time.monotonic() < deadline, self.heard[-5:]
            self.heard += self.end.receive(0.2)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.end.close()
