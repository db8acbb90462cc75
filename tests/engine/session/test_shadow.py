"""What a shadow says is what a run of its own would say of the same tokens, and who is watched never notices it."""

import math

import pytest
import torch
from lane_runs import write
from msgspec.structs import replace
from shadow_models import LONGER, OTHER, PRESETS, PROMPT, pushed, steps

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.session.shadow import SAME_LOGITS, SAME_PASS, SECOND_PASS
from tui_entropy.records.commands import Write
from tui_entropy.records.events import ShadowChanged, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane

BATCH = 1e-4
"""Nats. What the rounding of a batch may change in float32, on models as small as these."""


def written(loaded, lane=None, n=12, knobs=PRESETS["hot"], at=0, off=None, strength=0.0, prompt=PROMPT):
    """Events of a run whose shadow is cast before step `at` and goes before step `off`; strength of its vector."""
    events = []
    with open_instruments(loaded) as instruments:
        session = Session(loaded, instruments, events.append)
        if strength:
            pushed(session, strength)
        session.begin(Write(prompt, None, False, n, knobs))
        while session.active:
            if lane is not None and session.state.n_written == at:
                session.set_shadow(lane)
                lane = None
            if session.state.n_written == off:
                session.set_shadow(None)
            session.advance()
    return events


def shadow_changes(events) -> list[ShadowChanged]:
    return [event for event in events if isinstance(event, ShadowChanged)]


def logits_of(loaded, prompt_ids, token_ids, strength=0.0):
    """(steps, vocab) float64 ln p, of one plain pass over prompt and text in the library's own attention."""
    noise = torch.Generator().manual_seed(0)
    hooks = []
    for block in (1, 3) if strength else ():
        push = strength * torch.randn(32, generator=noise)
        hooks.append(
            loaded.architecture.blocks[block - 1].register_forward_hook(
                lambda _m, _i, out, push=push: (out[0] + push, *out[1:]) if isinstance(out, tuple) else out + push
            )
        )
    with torch.no_grad():
        logits = loaded.model(torch.tensor([[*prompt_ids, *token_ids]]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return logits[len(prompt_ids) - 1 : -1].double().log_softmax(-1)


def ids_of(loaded, prompt):
    return loaded.tokenizer.encode(prompt, None, False)


@pytest.mark.parametrize("lane", ["vectors", "other prompt", "longer prompt"])
def test_every_number_agrees_with_two_separate_runs_in_float64(family, lane):
    lanes = {
        "vectors": (Lane("no vectors", vectors=()), PROMPT),
        "other prompt": (Lane("other", vectors=(), prompt=OTHER), OTHER),
        "longer prompt": (Lane("longer", vectors=(), prompt=LONGER), LONGER),
    }
    wanted, prompt = lanes[lane]
    events = written(family, wanted, at=3, strength=2.0)
    (change,) = shadow_changes(events)
    apart = lane == "longer prompt" or not family.architecture.croppable
    assert change.how == (SECOND_PASS if apart else SAME_PASS) and change.index == 3 and change.seconds > 0
    text = [step.token_id for step in steps(events)]
    ours = logits_of(family, ids_of(family, PROMPT), text, strength=2.0)
    theirs = logits_of(family, ids_of(family, prompt), text)
    for step, p, q in list(zip(steps(events), ours, theirs, strict=True)):
        shadow = step.shadow
        if step.index < 3:
            assert shadow is None
            continue
        kl = (p.exp() * (p - q)).sum().item()
        middle = ((p.exp() + q.exp()) / 2).log()
        js = ((p.exp() * (p - middle)).sum() + (q.exp() * (q - middle)).sum()).item() / 2
        assert shadow.kl == pytest.approx(kl, abs=1e-4, rel=1e-3) and shadow.kl > 1e-3
        assert shadow.js == pytest.approx(js, abs=1e-4, rel=1e-3)
        assert shadow.final_js == pytest.approx(js, abs=1e-4, rel=1e-2) or step.stages  # no stage: the model's own
        assert shadow.entropy == pytest.approx(-(q.exp() * q).sum().item(), abs=1e-3)
        assert shadow.surprisal == pytest.approx(-q[step.token_id].item(), abs=1e-3)
        assert shadow.rank == 1 + int((q > q[step.token_id] + 1e-6).sum())
        assert shadow.top_id == int(q.argmax()) and shadow.top_bytes == family.tokenizer.token_bytes(shadow.top_id)
        assert shadow.would_bytes == family.tokenizer.token_bytes(shadow.would_id)
        assert shadow.logprobs == pytest.approx([q[c.token_id].item() for c in step.candidates], abs=1e-3)


@pytest.mark.parametrize("knobs", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("lane", [Lane("none", vectors=()), Lane("longer", prompt=LONGER)], ids=["row", "pass"])
def test_the_watched_text_is_the_same_with_and_without_a_shadow(llama, knobs, lane):
    alone, watched = (steps(written(llama, one, knobs=knobs, n=30, strength=1.0)) for one in (None, lane))
    assert [step.token_id for step in watched] == [step.token_id for step in alone]
    for a, b in zip(alone, watched, strict=True):
        assert b.shadow is not None
        assert (a.state, a.visible_keys, a.decision is None) == (b.state, b.visible_keys, b.decision is None)
        assert b.entropy == pytest.approx(a.entropy, abs=BATCH)
        assert b.head_entropy.numpy() == pytest.approx(a.head_entropy.numpy(), abs=BATCH)
        assert b.blocks.numpy() == pytest.approx(a.blocks.numpy(), abs=1e-3)


@pytest.mark.parametrize("knobs", PRESETS.values(), ids=PRESETS)
def test_a_shadow_with_nothing_of_its_own_is_of_one_mind_with_the_watched_lane(llama, knobs):
    events = written(llama, Lane("same"), knobs=knobs, n=30)
    assert shadow_changes(events)[0].how == SAME_LOGITS
    for step in steps(events):
        assert step.shadow.kl == 0 and max(step.shadow.js, step.shadow.final_js) < 1e-6
        assert (step.shadow.would_id, step.shadow.rank) == (step.token_id, step.rank)
        assert (step.shadow.entropy, step.shadow.surprisal) == (step.entropy, step.surprisal)
        assert step.shadow.logprobs == tuple(candidate.logprob for candidate in step.candidates)


def test_two_rows_that_are_alike_agree_within_the_rounding_of_a_batch(family):
    """A vector as good as nothing: it makes two rows of what is one mind."""
    events = written(family, Lane("as good as none", vectors=()), strength=1e-30, n=12)
    assert shadow_changes(events)[0].how == (SAME_PASS if family.architecture.croppable else SECOND_PASS)
    for step in steps(events):
        assert 0 <= step.shadow.kl < BATCH and step.shadow.would_id == step.token_id
        assert step.shadow.entropy == pytest.approx(step.entropy, abs=BATCH)
        assert step.shadow.surprisal == pytest.approx(step.surprisal, abs=BATCH)


def test_a_strength_of_nothing_takes_no_row(llama):
    events = []
    with open_instruments(llama) as instruments:
        session = Session(llama, instruments, events.append)
        vector = replace(pushed(session), strength=0.0)
        session.state.vectors = ()
        session.set_shadow(Lane("strength 0", vectors=(vector,)))
        session.begin(Write(PROMPT, None, False, 6, Knobs()))
        write(session)
    assert shadow_changes(events)[0].how == SAME_LOGITS
    assert all(step.shadow.kl == 0 and step.shadow.would_id == step.token_id for step in steps(events))


def test_other_knobs_shape_the_same_logits(llama):
    hot = Knobs(temperature=1.5, top_k=0, top_p=1.0)
    events = written(llama, Lane("greedy", knobs=Knobs(temperature=0)), knobs=hot, n=20)
    assert shadow_changes(events)[0].how == SAME_LOGITS
    for step in steps(events):
        assert step.shadow.kl == 0 and step.shadow.final_js > 0
        assert step.shadow.would_id == step.shadow.top_id == step.candidates[0].token_id
    assert any(step.shadow.would_id != step.token_id for step in steps(events))


def test_what_it_would_have_written_is_what_its_own_run_begins_with(llama):
    events = written(llama, Lane("longer", prompt=LONGER), n=1, knobs=PRESETS["greedy"])
    (alone,) = steps(written(llama, n=1, knobs=PRESETS["greedy"], prompt=LONGER))
    assert steps(events)[0].shadow.would_id == alone.token_id


def test_at_a_stop_it_is_asked_of_the_proposal_and_goes_without_a_trace(family):
    alone = steps(written(family, n=12))
    events = []
    with open_instruments(family) as instruments:
        session = Session(family, instruments, events.append)
        session.begin(Write(PROMPT, None, False, 12, PRESETS["hot"]))
        write(session, 4)
        session.look_ahead()
        assert session.state.proposed.shadow is None
        session.set_shadow(Lane("longer", prompt=LONGER))
        assert session.state.proposed.shadow.kl > 0
        session.set_shadow(Lane("other", prompt=OTHER))
        proposed = session.state.proposed
        assert proposed.shadow.kl > 0
        write(session, 8)
        session.look_ahead()
        session.set_shadow(None)
        assert session.state.proposed.shadow is None and all(
            len(layer.keys) == 1
            for layer in session.state.sequence.cache.layers
            if getattr(layer, "keys", None) is not None
        )
        write(session)
    assert [step.token_id for step in steps(events)] == [step.token_id for step in alone]
    assert steps(events)[4] == proposed
    assert [(change.index, change.lane and change.lane.name) for change in shadow_changes(events)] == [
        (4, "longer"), (4, "other"), (8, None),
    ]  # fmt: skip


def test_it_follows_to_the_next_prompt_and_ends_where_its_own_prompt_leaves_no_room(llama):
    events = []
    with open_instruments(llama) as instruments:
        session = Session(llama, instruments, events.append)
        session.set_shadow(Lane("long", prompt="x" * 250))
        for _ in range(2):
            session.begin(Write(PROMPT, None, False, 10, Knobs()))
            write(session)
        with pytest.raises(UserError, match="shorten"):
            session.set_shadow(Lane("too long", prompt="x" * 300))
        with pytest.raises(UserError):
            session.set_shadow(Lane("wrong", knobs=Knobs(top_p=-1)))
    assert [(change.run, change.lane is None) for change in shadow_changes(events)] == [(1, False), (1, True)]
    shadowed = [step.shadow is not None for step in steps(events)]
    assert shadowed.index(False) == shadow_changes(events)[1].index and sum(shadowed) == 256 - 250
    assert len({event.run for event in events if isinstance(event, Started)}) == 2


def test_a_vector_that_is_switched_on_in_mid_text_gives_the_shadow_a_row_of_its_own(llama):
    events = []
    with open_instruments(llama) as instruments:
        session = Session(llama, instruments, events.append)
        vector = pushed(session)
        session.state.vectors = (replace(vector, on=False),)
        session.set_shadow(Lane("no vectors", vectors=()))
        session.begin(Write(PROMPT, None, False, 10, PRESETS["hot"]))
        while session.active:
            if session.state.n_written == 5:
                session.set_vector(vector)
            session.advance()
    assert [(change.index, change.how) for change in shadow_changes(events)] == [(0, SAME_LOGITS), (5, SAME_PASS)]
    assert all((step.shadow.kl > 1e-3) == (step.index >= 5) for step in steps(events))
    assert not any(math.isnan(step.shadow.kl) for step in steps(events))
