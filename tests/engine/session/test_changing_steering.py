"""Vectors whose strength changes from step to step, or that have a condition: in a run, its branches and lanes."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

import pytest
import torch
from lane_runs import HOT, alone
from msgspec.structs import replace
from shadow_models import PROMPT, model, pushed, steps

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Branch, Twin, Write
from tui_entropy.records.events import ShadowChanged, VectorsChanged
from tui_entropy.records.settings import Lane, Vector

RAMP = Vector("v", "v", (1, 3), 4.0, True, schedule=((1, 0.0), (7, 1.0), (9, -1.0)))
N = 12


@pytest.fixture(scope="module")
def llama():
    return model("llama")


@torch.inference_mode()
def plain_entropies(loaded, directions, strengths, tokens):
    """Of transformers' own passes with plain hooks: one over the prompt but for its newest token, one for each token
    after that, each under the strength of the step that comes of it."""
    ids, network = loaded.tokenizer.encode(PROMPT, None, chat=False), loaded.model
    passes = [(ids[:-1], strengths[0]), *zip([[token] for token in [ids[-1], *tokens[:-1]]], strengths, strict=True)]
    cache, found = None, []
    for stretch, strength in passes:
        with ExitStack() as hooks:
            for block, direction in directions.items():
                push = torch.from_numpy(direction) * strength
                hook = network.model.layers[block - 1].register_forward_hook(
                    lambda module, inputs, output, push=push: (
                        output + push if isinstance(output, torch.Tensor) else (output[0] + push, *output[1:])
                    )
                )
                hooks.callback(hook.remove)
            out = network(torch.tensor([stretch]), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        found.append(torch.distributions.Categorical(logits=out.logits[0, -1].double()).entropy().item())
    return found[1:]


def session_of(loaded, instruments, vectors, events) -> Session:
    session = Session(loaded, instruments, events.append)
    pushed(session)
    session.state.vectors = vectors
    session.begin(Write(PROMPT, None, False, N, HOT))
    return session


def directions_of(loaded):
    with open_instruments(loaded) as instruments:
        session = Session(loaded, instruments, [].append)
        pushed(session)
        return session.state.directions["v"].directions


def test_each_step_is_steered_as_strongly_as_its_schedule_says(llama):
    written = alone(llama, vectors=(RAMP,))
    strengths = [RAMP.strength_at(step + 1) for step in range(N)]
    wanted = plain_entropies(llama, directions_of(llama), strengths, [step.token_id for step in written])
    assert [step.entropy for step in written] == pytest.approx(wanted, abs=1e-4)
    assert [step.entropy for step in alone(llama, vectors=())] != pytest.approx(wanted, abs=1e-2)


def test_a_condition_is_asked_of_the_token_before(llama):
    middle = statistics.median(step.entropy for step in alone(llama, vectors=()))
    careful = replace(RAMP, schedule=(), condition=f"entropy > {middle:.9f} nats")
    written = alone(llama, vectors=(careful,))
    strengths = [0.0, *(4.0 * (step.entropy > middle) for step in written[:-1])]
    assert {*strengths} == {0.0, 4.0}
    wanted = plain_entropies(llama, directions_of(llama), strengths, [step.token_id for step in written])
    assert [step.entropy for step in written] == pytest.approx(wanted, abs=1e-4)


CONDITIONAL = replace(RAMP, condition="step % 2 == 0 or surprisal > 1")


@pytest.mark.parametrize("vector", [RAMP, CONDITIONAL], ids=["schedule", "condition too"])
@pytest.mark.parametrize("at", [0, 1, 5, 9])
def test_a_branch_that_takes_the_same_token_writes_the_same(llama, vector, at):
    events = []
    with open_instruments(llama) as instruments:
        session = session_of(llama, instruments, (vector,), events)
        while session.active:
            session.advance()
        first = steps(events)
        session.branch(Branch(1, at))
        while session.active:
            session.advance()
    again = [step for step in steps(events) if step.run == 2][: N - at]
    assert [step.token_id for step in again] == [step.token_id for step in first[at:]]
    assert [step.entropy for step in again] == pytest.approx([step.entropy for step in first[at:]], abs=1e-5)
    assert not [event for event in events if isinstance(event, VectorsChanged)]  # what is set stayed as it was


@pytest.mark.parametrize("began", [0, 4])
def test_a_shadow_under_the_same_changing_vectors_thinks_the_same_and_one_without_them_does_not(llama, began):
    for vectors, same in (((RAMP,), True), ((), False)):
        events = []
        with open_instruments(llama) as instruments:
            session = session_of(llama, instruments, (RAMP,), events)
            while session.state.n_written < began:
                session.advance()
            session.set_shadow(Lane("other", vectors=vectors))
            while session.active:
                session.advance()
        found = [step.shadow for step in steps(events)[began:]]
        assert all(found) and len(found) == N - began
        changes = [event for event in events if isinstance(event, ShadowChanged)]
        assert len(changes) == (1 if same or began else 2)  # at strength 0 one pass does for both
        if same:
            assert max(shadow.kl for shadow in found) < 1e-5
        else:
            unsteered = plain_entropies(
                llama, directions_of(llama), [0.0] * N, [step.token_id for step in steps(events)]
            )
            assert [shadow.entropy for shadow in found] == pytest.approx(unsteered[began:], abs=1e-4)


@pytest.mark.parametrize("vector", [RAMP, CONDITIONAL], ids=["schedule", "condition too"])
def test_a_twin_under_changing_vectors_writes_what_it_would_alone(llama, vector):
    events = []
    with open_instruments(llama) as instruments:
        session = session_of(llama, instruments, (), events)
        session.look_ahead(read_all=True)
        session.begin_twin(Twin(1, 0, Lane("ramp", vectors=(vector,))))
        while session.active:
            session.advance()
    twin = [step for step in steps(events) if step.run == 2]
    lonely = alone(llama, vectors=(vector,))
    assert [step.token_id for step in twin] == [step.token_id for step in lonely]
    assert [step.entropy for step in twin] == pytest.approx([step.entropy for step in lonely], abs=1e-4)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"condition": "entrpy > 3"}, "entrpy"),
        ({"schedule": ((5, 1.0), (5, 0.0))}, "do not rise"),
        ({"schedule": ((5, 1.0), (2, 0.0))}, "do not rise"),
    ],
)
def test_what_no_vector_can_follow_is_refused_and_nothing_changes(llama, odd, words):
    with open_instruments(llama) as instruments:
        session = session_of(llama, instruments, (RAMP,), [])
        with pytest.raises(UserError, match=words):
            session.set_vector(replace(RAMP, **odd))
        assert session.state.vectors == (RAMP,)
