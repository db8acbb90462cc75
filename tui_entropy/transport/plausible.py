"""Plausibility of events: a record of the right types whose parts do not fit each other is none that an engine of
ours would send, and no view could draw it."""

from __future__ import annotations

from math import isfinite, isinf, isnan

from tui_entropy.metrics.registry import COMPUTED
from tui_entropy.records import lens_rows
from tui_entropy.records.events import Event, PromptScores, Proposed, Ready
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import steps_of
from tui_entropy.records.step import ATTENTION, BLOCKS, NAMED, NO_ID, Step

N_COMPUTED = len(COMPUTED)
RANK = NAMED.index("rank")
ROUNDING_TOLERANCE = 0.01
"""By which rounding may lead out of a range; more than it does in any dtype."""


def contradiction(event: Event, card: ModelCard | None) -> str:
    """The contradiction in an event, in a phrase; empty where there is none. card: of the model that it is of."""
    match event:
        case Step():
            return _of_step(event, card)
        case Proposed():
            return _of_step(event.step, card)
        case ProbeAnswer():
            return next(filter(None, (_of_step(step, card) for step in steps_of(event.panels))), "")
        case PromptScores():
            fits = len(event.scores.shape) == 2 and event.scores.shape[1] == len(event.names)
            return "" if fits else "prompt scores"
        case Ready():
            return _of_card(event.card)
    return ""


def _of_step(step: Step, card: ModelCard | None) -> str:
    shape = (card.n_layers, card.n_heads) if card else step.head_entropy.shape
    if len(shape) != 2 or min(step.run, step.index, step.position) < 0 or step.token_id < NO_ID:
        return "a step"
    if len(step.numbers) != N_COMPUTED or (step.rank < 1 and step.numbers[RANK] is not None):
        return "numbers"
    if not all(isfinite(one.low) and isfinite(one.high) and one.low <= one.high for one in step.bounds):
        return "bounds"
    found_and_fitting = (
        ("head entropies", step.head_entropy.shape, shape),
        ("head varentropies", step.head_varentropy.shape, shape),
        ("attention measures", step.attention.shape, (shape[0], len(ATTENTION))),
        ("blocks", step.blocks.shape, (shape[0], len(BLOCKS))),
        ("visible keys", len(step.visible_keys), shape[0]),
        ("stages", step.stage_probs.shape, (len(step.stages), 1 + len(step.candidates))),
    )
    for name, actual, fitting in found_and_fitting:
        if actual != fitting:
            return name
    if not lens_rows.fits(step.lens_rows, shape[0]):
        return "lens rows"
    may_lack = card is not None and card.server is not None
    return "" if _are_numbers(step, may_lack) else "numbers"


def _are_numbers(step: Step, may_lack: bool) -> bool:
    """True where every number that is there is one, and in its range. may_lack: final probabilities may be unknown:
    a server tells none."""
    if any(map(isinf, (step.final_entropy, step.perplexity, step.window_perplexity))):  # a NaN is unknown
        return False
    others = (step.forward_seconds, step.sample_seconds, step.at)
    unknown = (*step.numbers, step.entropy_z, step.attention_z, step.mirostat_mu)
    if not all(map(isfinite, (*others, *(number for number in unknown if number is not None)))):
        return False
    for candidate in step.candidates:  # a loop, since this is asked of every step
        if not (candidate.logprob <= ROUNDING_TOLERANCE and _is_share(candidate.final_prob, may_lack)):
            return False
    shares = all(isfinite(one.entropy) and _is_share(one.mass, may_lack) for one in step.stages)
    return shares and _is_share(step.final_prob, True)


def _is_share(number: float, or_unknown: bool) -> bool:
    """0 ... 1, or NaN."""
    return -ROUNDING_TOLERANCE <= number <= 1 + ROUNDING_TOLERANCE or (or_unknown and isnan(number))


def _of_card(card: ModelCard) -> str:
    sizes = (card.n_layers, card.n_heads, card.n_kv_heads, card.d_model, card.vocab, card.context)
    per_layer = (card.layer_kinds, card.windows, card.attention)
    fits = min(sizes) >= (0 if card.server else 1) and all(len(each) == card.n_layers for each in per_layer)
    return "" if fits else "a model's card"
