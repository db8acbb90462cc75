"""What the lens costs: left on while a text is written, and asked for once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch
from engine import loaded_model, prompt_ids
from figures import Figure, Settings, spread

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Write
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

OFF = "off"
WAYS = {
    OFF: Knobs(),
    "every layer": Knobs(lens=1),
    "every fourth layer": Knobs(lens=4),
    "every layer at every fourth token": Knobs(lens=1, lens_steps=4),
}
GOALS = {"every layer": ">= 0.65", "every fourth layer": ">= 0.9"}
STRETCH = 8
"""Steps that are written one way before the next."""


def lens(settings: Settings) -> Iterator[Figure]:
    """The pace with the lens on as a share of that without, of one text whose stretches take turns; and the answer of
    the probe about one token, in steps."""
    loaded, rounds = loaded_model(settings), 3 if settings.quick else 12
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with open_instruments(loaded) as watching:
        text = TokenSequence(loaded, prompt_ids(loaded, 64), STRETCH * len(WAYS) * (rounds + 1))
        now = Controls(Knobs(), {})
        writing = decode(loaded, watching, text, lambda: now)
        for nth in range(rounds + 1):
            order = list(WAYS) if nth % 2 else list(WAYS)[::-1]  # so that drift favours none
            for way in order:
                now, began = Controls(WAYS[way], {}), time.perf_counter()
                for _ in range(STRETCH):
                    next(event for event in writing if isinstance(event, Step))
                if nth:  # the first round warms up
                    seconds[way].append((time.perf_counter() - began) / STRETCH)
        writing.close()
    for way in WAYS:
        if way != OFF:
            shares = [off / on for off, on in zip(seconds[OFF], seconds[way], strict=True)]
            detail = f"{_ms(seconds[way])} a step, off {_ms(seconds[OFF])}"
            yield Figure(f"pace, lens of {way} / off", statistics.median(shares), "x", GOALS.get(way, ""), detail)
    with torch.inference_mode(), open_instruments(loaded) as watching:
        session = Session(loaded, watching, lambda event: None)
        session.begin(Write("The sea is blue because", None, False, 8, Knobs()))
        while session.active:
            session.advance()
        ask = AskProbe("lens", 1, session.state.run_of(1).sequence.n_tokens - 1, {"before": 0})
        asked = [answer(session, ask).seconds for _ in range(rounds + 1)][1:]
    steps = statistics.median(asked) / statistics.median(seconds[OFF])
    detail = f"{_ms(asked)} with the pass of its token once more, a step {_ms(seconds[OFF])}"
    yield Figure("lens asked for once, beyond the pass / step", steps - 1, "x", "<= 1", detail)


def _ms(seconds: list[float]) -> str:
    return spread([1000 * one for one in seconds], "ms")
