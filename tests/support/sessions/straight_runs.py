"""The steps of a run as the loop alone writes them, straight through, and whether two steps are the same."""

import pytest
import torch
from msgspec.structs import replace

from tui_entropy.engine.decoding.loop import COMMIT, decode
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.step import Step


def alike(one: Step, other: Step, exact=True) -> bool:
    """All but what a clock says, and which run it is."""
    if not exact:
        return one.token_id == other.token_id and one.entropy == pytest.approx(other.entropy, abs=1e-4)
    still = dict(run=0, at=0.0, forward_seconds=0.0, sample_seconds=0.0)
    return str(replace(one, **still)) == str(replace(other, **still))


def straight(teller, run):
    """The steps of a run, written by the loop alone in a context that nothing else ever used."""
    run_view, kept = teller.log.runs[run], teller.session.state.runs[run].sequence
    loaded, session = teller.session.state.loaded, teller.session
    known: dict = {}

    def offsets(vectors):
        on = tuple(vector for vector in vectors if vector.on)
        if on not in known:
            known[on] = {
                k: torch.from_numpy(v)
                for vector in on
                for k, v in session.state.directions[vector.name].directions.items()
            }
        return known[on]

    def now():
        at = sequence.n_written
        knobs = next(knobs for first, knobs in reversed(run_view.knob_changes) if first <= at)
        vectors = next(change.vectors for change in reversed(run_view.vector_changes) if change.index <= at)
        return Controls(knobs, offsets(vectors), None, loaded.tokenizer.tokens_containing(knobs.dry_breakers))

    sequence = TokenSequence(loaded, kept.prompt.tolist(), 200)
    instruments = session.state.instruments
    writing = decode(loaded, instruments, sequence, now)
    steps: list[Step] = []
    while len(steps) < len(run_view.steps):
        at = len(steps)
        for change in run_view.vector_changes:
            if change.index == at and change.rebuilt:
                writing.close()
                sequence.reset_cache()
                sequence.offsets, sequence.prefix_ids = [], []
                sequence.mark_read(sequence.n_tokens - 1, offsets(change.vectors))
                writing = decode(loaded, instruments, sequence, now)
        sequence.forced, sequence.banned = kept.interventions.get(at, ([], frozenset()))
        while not isinstance(event := next(writing), Step):
            pass
        writing.send(COMMIT)
        steps.append(event)
    return steps
