"""Numbers of which only bounds are known, from a step through a trace and JSON lines and back."""

import math
import sqlite3

import msgspec
import pytest
from cards import CARD
from made_steps import with_numbers
from msgspec.structs import replace
from recorded import on_device, recorded, session
from scripted import logged, started

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import Event, Ready
from tui_entropy.records.step import Bounds, Step
from tui_entropy.trace import jsonl, step_codec
from tui_entropy.trace.reader import Trace
from tui_entropy.transport.plausible import contradiction

ENTROPY = BY_NAME["entropy"]
BOUNDS = Bounds("entropy", 2.125, 3.5), Bounds("head_entropy", 0.25, 0.5)


def bounded(index: int, *bounds: Bounds) -> Step:
    made = on_device(index, 1, f" w{index}")
    return replace(with_numbers(made, entropy=None), bounds=bounds) if bounds else made


STEPS = [bounded(0), bounded(1, *BOUNDS), bounded(2, Bounds("entropy", 0.5, 0.5)), bounded(3)]
KNOWN = {1: (2.125, 3.5), 2: (0.5, 0.5)}


def test_a_log_and_the_trace_of_it_have_the_same_bounds(tmp_path):
    trace = Trace.open(recorded(tmp_path / "a.tui", [*session(0)[:1], started(1), *STEPS]))
    assert not trace.damage and list(trace.steps(1)) == STEPS
    for steps in (logged(Ready(CARD), started(1), *STEPS).steps, trace.log().steps):
        assert steps.bounds(ENTROPY, 0, 4) == KNOWN
        assert steps.bounds(ENTROPY, 2, 9) == {2: (0.5, 0.5)} == steps.first(3).bounds(ENTROPY, 2, 9)
        assert steps.bounds(BY_NAME["rank"], 0, 4) == {} == steps.first(1).bounds(ENTROPY, 0, 4)
        assert [value is None for value in steps.values(ENTROPY)] == [False, True, True, False]


def test_a_trace_from_before_there_were_bounds_has_none(tmp_path):
    path = recorded(tmp_path / "old.tui", [*session(0)[:1], started(1), *STEPS])
    db = sqlite3.connect(path)
    db.execute("DROP VIEW tokens")
    db.execute("ALTER TABLE steps DROP COLUMN bounds")
    db.commit()
    db.close()
    trace = Trace.open(path)
    assert not trace.damage and list(trace.steps(1)) == [replace(step, bounds=()) for step in STEPS]
    assert trace.log().steps.bounds(ENTROPY, 0, 4) == {}
    assert trace.log().steps.texts == [step.text for step in STEPS]


@pytest.mark.parametrize(
    "text", [None, 3, "", "{", "[]", '{"entropy_nats": [3, 2]}', '{"entropy_nats": [1]}', '{"of_a_later": [1, 2]}']
)
def test_bounds_that_are_none_are_passed_over(text):
    assert step_codec.bounds(text) == ()


def test_json_lines_have_the_key_only_where_there_are_bounds():
    lines = [msgspec.json.decode(jsonl.step(step)) for step in STEPS]
    assert [line.get("bounds") for line in lines] == [
        None,
        {"entropy_nats": [2.125, 3.5], "head_entropy": [0.25, 0.5]},
        {"entropy_nats": [0.5, 0.5]},
        None,
    ]
    assert "bounds" not in lines[0] and [line["entropy_nats"] is None for line in lines] == [False, True, True, False]


def test_a_message_without_bounds_is_read_as_one_of_a_step_that_has_none():
    fields = msgspec.to_builtins(STEPS[0], builtin_types=(bytes,))
    del fields["bounds"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Event) == STEPS[0]


def test_what_is_unknown_or_between_bounds_is_believed_and_bounds_that_cannot_be_are_not():
    unknown = with_numbers(STEPS[1], entropy=None, varentropy=None, surprisal=None, rank=None)
    assert contradiction(unknown, CARD) == "" == contradiction(STEPS[0], CARD)
    for low, high in ((3, 2), (math.nan, 1), (0, math.inf)):
        assert contradiction(replace(unknown, bounds=(Bounds("entropy", low, high),)), CARD) == "bounds"
