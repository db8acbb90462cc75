"""The step once more: what it would be with other knobs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe, ProbeContext, ProbeEvidence
from tui_entropy.records.knobs import MEANINGS
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Panel, steps_of
from tui_entropy.records.probes.step import STEP
from tui_entropy.records.sampling import Knobs


def compute(at: ProbeContext, options: Knobs) -> Iterator[Panel]:
    """The step that would be written there. What was forced or banned at it is so again."""
    yield at.branches.step_with(at.run, at.step, options)


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """The same belief as of the step that was written, and as of a plain pass."""
    (step,) = steps_of(answer.panels)
    logp = evidence.logp()
    p = np.exp(logp)
    yield Difference(step.entropy, evidence.step.entropy, np.log(len(logp)))
    yield Difference(step.entropy, float(-(p[p > 0] * logp[p > 0]).sum()), np.log(len(logp)))
    ids = [candidate.token_id for candidate in step.candidates]
    yield Difference([candidate.logprob for candidate in step.candidates], logp[ids], float(np.abs(logp).max()))


PROBE = Probe(
    STEP,
    "The step as it would be with other knobs.",
    ONE_PASS,
    Knobs,
    compute,
    check,
    page="candidates",
    meanings=MEANINGS,
)
