"""The log: what a screen knows is a function of the events, whoever sends them."""

import math

from cards import CARD
from msgspec.structs import replace
from scripted import logged, started, step

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import (
    Continued,
    Ended,
    Failed,
    KnobsChanged,
    Labelled,
    Paused,
    Prefilled,
    Progress,
    PromptScores,
    Proposed,
    Ready,
    Refused,
    Started,
    Switched,
    VectorsChanged,
)
from tui_entropy.records.model import ServerCard, ServerSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.state.run_view import Mark, knob_changes, vector_changes


def test_the_state_follows_the_events():
    log = logged()
    assert log.state == "starting"
    log.append(Progress("importing torch"))
    assert log.state == "loading"
    log.append(started())
    assert log.state == "reading"
    log.append(step(0))
    assert log.state == "writing"
    log.append(Paused(1, "by you"))
    assert (log.state, log.note) == ("paused", "by you")
    log.append(Continued(1))
    assert (log.state, log.note) == ("writing", "")
    log.append(Ended(1, "end of text"))
    assert (log.state, log.note) == ("ended", "end of text")


def test_the_text_survives_a_failure_and_the_loss_of_the_engine():
    log = logged(started(), step(0), step(1), Failed("out of memory"))
    assert log.state == "failed" and len(log.steps) == 2
    log.lose("the engine was killed")
    assert log.state == "lost" and len(log.steps) == 2


def test_a_refusal_changes_nothing_but_the_notice():
    log = logged(started(), step(0))
    log.append(Refused("vector 'x' is 768 wide"))
    assert (log.state, log.refusal, len(log.steps)) == ("writing", "vector 'x' is 768 wide", 1)


def test_late_words_of_an_earlier_run_are_passed_over():
    log = logged(started(), step(0), replace(started(), run=2))
    log.append(step(1))
    log.append(Ended(1, "stopped"))
    assert len(log.steps) == 0 and log.state == "reading"


def test_a_turned_knob_leaves_a_mark_where_it_took_effect():
    log = logged(started(), step(0))
    log.append(KnobsChanged(1, 1, Knobs(temperature=1.2, top_k=0)))
    assert log.marks == [Mark(1, "T 0.7→1.2"), Mark(1, "top-k 40→0")]
    assert log.knobs.temperature == 1.2


def test_a_vector_leaves_a_mark_when_its_effect_changes_and_only_then():
    off, on = Vector("warm", "built in"), Vector("warm", "built in", on=True)
    assert vector_changes((off,), (on,)) == ["warm on +1"]
    assert vector_changes((on,), (replace(on, strength=-0.5),)) == ["warm -0.5"]
    assert vector_changes((on,), (off,)) == ["warm off"]
    assert vector_changes((off,), (replace(off, strength=2.0),)) == []
    log = logged(started(), VectorsChanged(1, 0, (on,)))
    assert log.marks == [Mark(0, "warm on +1")] and log.vectors == (on,)


def test_an_order_is_named_where_it_has_a_name():
    assert knob_changes(Knobs(), Knobs(order=("temperature", "top_k"))) == ["stage order hf→custom"]


def test_speed_counts_work_and_not_pauses():
    log = logged(started(), *(replace(step(i), at=0.5 * i) for i in range(5)))
    assert log.tokens_per_second() == 2.0
    assert logged(started(), step(0)).tokens_per_second() is None


# --- Many runs -------------------------------------------------------------------------------------------------


def branch(run: int = 2, parent: int = 1, shared: int = 2, **how: object) -> Started:
    return replace(started(run), parent=parent, shared=shared, **how)


def test_a_branch_has_what_it_shares_and_only_that():
    before = [started(), KnobsChanged(1, 1, Knobs(top_k=5)), step(0), step(1), KnobsChanged(1, 2, Knobs(top_k=9))]
    log = logged(*before, step(2), branch(knobs=Knobs(seed=3)), step(2, " Rome", 2))
    assert (log.run_number, log.state) == (2, "writing") and list(log.runs) == [1, 2]
    assert log.steps.texts == [" Paris", " Paris", " Rome"] and len(log.runs[1].steps) == 3
    assert log.knob_changes == [(0, Knobs()), (1, Knobs(top_k=5)), (2, Knobs(seed=3))]
    assert [mark.label for mark in log.marks] == ["top-k 40→5", "branch of run 1"]
    assert log.knobs_at(1).top_k == 5 and log.knobs_at(2).seed == 3
    log.append(step(3))
    assert len(log.steps) == 3 and len(log.runs[1].steps) == 4  # each goes on by itself


def test_another_prompt_shares_nothing_and_is_no_branch():
    edited = branch(shared=0, prompt_tokens=started().prompt_tokens[:2])
    log = logged(started(), Prefilled(1, 3, 3, 0.5), step(0), edited)
    assert len(log.steps) == 0 and log.prefilled is None and log.marks == [] and log.context_used == 2


def test_branches_of_one_prompt_hold_its_tokens_and_scores_once():
    read = replace(started(), prompt_tokens=tuple(replace(token) for token in started().prompt_tokens))
    log = logged(started(), PromptScores(1, 1, Grid.of([[1.5] * 7] * 2)), step(0), replace(read, run=2, parent=1))
    assert log.started.prompt_tokens is log.runs[1].started.prompt_tokens and log.prompt_perplexity == math.exp(1.5)


def test_going_to_another_run_shows_it_as_it_was_left():
    log = logged(started(), step(0), step(1), branch(), step(2, run=2), Ended(2, "stopped"), Switched(1))
    assert (log.run_number, log.state, len(log.steps)) == (1, "paused", 2)
    log.append(Continued(1))
    log.append(step(2))
    assert (log.state, len(log.steps)) == ("writing", 3)
    log.append(Switched(2))
    assert (log.run_number, log.state, log.note) == (2, "ended", "stopped")
    log.append(Switched(7))
    assert log.run_number == 2


def test_a_twin_stands_beside_until_another_run_is_looked_at():
    log = logged(started(), step(0), branch(shared=1, twin_of=1), step(1), step(1, " Rome", 2))
    assert log.run_number == 1 and log.twin is log.runs[2]
    assert log.steps.texts == [" Paris", " Paris"] and log.twin.steps.texts == [" Paris", " Rome"]
    log.append(Ended(2, "end of text"))
    assert log.state == "writing" and log.twin.ended == "end of text"
    log.append(branch(3, 1, 1))
    assert log.run_number == 3 and log.twin is None


def test_what_is_held_up_is_gone_once_it_is_written():
    log = logged(started(), step(0), Proposed(step(1)))
    assert log.proposed == step(1) and len(log.steps) == 1
    log.append(step(1))
    assert log.proposed is None


def test_any_branch_can_be_named_and_put_away():
    log = logged(started(), step(0), branch(shared=1), Labelled(1, "first", True), Labelled(2, "", False, True))
    assert (log.runs[1].name, log.runs[1].starred, log.runs[2].deleted) == ("first", True, True)
    log.append(Labelled(9, "nobody", True))
    assert log.run_number == 2


def test_another_engine_counts_from_one_again():
    log = logged(started(), step(0), branch(shared=1), step(1, run=2))
    log.lose("the engine was killed")
    log.append(Ready(CARD))
    assert len(log.steps) == 2 and not log.runs
    log.append(branch(shared=0))
    assert list(log.runs) == [2] and len(log.steps) == 0


def test_steps_that_are_gone_on_with_otherwise_leave_the_others_as_they_were():
    log = logged(started(), *(step(index) for index in range(9)))
    part = log.steps.first(4)
    part.append(step(4, " Rome"))
    assert list(part) == [*(step(index) for index in range(4)), step(4, " Rome")] and len(log.steps) == 9
    assert part.texts[-1] == " Rome" and list(part.ids) == [100, 101, 102, 103, 104]
    assert list(part.norms(2)) == [25.0] * 5 and part.strays[4] == step(4).strays
    assert list(part.values(BY_NAME["rank"])) == [step(index).rank for index in range(5)]


def proxy_log():
    """A log of requests that pass through a proxy."""
    server = ServerCard(
        "openai", "a server behind a proxy", "http://far", 0, spec=ServerSpec("http://far", proxied=True)
    )
    return logged(Ready(replace(CARD, server=server), endpoint="http://127.0.0.1:8001/v1"))


def test_the_next_request_is_looked_at_once_the_present_one_is_over():
    log = proxy_log()
    assert log.proxied and log.endpoint == "http://127.0.0.1:8001/v1"
    for event in (started(1), step(0), started(2), replace(step(0), run=2)):
        log.append(event)
    assert log.run_number == 1 and log.n_open == 2 and len(log.runs[2].steps) == 1
    log.append(Ended(1, "end of text"))
    assert log.run_number == 1 and log.state == "ended"
    log.append(started(3))
    assert log.run_number == 3 and log.state == "reading"


def test_no_request_takes_the_place_of_a_run_that_a_person_looks_at():
    log = proxy_log()
    for event in (started(1), Ended(1, "end of text"), started(2), Ended(2, "end of text"), Switched(1), started(3)):
        log.append(event)
    assert log.run_number == 1
    for event in (Ended(3, "end of text"), Switched(3), started(4)):
        log.append(event)
    assert log.run_number == 4
    log.append(Ended(4, "end of text"))
    log.append(started(5), stay=True)
    assert log.run_number == 4


def test_a_text_of_an_engine_of_ones_own_is_always_looked_at():
    log = logged(Ready(CARD), started(1), step(0))
    log.append(started(2), stay=True)
    assert log.run_number == 2


def test_the_knobs_of_a_request_are_those_that_it_gave():
    log = proxy_log()
    assert log.given_knobs == frozenset()
    log.append(replace(started(1), given_knobs=("temperature",)))
    assert log.given_knobs == {"temperature"} and logged(Ready(CARD), started(1)).given_knobs is None
