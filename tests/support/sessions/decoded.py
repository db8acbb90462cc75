"""Texts of small models, step by step."""

from collections.abc import Iterator

import tiny

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.events import Prefilled
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

GREEDY = Knobs(temperature=0)
PROMPT = tiny.prompt(12)[0].tolist()


def write(loaded, controls=lambda: Controls(GREEDY, {}), n=6, prompt=PROMPT) -> Iterator[Prefilled | Step]:
    with open_instruments(loaded) as instruments:
        yield from decode(loaded, instruments, TokenSequence(loaded, prompt, n), controls)


def steps(loaded, *args, **kwargs) -> list[Step]:
    return [event for event in write(loaded, *args, **kwargs) if isinstance(event, Step)]
