"""While a recording is read again: how far it is, a pause that is heard, and what is said once it is read."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from recorded_sessions import PLENTY, RecordedTeller
from small import endless
from small import loaded as small_model

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding import loop
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.model_source import ModelSource
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Branch, Continue, Load, Pause, Reopen, Stop
from tui_entropy.records.events import Paused, Prefilled, Proposed, Ready
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.step import Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace

LONG = "ABCDEFGHIJ" * 20
CHUNK = 64


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch):
    monkeypatch.setattr(loop, "PREFILL_CHUNK", CHUNK)


class Audience:
    def __init__(self, log: SessionView) -> None:
        self.log, self.events = log, []

    def emit(self, event) -> None:
        self.log.append(event)
        self.events.append(event)

    answer = emit

    def hears_cancel(self) -> bool:
        return False


class Source(ModelSource):
    """The real one with a model that is loaded already."""

    def __init__(self, audience, loaded, instruments) -> None:
        super().__init__(audience)
        self._small = loaded, instruments

    def bring_up(self, load):
        return Session(*self._small, self.emit, PLENTY)


@pytest.fixture(scope="module")
def loaded():
    return endless(small_model("llama"))


@contextmanager
def opened(loaded, path, prompt=LONG, n=3):
    """A source that was told to go on with a recording, and who hears it."""
    with open_instruments(loaded) as instruments:
        first = RecordedTeller(loaded, instruments, path)
        first.begin(prompt=prompt)
        first.write(n)
        first.close()
        source = Source(Audience(Trace.open(path).log()), loaded, instruments)
        source.begin(Load(ModelSpec("tiny"), reopen=Reopen(str(path))))
        source.emit(source.ready())
        yield source, source.audience


def test_it_is_read_in_stretches_and_told_how_far_it_is(loaded, tmp_path):
    with opened(loaded, tmp_path / "a.tui") as (source, audience):
        source.handle(Reopen(str(tmp_path / "a.tui")))
        assert audience.log.state == "reading"
        while source.state == "writing":
            source.advance()
        told = [event for event in audience.events if isinstance(event, Prefilled)]
        assert len(told) > 2 and [one.done for one in told] == sorted({one.done for one in told})
        assert {one.total for one in told} == {len(LONG) + 3}
        assert audience.log.state == "paused" and audience.log.note == "as recorded, to the bit"
        assert isinstance(audience.events[-1], Proposed) and audience.log.proposed.index == 3


def test_a_pause_is_heard_between_two_stretches_and_going_on_reads_the_rest(loaded, tmp_path):
    with opened(loaded, tmp_path / "a.tui") as (source, audience):
        source.handle(Reopen(str(tmp_path / "a.tui")))
        source.advance()
        source.handle(Pause())
        assert source.state == "paused" and source.session.reading
        assert not any(isinstance(event, Proposed) for event in audience.events)
        source.handle(Continue())
        while not isinstance(event := source.advance(), Step):
            assert not isinstance(event, Paused)
        assert event.index == 3


def test_another_place_may_be_gone_to_meanwhile(loaded, tmp_path):
    with opened(loaded, tmp_path / "a.tui") as (source, _):
        source.handle(Reopen(str(tmp_path / "a.tui")))
        source.advance()
        source.handle(Branch(1, 1))
        while not isinstance(event := source.advance(), Step):
            pass
        assert (event.run, event.index) == (2, 1) and not source.session.reading


def test_it_is_gone_on_with_once_and_only_by_the_engine_that_began_with_it(loaded, tmp_path):
    with opened(loaded, tmp_path / "a.tui", "AB") as (source, _):
        with pytest.raises(UserError, match="did not begin with"):
            source.handle(Reopen(str(tmp_path / "b.tui")))
        source.handle(Reopen(str(tmp_path / "a.tui")))
        with pytest.raises(UserError, match="did not begin with"):
            source.handle(Reopen(str(tmp_path / "a.tui")))


def test_what_has_ended_by_itself_has_ended(loaded, tmp_path):
    """And what came to its limit has room for more."""
    with opened(loaded, tmp_path / "a.tui", "AB") as (source, audience):
        source.handle(Reopen(str(tmp_path / "a.tui"), max_tokens=2))
        while source.state == "writing":
            source.advance()
        source.handle(Continue())
        written = 0
        while source.state == "writing":
            written += isinstance(source.advance(), Step)
        assert written == 2 and audience.log.run.ended == "token limit"


def test_a_session_that_was_only_opened_leaves_no_file(loaded, tmp_path):
    """One in which something happened does, with all that was before."""
    with open_instruments(loaded) as instruments:
        first = RecordedTeller(loaded, instruments, tmp_path / "a.tui")
        first.begin()
        first.write(5)
        first.close()
        looked = RecordedTeller(loaded, instruments, tmp_path / "b.tui", first.path)
        looked.close()
        again = RecordedTeller(loaded, instruments, tmp_path / "c.tui", first.path)
        again.write(2)
        again.close()
        once_more = RecordedTeller(loaded, instruments, tmp_path / "d.tui", again.path)
        once_more.write(2)
        once_more.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tui", "c.tui", "d.tui"]
    log = Trace.open(tmp_path / "d.tui").log()
    assert list(log.steps.ids) == list(once_more.log.steps.ids) and len(log.steps) == 9
    assert sum(isinstance(event, Ready) for _, _, event in Trace.open(tmp_path / "d.tui").events()) == 3


def test_what_is_no_whole_recording_is_refused_in_a_sentence(loaded, tmp_path):
    with open_instruments(loaded) as instruments:
        teller = RecordedTeller(loaded, instruments, tmp_path / "a.tui")
        teller.begin()
        teller.write(40)
        teller.close()
        data = (tmp_path / "a.tui").read_bytes()
        for name, damaged in {
            "cut.tui": data[: len(data) // 3],
            "torn.tui": data[: len(data) // 2] + bytes(4096) + data[len(data) // 2 + 4096 :],
            "none.tui": b"x" * 100,
        }.items():
            (tmp_path / name).write_bytes(damaged)
            try:
                RecordedTeller(loaded, instruments, tmp_path / f"new-{name}", tmp_path / name)
            except UserError as mistake:
                assert "\n" not in str(mistake)


def test_a_stopped_text_may_be_stopped_again(loaded, tmp_path):
    with opened(loaded, tmp_path / "a.tui", "AB") as (source, audience):
        source.handle(Reopen(str(tmp_path / "a.tui")))
        source.handle(Stop())
        assert audience.log.state == "ended" and source.state == "ended"
