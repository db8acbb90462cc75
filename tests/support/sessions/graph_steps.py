"""Texts written with the step that a CUDA graph can hold, and two such steps held against each other."""

from __future__ import annotations

import pytest
import torch
from rewind_models import PROMPT

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

WITHOUT = {"hybrid": "some of its layers keep more than keys and values"}
GREEDY = Controls(Knobs(temperature=0.0), {})
N = 40


def steps(loaded, controls, n=N, graph=True, prompt=PROMPT):
    with open_instruments(loaded, graph=graph) as instruments:
        assert bool(instruments.graph_decoder) == graph, instruments.no_graph_reason
        sequence = TokenSequence(loaded, prompt, n)
        events = decode(loaded, instruments, sequence, controls if callable(controls) else lambda: controls, 1, False)
        return [event for event in events if isinstance(event, Step)]


def close(one: Step, other: Step) -> None:
    """Every number of a step but the times."""
    assert one.token_id == other.token_id and one.visible_keys == other.visible_keys
    assert [c.token_id for c in one.candidates] == [c.token_id for c in other.candidates]
    assert [(s.name, s.survivors) for s in one.stages] == [(s.name, s.survivors) for s in other.stages]
    for name in Step.__struct_fields__:
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(mine, float) and not name.endswith("seconds") and name != "at":
            assert mine == pytest.approx(theirs, abs=2e-4, rel=2e-3), name
        elif hasattr(mine, "numpy"):
            torch.testing.assert_close(
                torch.tensor(mine.numpy()), torch.tensor(theirs.numpy()), atol=2e-4, rtol=2e-3, equal_nan=True
            )
