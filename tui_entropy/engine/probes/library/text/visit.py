"""A visit: the pass before a token once more, and all that is measured of it, whoever put the token there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tui_entropy.engine.probes.probe import ONE_PASS, Difference, Probe, ProbeContext, ProbeEvidence
from tui_entropy.records.knobs import MEANINGS
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Panel, steps_of
from tui_entropy.records.probes.visit import VISIT
from tui_entropy.records.sampling import Knobs


def compute(at: ProbeContext, options: Knobs) -> Iterator[Panel]:
    """The step of the token that is there, and what these knobs would have made of it."""
    yield at.branches.step_with(at.run, at.step, options, visit=True)


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """The step that was written, and a plain pass."""
    (step,) = steps_of(answer.panels)
    written, logp = evidence.step, evidence.logp()
    size = float(np.abs(logp).max())
    yield Difference(step.token_id, written.token_id, 0)
    yield Difference(-step.surprisal, logp[written.token_id], size)
    yield Difference(step.entropy, written.entropy, np.log(len(logp)))
    ids = [candidate.token_id for candidate in step.candidates]
    yield Difference([candidate.logprob for candidate in step.candidates], logp[ids], size)
    heads, expected = step.head_entropy.numpy(), written.head_entropy.numpy()
    known = np.isfinite(expected)
    yield Difference(heads[known], expected[known], np.log(max(step.position, 2)))


PROBE = Probe(
    VISIT,
    "The step of a token as if it were written just now: heads and norms of a text that was read in one go.",
    ONE_PASS,
    Knobs,
    compute,
    check,
    page="candidates",
    meanings=MEANINGS,
)
