"""What each option costs, and the scores of a prompt."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

from engine import finished, loaded_model, prompt_ids
from figures import Figure, Settings, in_turns, ratio, spread
from msgspec.structs import replace as replace_knobs

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.chain import stages
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.stages.registry import STAGES

OPTIONS = {
    "greedy": {"temperature": 0.0},
    "dynamic temperature": {"dynatemp_range": 0.5},
    **{stage.knobs[0].short: stage.example for stage in STAGES if stage.name not in stages(Knobs())},
    "adaptive S1": {"adaptive": "S1"},
    "adaptive S3": {"adaptive": "S3"},
    "adaptive own": {"adaptive": "own"},
    "100 candidates": {"n_candidates": 100},
}
"""What is off by default and can be switched on: knobs."""
WATCHED = (11, 28, 198, 260)
"""Tokens that are followed where everything is on."""


def everything(loaded: Loaded) -> Controls:
    """All that can be on at once: every stage of the chain, an adaptive sampler, 100 candidates, followed tokens."""
    on = {name: value for option in OPTIONS.values() for name, value in option.items() if name != "temperature"}
    knobs = replace_knobs(Knobs(temperature=0.7), **on)
    return Controls(knobs, {}, breakers=loaded.tokenizer.tokens_containing(knobs.dry_breakers), watched=WATCHED)


def metrics(settings: Settings) -> Iterator[Figure]:
    """What each option adds to a step: one text, whose steps take turns with the default knobs and every option."""
    loaded = loaded_model(settings)
    rounds = 4 if settings.quick else 24
    base = Knobs(temperature=0.7)
    breakers = loaded.tokenizer.tokens_containing(base.dry_breakers)
    turns = [Controls(base, {})] + [
        Controls(replace_knobs(base, **option), {}, breakers=breakers) for option in OPTIONS.values()
    ]
    for length in (32, 1024):
        context = TokenSequence(loaded, prompt_ids(loaded, length), len(turns) * (rounds + 1))
        steps = _taking_turns(loaded, context, turns)[len(turns) :]  # the first turn of each warms it up
        costs = [1000 * step.sample_seconds for step in steps]
        whole = statistics.median(1000 * (step.forward_seconds + step.sample_seconds) for step in steps)
        plain = costs[:: len(turns)]
        share = f"{100 * statistics.median(plain) / whole:.1f} % of a step of {whole:.1f} ms"
        yield Figure(f"after the forward pass, default, prompt {length}", statistics.median(plain), "ms", "", share)
        for nth, name in enumerate(OPTIONS, 1):
            value = statistics.median(b - a for a, b in zip(plain, costs[nth :: len(turns)], strict=True))
            yield Figure(f"  {name} adds", value, "ms", "", f"{100 * value / whole:+.1f} % of a step")
    yield from _prompt_scores(loaded, settings)


def _taking_turns(loaded: Loaded, context: TokenSequence, turns: list[Controls]) -> list[Step]:
    """A text whose nth step is written under the nth of `turns`, and so on round and round."""

    def controls() -> Controls:
        return turns[len(context.written) % len(turns)]

    with open_instruments(loaded) as instruments:
        return [event for event in decode(loaded, instruments, context, controls) if isinstance(event, Step)]


def _prompt_scores(loaded: Loaded, settings: Settings) -> Iterator[Figure]:
    """Seconds to the first token of a long prompt, with and without its scores."""
    ids = prompt_ids(loaded, 1024)

    def first_token(scored: bool) -> float:
        with open_instruments(loaded) as instruments:
            began = finished(loaded.model.device)
            list(decode(loaded, instruments, TokenSequence(loaded, ids, 1), lambda: Controls(Knobs(), {}), 1, scored))
            return finished(loaded.model.device) - began

    first_token(True)
    calls = {"scored": partial(first_token, True), "not scored": partial(first_token, False)}
    times = in_turns(calls, settings.rounds)
    detail = f"scored {spread(times['scored'], 's')}, not scored {spread(times['not scored'], 's')}"
    value = ratio(times["scored"], times["not scored"])
    yield Figure("first token of a prompt of 1024, scored / not scored", value, "x", "<=", detail)
