"""The log: what a screen knows is a function of the events, whoever sends them."""

from msgspec.structs import replace
from scripted import logged, started, step

from tui_entropy.log import Mark, knob_changes, vector_changes
from tui_entropy.records import (
    Continued,
    Ended,
    Failed,
    Knobs,
    KnobsChanged,
    Paused,
    Progress,
    Refused,
    Vector,
    VectorsChanged,
)


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
    assert knob_changes(Knobs(), Knobs(order=("temperature", "top_k"))) == ["order hf→custom"]


def test_speed_counts_work_and_not_pauses():
    log = logged(started(), *(replace(step(i), at=0.5 * i) for i in range(5)))
    assert log.tokens_per_second() == 2.0
    assert logged(started(), step(0)).tokens_per_second() is None
