"""How far behind a token the numbers of the model's inside come, from vLLM with vllm-lens; and what they cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from unittest.mock import patch

from asked_sources import Heard
from figures import Figure, Settings, in_turns, percentile, spread
from live_servers import running

from tui_entropy.records.commands import Load, Write
from tui_entropy.records.model import ModelSpec, ServerSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.servers.server_source import ServerSource
from tui_entropy.servers.token_stream import Arrival
from tui_entropy.servers.vllm_lens import measured_stream, numbers_poll
from tui_entropy.servers.vllm_lens.told_numbers import Reply

WAYS = {"alone": ("off", 0), "norms and heads": ("auto", 0), "and 6 lens rows": ("auto", 6)}
"""What is measured -> `--server-lens` and the knob lens."""
LATEST_S = 10.0
"""For which a token is held back here, so that what comes late is seen to."""


class Timed(numbers_poll.NumbersPoll):
    """Keeps when the numbers of each position came first."""

    def _heard(self, reply: Reply) -> None:
        self.came = dict.fromkeys(reply.by_position, time.monotonic()) | getattr(self, "came", {})
        super()._heard(reply)


class Late(measured_stream.MeasuredStream):
    """Keeps how long after its token each of the numbers was there, which may be before it."""

    seconds: list[float]

    def next(self, patience: float) -> Arrival | object:
        position, found = self._position, super().next(patience)
        if isinstance(found, Arrival) and found.inside is not None:
            Late.seconds.append(max(self.poll.came[position] - found.at, 0.0))
        return found


def inside(settings: Settings) -> Iterator[Figure]:
    """A text of greedy tokens, in turns without the plugin and with it."""
    n = 40 if settings.quick else 200
    with running("vllm") as server:
        for lens, every in WAYS.values():
            written(server.url, lens, every, 8)
        found = in_turns(
            {name: lambda way=way: written(server.url, *way, n) for name, way in WAYS.items()}, settings.rounds
        )
    for name in list(WAYS)[1:]:
        late = [1e3 * one for _, seconds in found[name] for one in seconds]
        lost = n * settings.rounds - len(late)
        detail = f"of {len(late)} tokens"
        yield Figure(f"{name} behind the token, median", statistics.median(late), "ms", "<= 150", detail)
        yield Figure(f"{name} behind the token, 99th of 100", percentile(late, 0.99), "ms", "<= 150", detail)
        yield Figure(f"tokens without {name}", lost, "tokens", "<= 0")
    rates = {name: [rate for rate, _ in rounds] for name, rounds in found.items()}
    for name, those in rates.items():
        yield Figure(f"tokens written, {name}", statistics.median(those), "tok/s", "", spread(those, "tok/s"))


def written(url: str, lens: str, every: int, n: int) -> tuple[float, list[float]]:
    """Tokens a second from the first one on, and how late the numbers of each token were."""
    heard, Late.seconds = Heard(), []
    source = ServerSource(heard)
    with (
        patch.object(measured_stream, "LATE_S", LATEST_S),
        patch.object(measured_stream, "NumbersPoll", Timed),
        patch("tui_entropy.servers.vllm_lens.inside.MeasuredStream", Late),
    ):
        try:
            source.begin(Load(ModelSpec("x", server=ServerSpec(url, lens=lens))))
            source.handle(Write("Once upon a time", None, False, n, Knobs(temperature=0.0, lens=every)))
            began = 0.0
            while source.state == "writing":
                if source.advance() is not None and not began:
                    began = time.monotonic()
            return (len(heard.steps) - 1) / (time.monotonic() - began), Late.seconds
        finally:
            source.close()
