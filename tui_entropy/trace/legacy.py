"""Events of traces that earlier versions wrote, as what they are today."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from tui_entropy.records.events import Event, Started
from tui_entropy.records.probes.ask import ProbeAnswer, Value
from tui_entropy.records.probes.continuations import CONTINUATIONS, Continuation, SampledContinuations


class Fanned(Struct, frozen=True, tag="fanned"):
    """Continuations from before a step, before there were probes."""

    run: int
    index: int
    rows: tuple[Continuation, ...]
    tokens: int
    same: str
    entropy: float
    seconds: float

    def answer(self, n_prompt: int) -> ProbeAnswer:
        """n_prompt: tokens of the prompt of its run."""
        sampled = SampledContinuations(self.rows, self.tokens, self.same, self.entropy)
        options: dict[str, Value] = {"n": len(self.rows), "tokens": self.tokens, "same": self.same}
        return ProbeAnswer(
            CONTINUATIONS, self.run, n_prompt + self.index, options, sampled.panels, None, self.seconds
        )


RECORDED = msgspec.json.Decoder(Event | Fanned)


def decoded(text: str | bytes, began: Mapping[int, Started]) -> Event:
    """An event of a trace, of whatever version. began: the start of each run that is known. Raises what msgspec does
    for one that this version does not know."""
    event: Event | Fanned = RECORDED.decode(text)
    if isinstance(event, Fanned):
        return event.answer(len(began[event.run].prompt_tokens) if event.run in began else 0)
    return event
