"""A source in one file: it writes the alphabet, and knows each letter's surprisal, but of the entropy only bounds.

`python toy_source.py SOCKET LOGFILE` serves it. It can be told to begin, to pause and to stop, and nothing else.
"""

import math
import sys
import time
from pathlib import Path

from tui_entropy.core.errors import UserError
from tui_entropy.metrics.registry import numbers
from tui_entropy.records.commands import Command, Continue, Load, Pause, Stop, Write
from tui_entropy.records.events import Continued, Ended, Event, Paused, Ready, Started
from tui_entropy.records.model import ModelCard
from tui_entropy.records.source import Audience, Capabilities
from tui_entropy.records.step import Bounds, PromptToken, sparse_step
from tui_entropy.serving.worker import main

CARD = ModelCard(
    name="Alphabet", revision=None, source="nowhere", note="", device="far", dtype="", n_layers=1, n_heads=1,
    n_kv_heads=1, d_model=1, vocab=26, context=1000, layer_kinds=("full",), windows=(None,), attention=(False,),
    has_chat_template=False, versions={},
)  # fmt: skip


class Alphabet:
    """A letter after the other, fifty a second."""

    capabilities = Capabilities(commands=("write", "pause", "continue", "stop"), metrics=("surprisal", "entropy"))

    def __init__(self, audience: Audience) -> None:
        self.tell = audience.emit
        self.state, self.n_written, self._runs = "ready", 0, 0
        self._write: Write

    def begin(self, load: Load) -> None:
        if load.model.name == "none":
            raise UserError("there is no such alphabet: take another name")

    def ready(self) -> Ready:
        return Ready(CARD, capabilities=self.capabilities)

    def handle(self, command: Command) -> None:
        match command:
            case Write():
                self.close()
                self._write, self.n_written, self.state, self._runs = command, 0, "writing", self._runs + 1
                prompt = tuple(PromptToken(ord(one), one.encode(), one) for one in command.prompt)
                self.tell(
                    Started(self._runs, command.prompt, None, False, prompt, command.knobs, (), command.max_tokens)
                )
            case Pause() if self.state == "writing":
                self.state = "paused"
                self.tell(Paused(self._runs, command.reason))
            case Continue() if self.state == "paused":
                self.state = "writing"
                self.tell(Continued(self._runs))
            case Stop():
                self.close()

    def advance(self) -> Event | None:
        time.sleep(0.02)
        if self.n_written == self._write.max_tokens:
            self._end("token limit")
            return None
        index, self.n_written = self.n_written, self.n_written + 1
        letter = chr(ord("a") + index % 26)
        step = sparse_step(
            CARD,
            numbers(surprisal=1.0 + index % 3),
            run=self._runs,
            index=index,
            position=len(self._write.prompt) + index,
            token_id=index % 26,
            token_bytes=letter.encode(),
            text=letter,
            bounds=(Bounds("entropy", 1.0, math.log(26)),),
            forward_seconds=0.02,
            at=0.02 * self.n_written,
        )
        self.tell(step)
        return step

    def abandon(self) -> None:
        self.state = "ended"

    def memory(self) -> None:
        """It takes none to speak of."""

    def close(self) -> None:
        if self.state in ("writing", "paused"):
            self._end("stopped")

    def _end(self, reason: str) -> None:
        self.state = "ended"
        self.tell(Ended(self._runs, reason))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), lambda audience, load: Alphabet(audience))
