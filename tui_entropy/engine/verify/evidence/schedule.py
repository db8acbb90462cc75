"""The knobs that doctor has a text written under: each stage of the chain where it bites, alone and with all."""

from __future__ import annotations

import math

import numpy as np
from msgspec.structs import replace

from tui_entropy.engine.verify.evidence.written import OFF, Setting
from tui_entropy.engine.verify.second.belief import Floats, log_softmax
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.registry import ORDERS, STAGES


def always(**changes: object) -> Setting:
    knobs = replace(OFF, **changes)
    return lambda logits: knobs


def likely(nth: int, **changes: object) -> Setting:
    """XTC over the first n tokens of the row."""

    def setting(logits: Floats) -> Knobs:
        p = np.exp(np.sort(log_softmax(logits))[::-1])
        edge = float(np.sqrt(p[min(nth, len(p)) - 1] * p[min(nth, len(p) - 1)]))
        return replace(OFF, xtc_threshold=min(edge, 0.5), **changes)

    return setting


def narrow_sigma(nth: int) -> Setting:
    """Top-n-sigma whose edge lies just above the score of the n-th best token."""

    def setting(logits: Floats) -> Knobs:
        ordered = np.sort(logits)[::-1]
        reach = float((ordered[0] - ordered[min(nth, len(ordered)) - 1]) / logits.std())
        return replace(OFF, top_n_sigma=max(reach * (1 - 1e-3), 1e-3))

    return setting


def wide_mirostat(nth: int) -> Setting:
    """Mirostat that leaves as many tokens where it begins."""

    def setting(logits: Floats) -> Knobs:
        bits = -np.sort(log_softmax(logits))[::-1] / math.log(2)
        bound = bits[[min(nth, len(bits)) - 1, min(nth, len(bits) - 1)]].mean()
        return replace(OFF, mirostat_tau=float(bound) / 2, mirostat_eta=0.3)

    return setting


MIROSTAT = dict(mirostat_tau=1.5, mirostat_eta=0.3)


def everything(order: tuple[str, ...], **changes: object) -> Setting:
    """Every stage but mirostat, which would leave little to the others."""
    examples = {
        name: value for stage in STAGES if stage.name not in MIROSTAT for name, value in stage.example.items()
    }
    all_on = examples | dict(
        temperature=1.3, top_k=30, top_p=0.9, min_p=0.001, typical_p=0.95, top_n_sigma=4.0, repetition_penalty=1.1,
        frequency_penalty=0.2, presence_penalty=-0.3, penalty_last_n=24, dynatemp_range=0.4, dynatemp_exponent=1.2,
        dry_multiplier=0.5, xtc_probability=0.8,
    )  # fmt: skip
    return likely(2, order=order, **all_on | changes)


UPSIDE_DOWN = tuple(reversed(ORDERS["hf"]))

SCHEDULE: tuple[tuple[Setting, ...], ...] = (
    (always(dry_multiplier=2.0), always(dry_multiplier=2.0, dry_breakers=("o",), dry_base=2.0, dry_allowed_length=1)),
    (always(),),
    (always(repetition_penalty=0.5), always(repetition_penalty=1.4)),
    (always(temperature=0.0, top_k=7, min_p=0.5),),
    (always(penalty_last_n=6, repetition_penalty=0.7, frequency_penalty=-1.0, presence_penalty=-1.0),),
    (wide_mirostat(8),),
    (always(**MIROSTAT, temperature=1.4, top_k=50),),
    (always(**MIROSTAT, order=ORDERS["llama.cpp"], temperature=1.2, top_k=2, dynatemp_range=1.0),),
    (narrow_sigma(6),),
    (always(dynatemp_range=0.6, dynatemp_exponent=1.5),),
    (likely(3, xtc_probability=1.0),),
    (likely(2, xtc_probability=0.5), likely(2, xtc_probability=0.5, seed=8), likely(2, xtc_probability=0.5, seed=9)),
    (always(adaptive="S1"),),
    (always(adaptive="S3"),),
    (always(temperature=0.7, top_k=40, top_p=0.95, seed=2**63 - 1),),
    (everything(ORDERS["hf"]),),
    (everything(ORDERS["llama.cpp"]),),
    (everything(ORDERS["vllm"]),),
    (everything(UPSIDE_DOWN),),
    *((always(**stage.example),) for stage in STAGES),
)
"""Longer than what a step needs before it to be judged by."""
