"""What stops a text: breakpoints on what comes next, ends of sentences and lines; and what is followed meanwhile."""

import re
from collections import Counter

import pytest
import torch
from cards import CARD
from msgspec.structs import replace
from scripted import LAYERS, step
from small import endless, loaded

from tui_entropy.breakpoints.controller import BreakpointController
from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.model_source import ModelSource
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Advance, Continue, SetBreakpoints, SetWatches, Write
from tui_entropy.records.events import BreakpointsChanged, Ended, Event, Paused, Proposed, Started, WatchesChanged
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint
from tui_entropy.records.step import Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.schema import BLOBS
from tui_entropy.trace.step_codec import Shape, arrays_row, restored

WRITE = Write("ABCDEFGHIJ", None, False, 24, Knobs(temperature=1.0, top_k=0, seed=1))


class Words:
    """Every word is a token; 'end' ends the text."""

    eos_ids = frozenset({99})

    def encode_continuation(self, text: str) -> list[int]:
        return [sum(word.encode()) for word in text.split()]

    def token_bytes(self, token_id: int) -> bytes:
        return str(token_id).encode()


def stops(*expressions: str, watches: tuple[str, ...] = ()) -> tuple[BreakpointController, list[Event]]:
    events: list[Event] = []
    made = BreakpointController(CARD, Words(), events.append)
    made.begin(1)
    made.set_watches(watches)
    made.set_breakpoints([Breakpoint(n, text) for n, text in enumerate(expressions, 1)])
    return made, events


def written(made: BreakpointController, *words: str) -> list[tuple[str, str]]:
    """(word, reason) of each stop on the way, where every stop is gone on from."""
    found = []
    for word in words:
        one = step(made._index, word)
        one = replace(one, token_id=99) if word == "end" else one
        if stop := made.before(one):
            found.append((word, stop.reason))
        made.written(one)
    return found


def hits(made: BreakpointController) -> list[int]:
    return [one.hits for one in made.breakpoints]


def test_every_breakpoint_that_is_true_is_counted_and_the_first_is_named():
    made, events = stops("step > 9", "step % 2 == 0", 'token == " b"', "entropy>99")
    assert written(made, " a", " b", " c", " d") == [
        (" b", "breakpoint: step % 2 == 0"),
        (" d", "breakpoint: step % 2 == 0"),
    ]
    assert hits(made) == [0, 2, 1, 0]
    assert [event for event in events if isinstance(event, BreakpointsChanged)][-1].breakpoints == made.breakpoints


def test_one_that_is_off_or_unknown_stops_nothing_and_one_that_stays_true_stops_each_time():
    made, _ = stops("step > 0")
    made.set_breakpoints(
        [replace(made.breakpoints[0], enabled=False), Breakpoint(2, "kl > 0"), Breakpoint(3, "step > 1")]
    )
    assert len(written(made, "a", "b", "c")) == 2 and hits(made) == [0, 0, 2]


def test_what_the_text_has_had_for_long_stops_once_and_again_when_it_comes_again():
    made, _ = stops('text ~ "sor+y"', 'text ~ "sorry$"')
    said = written(made, " so", "rry", " I", " am", " sorry", " again")
    assert [word for word, _ in said] == ["rry", " sorry"] and hits(made) == [1, 2]
    made.set_breakpoints([replace(made.breakpoints[0], enabled=True), Breakpoint(3, "step > 99")])
    assert written(made, " on") == []
    made.begin(2)
    assert [word for word, _ in written(made, " a", " sorry")] == [" sorry"]
    made.begin(3, 2, " so")
    assert [word for word, _ in written(made, "rry")] == ["rry"]


def test_a_wrong_one_is_refused_with_its_place_and_none_is_changed():
    made, events = stops("rank > 1")
    before, n_events = made.breakpoints, len(events)
    for wrong, said in (
        ([Breakpoint(1, "rank > 2"), Breakpoint(2, "rnk > 2")], "did you mean rank?\n  rnk > 2\n  ^"),
        ([Breakpoint(1, f"norm[{LAYERS + 1}] > 2")], f"from 1 to {LAYERS}"),
        ([Breakpoint(1, "rank > 1"), Breakpoint(1, "rank > 2")], "same number"),
        ([Breakpoint(1, 'p[" "] > 0.5')], "no token"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            made.set_breakpoints(wrong)
    assert made.breakpoints == before and len(events) == n_events
    with pytest.raises(UserError, match="take one of sentence, line"):
        made.run_to("paragraph")


def test_a_pattern_that_takes_too_long_switches_its_breakpoint_off_with_a_note():
    made, _ = stops('text ~ "(a?){100}a{100}c"', "step == 1")
    assert written(made, "a" * 4000) == [("a" * 4000, "breakpoint: step == 1")]
    slow, other = made.breakpoints
    assert (slow.enabled, slow.hits) == (False, 0) and "too long" in slow.note and other.hits == 1
    made.set_breakpoints([replace(slow, enabled=True, expression='text ~ "b"'), other])
    assert made.breakpoints[0].note == ""


@pytest.mark.parametrize(
    ("words", "stopped_before"),
    [
        ((" One", ".", " Two"), " Two"),
        ((" pi", " is", " 3", ".", "14", " now", "!", '"', " Two"), " Two"),
        ((" see", " example", ".", "com", "\n", "Two"), None),
        ((" One", "?!", "”)", "\n\n", " Two"), "\n\n"),
        ((" One", ".\n", "Two"), "Two"),
        (("首都", "。", "」", "東京"), "東京"),
        ((" One", "…", "end"), "end"),
        ((" two", "\n", "2", ".", " Two", ".", " Three"), " Three"),
        ((" in", " 1999", ".", " Two"), " Two"),
        ((" One", ",", " two"), None),
    ],
)
def test_a_sentence_ends_where_white_space_or_nothing_follows(words, stopped_before):
    made, _ = stops()
    written(made, " Before", ".")
    made.run_to("sentence")
    pauses = written(made, *words)
    assert pauses[:1] == ([] if stopped_before is None else [(stopped_before, "end of the sentence")])


def test_a_line_ends_behind_its_line_feed_and_only_what_is_written_from_there_counts():
    made, _ = stops()
    written(made, " a", "\n")
    made.run_to("line")
    assert written(made, " b", " c") == []
    assert written(made, ".\n", "d")[0] == ("d", "end of the line")
    made.run_to()
    assert written(made, "\n", "e") == []


def test_texts_are_watched_that_were_asked_for_or_that_a_breakpoint_names():
    made, events = stops('p["b"] > 0.5 and rank["a"] > 1', watches=("a", "c d"))
    assert [watch.text for watch in made.watches] == ["a", "c d", "b"] and made.watched == (97, 99, 98)
    assert made.watches[1].n_tokens == 2
    made.set_watches(())
    assert [watch.text for watch in made.watches] == ["b", "a"]
    with pytest.raises(UserError, match="no token"):
        made.set_watches(("x", "  "))
    made.set_breakpoints(())
    assert made.watches == () == [event for event in events if isinstance(event, WatchesChanged)][-1].watches


# --- With a model --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return endless(loaded("llama"))


@pytest.fixture
def session(model):
    with open_instruments(model) as instruments:
        events: list[Event] = []
        made = Session(model, instruments, events.append)
        made.events = events
        yield made


def steps(events: list[Event]) -> list[Step]:
    return [event for event in events if isinstance(event, Step)]


def finish(session: Session) -> list[int]:
    """Write to the end, going on from every stop; the steps that it stopped before."""
    stopped = []
    while session.active:
        if isinstance(session.advance(), Paused):
            assert session.state.proposed is not None
            stopped.append(session.state.proposed.index)
    return stopped


def test_it_stops_before_the_token_is_written_and_goes_on_with_the_same_one(session):
    session.begin(WRITE)
    finish(session)
    plain = steps(session.events)
    session.set_breakpoints(
        [Breakpoint(1, "step == 3"), Breakpoint(2, f"surprisal > {plain[5].surprisal - 1e-5} nats")]
    )
    session.begin(WRITE)
    at = len(session.events)
    expected = [one.index for one in plain if one.index == 2 or one.surprisal > plain[5].surprisal - 1e-5]
    assert finish(session) == expected and 2 in expected and 5 in expected
    events = session.events[at:]
    assert [one.token_id for one in steps(events)] == [one.token_id for one in plain]
    for index, event in enumerate(events):
        if isinstance(event, Paused):
            proposed, after = events[index - 1], events[index + 1]
            assert isinstance(proposed, Proposed) and proposed.step == after
            assert isinstance(events[index - 2], BreakpointsChanged)
    assert hits(session.state.breakpoints) == [1, len(expected) - (plain[2].surprisal <= plain[5].surprisal - 1e-5)]


def test_a_text_that_was_stopped_is_gone_on_with_and_is_the_text_that_it_would_have_been(session):
    session.begin(WRITE)
    finish(session)
    plain = [one.token_id for one in steps(session.events)]
    session.begin(WRITE)
    at = len(session.events)
    while len(steps(session.events[at:])) < 5:
        session.advance()
    session.stop()
    assert not session.active and session.state.run.ended == "stopped"
    session.reopen()
    finish(session)
    assert [one.token_id for one in steps(session.events[at:])] == plain
    view = SessionView()
    for event in session.events:
        view.append(event)
    assert view.state == "ended" and not view.stopped
    session.reopen()
    assert not session.active  # it ended by itself


def test_looking_ahead_at_a_pause_counts_too(session):
    session.begin(WRITE)
    session.set_breakpoints([Breakpoint(4, "step == 2")])
    while not steps(session.events):
        session.advance()
    session.look_ahead()
    assert session.events[-1] == Paused(session.state.run_number, "breakpoint: step == 2", 4)
    assert isinstance(session.advance(), Step)


def test_what_is_watched_agrees_with_the_model_and_changes_nothing_that_is_written(session, model):
    session.begin(WRITE)
    finish(session)
    plain = [one.token_id for one in steps(session.events)]
    session.set_watches(("A", "ZQ"))
    session.begin(WRITE)
    at = session.events.index(next(event for event in reversed(session.events) if isinstance(event, Started)))
    finish(session)
    events = session.events[at:]
    (changed,) = [event for event in events if isinstance(event, WatchesChanged)]
    assert (changed.run, changed.index) == (session.state.run_number, 0)
    assert [(watch.text, watch.token_bytes, watch.n_tokens) for watch in changed.watches] == [
        ("A", b"A", 1),
        ("ZQ", b"Z", 2),
    ]
    assert [one.token_id for one in steps(events)] == plain
    ids = session.state.sequence.ids
    with torch.no_grad():
        logits = model.model(ids[None]).logits[0].float()
    for one in steps(events):
        row = logits[one.position - 1]
        for watch, seen in zip(changed.watches, one.watched, strict=True):
            assert seen.token_id == watch.token_id
            assert seen.logit == pytest.approx(float(row[watch.token_id]), abs=1e-4)
            assert seen.logprob == pytest.approx(float(row.log_softmax(-1)[watch.token_id]), abs=1e-4)
            assert seen.rank == 1 + int((row > row[watch.token_id]).sum())
        known = {candidate.token_id: candidate.logprob for candidate in one.candidates}
        assert all(known.get(seen.token_id, seen.logprob) == seen.logprob for seen in one.watched)


def test_at_a_stop_a_new_watch_is_measured_on_the_proposal(session):
    session.begin(WRITE)
    session.set_breakpoints([Breakpoint(1, "step == 2")])
    while session.state.proposed is None:
        session.advance()
    before = session.state.proposed
    session.set_watches(("A",))
    proposed = session.events[-1]
    assert isinstance(proposed, Proposed) and len(proposed.step.watched) == 1
    assert proposed.step.token_id == before.token_id
    assert session.advance() == proposed.step


def test_breakpoints_and_watches_stay_for_the_next_text(session):
    session.set_watches(("A",))
    session.set_breakpoints([Breakpoint(1, "step == 2", hits=5)])
    for n in (6, 7):
        session.begin(WRITE)
        assert finish(session) == [1] and hits(session.state.breakpoints) == [n]
    assert all(len(one.watched) == 1 for one in steps(session.events))


def test_watched_tokens_are_kept_in_a_trace_and_a_step_without_them_is_as_before(session):
    session.set_watches(("A", "B"))
    session.begin(WRITE)
    finish(session)
    one = steps(session.events)[3]
    row = dict(zip(["seq", *BLOBS], arrays_row(4, one), strict=True))
    shape = Shape(*one.head_entropy.shape)
    assert restored(1, 3, row, shape, lambda _: b"").watched == one.watched
    assert len(row["watched"]) == 32
    assert arrays_row(4, replace(one, watched=()))[-1] is None
    for damaged in (None, b"", b"abc", 7, b"\xff" * 36):
        restored(1, 3, row | {"watched": damaged}, shape, lambda _: b"")


# --- As it is told -------------------------------------------------------------------------------------------


class Audience:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.emit = self.answer = self.events.append


def test_a_model_does_as_it_is_told_and_pauses(session):
    audience = Audience()
    source = ModelSource(audience)
    source.session = session
    events, session.state.emit, session.state.breakpoints.emit = audience.events, audience.emit, audience.emit

    def run() -> Event:
        while source.state == "writing":
            source.advance()
        return next(event for event in reversed(events) if isinstance(event, Paused | Ended))

    source.handle(SetWatches(("A",)))
    source.handle(SetBreakpoints((Breakpoint(1, "step == 4"),)))
    source.handle(WRITE)
    assert run() == Paused(session.state.run_number, "breakpoint: step == 4", 1) and session.state.n_written == 3
    source.handle(Advance(2))
    assert run() == Paused(session.state.run_number, "after a step") and session.state.n_written == 5
    source.handle(SetBreakpoints(()))
    source.handle(Advance(until="line"))
    stopped, since = run(), [one.text for one in steps(events)[5:]]
    assert len(since) > 1 and "\n" not in "".join(since[:-1])
    assert stopped == (
        Paused(session.state.run_number, "end of the line")
        if "\n" in since[-1]
        else Ended(session.state.run_number, "token limit")
    )
    source.handle(Continue())
    assert Counter(type(event) for event in events)[Step] == session.state.n_written
