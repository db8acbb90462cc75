"""Two lanes that write side by side are each what they would be alone, and share their luck."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

import pytest
from lane_runs import HOT, alone, begun, write
from shadow_models import LONGER, OTHER, PRESETS, PROMPT, model, pushed, steps

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Branch, Twin, Write
from tui_entropy.records.events import Ended, Event, KnobsChanged, Paused, Proposed, ShadowChanged, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane
from tui_entropy.records.step import Step


@contextmanager
def two_lanes(loaded, lane, n=12, knobs=HOT, at=0) -> Iterator[tuple[Session, list[Event]]]:
    """A session that writes two lanes, from before step `at` on, and all that it tells."""
    with begun(loaded, n, knobs, at=at) as (session, events):
        session.look_ahead()
        while session.state.proposed is None:
            session.advance() if session.reading else session.look_ahead()
        session.begin_twin(Twin(session.state.run_number, at, lane))
        yield session, events


def of(events, run) -> list[Step]:
    return [step for step in steps(events) if step.run == run]


def like(ours: list[Step], theirs: list[Step]) -> bool:
    assert [step.token_id for step in ours] == [step.token_id for step in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.index, a.position, a.text, a.visible_keys) == (b.index, b.position, b.text, b.visible_keys)
        assert a.entropy == pytest.approx(b.entropy, abs=1e-4)
        assert a.perplexity == pytest.approx(b.perplexity, rel=1e-3)
        assert a.head_entropy.numpy() == pytest.approx(b.head_entropy.numpy(), abs=1e-4, nan_ok=True)
        assert a.blocks.numpy() == pytest.approx(b.blocks.numpy(), abs=1e-3, rel=1e-3)
    return True


def test_each_lane_writes_what_it_would_alone_with_numbers_of_its_own(family):
    with two_lanes(family, Lane("no vectors", vectors=())) as (session, events):
        while session.active:
            session.advance()
            assert len(session.state.sequence.batch) == (2 if family.architecture.croppable and session.active else 1)
    (began,) = (event for event in events if isinstance(event, Started) and event.twin_of is not None)
    assert (began.run, began.twin_of, began.parent, began.shared, began.vectors) == (2, 1, 1, 0, ())
    assert [step.run for step in steps(events)] == [1, 2] * 12
    assert like(of(events, 1), alone(family)) and like(of(events, 2), alone(family, vectors=()))
    assert [(e.run, e.reason) for e in events if isinstance(e, Ended)] == [(1, "token limit"), (2, "token limit")]


def test_lanes_that_are_alike_never_part_and_others_part_where_single_runs_do(llama):
    plain, steered = alone(llama, 30, vectors=()), alone(llama, 30)
    together = len(
        list(takewhile(lambda pair: pair[0].token_id == pair[1].token_id, zip(plain, steered, strict=True)))
    )
    assert together < 30
    for lane in (Lane("same"), Lane("no vectors", vectors=())):
        for knobs in (HOT, PRESETS["greedy"]):
            with two_lanes(llama, lane, 30, knobs) as (session, events):
                write(session)
            first, second = ([step.token_id for step in of(events, run)] for run in (1, 2))
            if lane.vectors is None:
                assert first == second
            elif knobs is HOT:
                assert first[:together] == second[:together] and first[together] != second[together]


@pytest.mark.parametrize("prompt", [OTHER, LONGER])
def test_another_prompt_has_a_row_or_a_pass_of_its_own_and_the_same_luck(llama, prompt):
    with two_lanes(llama, Lane("other", prompt=prompt, knobs=PRESETS["greedy"])) as (session, events):
        while session.active:
            session.advance()
            assert len(session.state.sequence.batch) == (2 if prompt == OTHER and session.active else 1)
    assert like(of(events, 1), alone(llama))
    assert like(of(events, 2), alone(llama, knobs=PRESETS["greedy"], prompt=prompt))
    nearly_even = Knobs(temperature=100, top_k=0, top_p=1)
    with two_lanes(llama, Lane("other", prompt=prompt), knobs=nearly_even) as (session, events):
        write(session)
    alike = sum(a.token_id == b.token_id for a, b in zip(of(events, 1), of(events, 2), strict=True))
    assert alike >= 9  # of 12, where nearly all is luck


def test_from_the_middle_of_a_text_and_at_a_stop(llama):
    with two_lanes(llama, Lane("no vectors", vectors=()), at=5) as (session, events):
        assert [event.run for event in events if isinstance(event, Proposed)][-2:] == [1, 2]
        session.advance()
        session.look_ahead()
        first, second = [event.step for event in events if isinstance(event, Proposed)][-2:]
        session.set_knobs(PRESETS["greedy"])
        assert [event.run for event in events if isinstance(event, KnobsChanged)] == [1, 2]
        again = [event.step for event in events if isinstance(event, Proposed)][-2:]
        for before, after in zip((first, second), again, strict=True):
            assert after.token_id == before.candidates[0].token_id
            assert (after.entropy, after.blocks, after.head_entropy) == (
                before.entropy,
                before.blocks,
                before.head_entropy,
            )
        write(session)
    assert [step.index for step in of(events, 2)] == list(range(5, 12)) == [s.index for s in of(events, 1)[5:]]
    assert of(events, 1)[6] == again[0] and of(events, 2)[1] == again[1]
    assert [step.token_id for step in of(events, 1)[:6]] == [step.token_id for step in alone(llama)[:6]]


@pytest.mark.parametrize("prompt", [None, LONGER])
@pytest.mark.parametrize("who", [1, 2])
def test_one_lane_ends_and_the_other_goes_on(prompt, who):
    plain = model("llama")
    lane = Lane("other", vectors=(), prompt=prompt)
    greedy = PRESETS["greedy"]
    singles = {1: alone(plain, 20, greedy), 2: alone(plain, 20, greedy, (), prompt or PROMPT)}
    texts = {run: [step.token_id for step in single] for run, single in singles.items()}
    end = next(token for token in texts[who] if token not in texts[3 - who])
    object.__setattr__(plain.tokenizer, "eos_ids", frozenset({end}))
    with two_lanes(plain, lane, 20, greedy) as (session, events):
        write(session)
    stop = texts[who].index(end) + 1
    assert like(of(events, who), singles[who][:stop]) and like(of(events, 3 - who), singles[3 - who])
    ends = {event.run: event.reason for event in events if isinstance(event, Ended)}
    assert ends == {who: "end of text", 3 - who: "token limit"}


def test_stop_ends_both_and_what_cannot_be_is_refused(llama):
    with two_lanes(llama, Lane("no vectors", vectors=())) as (session, events):
        session.advance()
        with pytest.raises(UserError, match="third"):
            session.set_shadow(Lane("a third"))
        with pytest.raises(UserError, match="first token"):
            session.begin_twin(Twin(1, 1, Lane("late", prompt=OTHER)))
        with pytest.raises(UserError):
            session.begin_twin(Twin(7, 1, Lane("nowhere")))
        session.stop()
        assert not session.active and len(session.state.sequence.batch) == 1
        session.begin(Write(PROMPT, None, False, 3, HOT))
        write(session)
    assert {event.run for event in events if isinstance(event, Ended)} == {1, 2, 3}
    assert not any(isinstance(event, Paused | ShadowChanged) for event in events)


def test_from_an_earlier_step_the_first_lane_is_a_branch_and_both_are_runs_to_go_to(family):
    with two_lanes(family, Lane("unused"), at=0) as (session, events):
        session.stop()
        events.clear()
        session.begin_twin(Twin(1, 0, Lane("no vectors", vectors=())))
        write(session)
        begins = [(e.run, e.parent, e.shared, e.twin_of) for e in events if isinstance(e, Started)]
        assert begins == [(3, 1, 0, None), (4, 3, 0, 3)]
        session.go(4)
        assert session.state.run_number == 4 and not session.active
    assert like(of(events, 3), alone(family)) and like(of(events, 4), alone(family, vectors=()))


def test_a_shadow_goes_along_to_a_branch_and_back(family):
    events: list[Event] = []
    with open_instruments(family) as instruments:
        session = Session(family, instruments, events.append)
        pushed(session)
        session.set_shadow(Lane("no vectors", vectors=()))
        session.begin(Write(PROMPT, None, False, 12, HOT))
        write(session, 8)
        session.branch(Branch(1, 4))
        write(session, 10)
        session.go(1)
        assert session.state.proposed is not None and session.state.proposed.shadow is not None
        write(session)
    shadow_changes = [
        (change.run, change.index, change.lane.name) for change in events if isinstance(change, ShadowChanged)
    ]
    assert shadow_changes == [(1, 0, "no vectors"), (2, 4, "no vectors"), (1, 8, "no vectors")]
    for own, again in zip(of(events, 1)[4:10], of(events, 2), strict=True):
        assert own.token_id == again.token_id
        assert again.shadow.kl == pytest.approx(own.shadow.kl, abs=1e-4)
