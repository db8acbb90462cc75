"""Head patterns are told while a text is written, without being asked for, and are those of the probe."""

import numpy as np
import small

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.session import head_watch
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Write
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer
from tui_entropy.records.probes.head_patterns import HEAD_PATTERNS, HeadPatterns
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

WRITE = Write("a b a b", None, False, 60, Knobs(seed=3))


def written(keep: int, monkeypatch) -> tuple[list[object], list[ProbeAnswer]]:
    monkeypatch.setattr(head_watch, "EVERY", 32)
    loaded, events, asked = small.loaded(), [], []
    write = Write(WRITE.prompt, None, False, 60, Knobs(seed=3, banned=tuple(sorted(loaded.tokenizer.eos_ids))))
    with open_instruments(loaded, keep=keep, graph=False) as instruments:
        session = Session(loaded, instruments, events.append)
        session.begin(write)
        while session.active:
            session.advance()
        for told in [event for event in events if isinstance(event, ProbeAnswer)]:
            asked.append(answer(session, AskProbe(HEAD_PATTERNS, 1, told.position)))
    return events, asked


def test_they_are_told_as_soon_as_there_are_rows_enough_and_from_time_to_time(monkeypatch):
    events, asked = written(512, monkeypatch)
    told = [event for event in events if isinstance(event, ProbeAnswer)]
    positions = [event.position for event in events if isinstance(event, Step)]
    first = next(at for at in positions if at >= head_watch.MIN_QUERIES + 2)
    assert [one.position for one in told] == [first, *(at for at in positions if at > first and at % 32 == 0)]
    assert all(one.record and one.unavailable is None for one in told)
    for one, other in zip(told, asked, strict=True):
        pairs = zip(HeadPatterns.of(one).shares, HeadPatterns.of(other).shares, strict=True)
        assert all(np.allclose(a.numpy(), b.numpy(), atol=1e-5, equal_nan=True) for a, b in pairs)


def test_where_no_rows_are_kept_nothing_is_told_and_the_text_is_the_same(monkeypatch):
    (with_rows, _), (without, _) = written(512, monkeypatch), written(0, monkeypatch)
    assert not [event for event in without if isinstance(event, ProbeAnswer)]
    texts = [[event.token_id for event in events if isinstance(event, Step)] for events in (with_rows, without)]
    assert texts[0] == texts[1]
