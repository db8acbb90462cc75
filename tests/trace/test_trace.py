"""Traces read back: all that went in, and of files from anywhere no more than can be believed."""

import math
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cards import CARD
from forests import sessions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from places import ROOT
from recorded import on_device, recorded, session
from scripted import logged, started
from trace_contents import comparable, known, whole

from tui_entropy.core.errors import UserError
from tui_entropy.metrics.registry import BY_NAME, COMPUTED, METRICS
from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import (
    Continued,
    Ended,
    Event,
    Failed,
    KnobsChanged,
    Paused,
    Prefilled,
    Ready,
    Refused,
    VectorsChanged,
)
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.quantised_rows import QuantisedRows
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.records.step import Candidate, Decision, Stage, Step
from tui_entropy.state.step_store import StepStore
from tui_entropy.trace import schema
from tui_entropy.trace.lazy_steps import STEPS_PER_PAGE
from tui_entropy.trace.reader import Trace

DOCS = ROOT / "docs" / "trace.md"

WARM = Vector("warm", "warm.gguf", (1, 2), on=True)
HAPPENED: list[Event] = [
    Ready(CARD, (WARM,), "/somewhere/a.tui"),
    started(),
    Prefilled(1, 3, 3, 0.5),
    *(on_device(index, 1, f" w{index}") for index in range(4)),
    KnobsChanged(1, 4, Knobs(temperature=1.2)),
    Refused("no such vector"),
    *(on_device(index, 1, f" w{index}") for index in range(4, 7)),
    Paused(1, "by you"),
    VectorsChanged(1, 7, (replace(WARM, strength=2.0),)),
    Continued(1),
    on_device(7, 1, " w7"),
    Ended(1, "stopped"),
    replace(started(2), prompt="Again"),
    *(on_device(index, 2, f" w{index}") for index in range(3)),
    Failed("out of memory", "a long story"),
]


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Path:
    """Two runs, of which the first is longer than two pages."""
    return recorded(tmp_path_factory.mktemp("trace") / "long.tui", session(2 * STEPS_PER_PAGE + 50, 20))


def alike(one: StepStore, other: StepStore) -> bool:
    """In everything that is read along the text."""
    return (
        (one.texts, one.at, one.strays) == (other.texts, other.at, other.strays)
        and all(list(one.values(metric)) == list(other.values(metric)) for metric in METRICS)
        and all(one.norms(block) == other.norms(block) for block in (1, 2, 3))
    )


@pytest.mark.parametrize("n", range(1, len(HAPPENED) + 1))
def test_the_log_is_as_it_was_wherever_the_session_ended(tmp_path, n):
    if not any(isinstance(event, Step) for event in HAPPENED[:n]):
        return
    log, live = Trace.open(recorded(tmp_path / "a.tui", HAPPENED[:n])).log(), logged(*HAPPENED[:n])
    assert known(log) == known(live) and alike(log.steps, live.steps)


@given(sessions(), st.integers(0, 60), st.integers(0, 12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_log_of_a_forest_is_as_it_was_live_wherever_it_ended_and_as_it_goes_on(
    tmp_path_factory, events, n, later
):
    folder = tmp_path_factory.mktemp("forest")
    trace = Trace.open(recorded(folder / "a.tui", events[: 2 + n]))
    log, live = trace.log(), logged(*events[: 2 + n])
    assert whole(log) == whole(live)
    for event in events[2 + n : 2 + n + later]:  # a screen that came back hears the rest
        log.append(event)
        live.append(event)
    assert whole(log) == whole(live)
    trace.close()
    shutil.rmtree(folder)


def test_an_earlier_run_is_as_it_was_before_the_next_began(long):
    trace = Trace.open(long)
    events = session(2 * STEPS_PER_PAGE + 50, 20)
    live = logged(*events[: 3 + 2 * STEPS_PER_PAGE + 50])
    live.runs[2], live.follows = logged(*events).run, False
    assert trace.runs == (1, 2) and trace.log().run_number == 2
    assert known(trace.log(1)) == known(live) and alike(trace.log(1).steps, live.steps)
    with pytest.raises(UserError, match="no run 3: it has 1, 2"):
        trace.log(3)


def test_what_is_asked_for_along_the_text_comes_from_any_page(long):
    trace = Trace.open(long)
    entropies = [on_device(index).entropy for index in range(2 * STEPS_PER_PAGE + 50)]
    assert list(trace.column(1, "entropy_nats", 3, 7)) == entropies[3:7]
    steps = trace.log(1).steps
    for first, last in (
        (0, 5),
        (STEPS_PER_PAGE - 2, STEPS_PER_PAGE + 2),
        (-3, None),
        (5, 5),
        (2 * STEPS_PER_PAGE, 99999),
    ):
        assert list(steps.values(BY_NAME["entropy"], first, last)) == entropies[first:last]
    assert list(steps.norms(2, STEPS_PER_PAGE - 1, STEPS_PER_PAGE + 2)) == [25.0] * 3
    assert trace.texts(1, -2) == [f" w{2 * STEPS_PER_PAGE + 48}", f" w{2 * STEPS_PER_PAGE + 49}"]
    assert steps[-1] == on_device(2 * STEPS_PER_PAGE + 49, 1, f" w{2 * STEPS_PER_PAGE + 49}")
    with pytest.raises(IndexError):
        steps[2 * STEPS_PER_PAGE + 50]
    with pytest.raises(IndexError):
        trace.step(2, 20)


def test_only_as_many_steps_count_as_the_limit_says(long):
    steps = Trace.open(long).log(1).steps
    for limit in (0, 1, STEPS_PER_PAGE + 1, 7):
        steps.limit = limit
        assert len(steps) == len(steps.texts) == len(steps.at) == len(list(steps.values(BY_NAME["rank"]))) == limit
    assert steps[-1].index == 6 and list(steps.norms(1)) == [24.0] * 7
    steps.limit = None
    assert len(steps) == len(steps.texts) == 2 * STEPS_PER_PAGE + 50


def test_steps_that_come_later_stand_behind_those_in_the_file(tmp_path):
    steps = Trace.open(recorded(tmp_path / "a.tui", session(5))).log().steps
    live = logged(started(), *(on_device(index, 1, f" w{index}") for index in range(9))).steps
    for index in range(3, 9):  # two of which are in the file
        steps.append(on_device(index, 1, f" w{index}"))
    assert list(steps) == list(live) and alike(steps, live)
    assert list(steps.norms(2, 4, 6)) == [25.0, 25.0] and len(list(steps.values(BY_NAME["rank"], 4, 7))) == 3


# --- A step through the file ---------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False)
float32s = st.floats(width=32, allow_nan=False)
names = st.lists(st.sampled_from(["top_k", "top_p", "min_p", "adaptive"]), unique=True, max_size=4)


ordinary = st.floats(-(2.0**100), 2.0**100, width=32)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Any step that an engine of that card could send."""
    on, n = draw(names), draw(st.integers(0, 4))
    candidates = tuple(
        Candidate(i, b"%d\xff" % i, draw(float32s), draw(numbers), draw(st.sampled_from([None, "dry", *on])))
        for i in draw(st.lists(st.integers(0, 2**31 - 1), min_size=n, max_size=n, unique=True))
    )
    grid = Grid.of([[draw(st.floats(width=32)) for _ in range(1 + n)] for _ in on]) if on else Grid((0, 1 + n), b"")
    if on and draw(st.booleans()):  # as it is on a device
        candidates = tuple(
            replace(one, final_prob=prob) for one, prob in zip(candidates, grid.rows()[-1][1:], strict=True)
        )
    decision = Decision("S1", "asking", "greedy", {"entropy": draw(st.floats())}, Knobs(seed=3))
    return replace(
        on_device(0),
        text=draw(st.text()),
        token_bytes=draw(st.binary()),
        numbers=tuple(
            float(draw(st.integers(1, 2**24))) if metric.kind == "count" else draw(st.none() | numbers)
            for metric in COMPUTED
        ),
        entropy_z=draw(st.none() | numbers),
        mirostat_mu=draw(st.none() | numbers),
        perplexity=draw(st.just(math.inf) | numbers),
        final_prob=draw(numbers),
        candidates=candidates,
        stages=tuple(Stage(name, draw(st.integers(0, 2**24)), draw(float32s), draw(float32s)) for name in on),
        stage_probs=grid,
        visible_keys=tuple(draw(st.lists(st.none() | st.integers(0, 2**31 - 1), min_size=3, max_size=3))),
        strays=tuple(draw(st.lists(st.integers(1, 3), unique=True))),
        decision=draw(st.none() | st.just(decision)),
        attention_rows=draw(st.none() | st.builds(QuantisedRows, st.binary(min_size=1, max_size=3000))),
        lens_rows=tuple(
            LensRow(
                layer, layer, b"%d\xff" % layer, *(draw(ordinary) for _ in range(3)), draw(st.integers(1, 2**32 - 1))
            )
            for layer in draw(st.sampled_from([(), (0, 1, 2, 3), (1, 3)]))
        ),
    )


@given(st.lists(steps(), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_step_comes_out_as_it_went_in(tmp_path_factory, made):
    given_steps = [replace(one, index=index) for index, one in enumerate(made)]
    folder = tmp_path_factory.mktemp("steps")
    trace = Trace.open(recorded(folder / "a.tui", [Ready(CARD), started(), *given_steps]))
    assert comparable(*trace.steps(1)) == comparable(*given_steps)
    trace.close()
    shutil.rmtree(folder)


def test_unknown_stays_unknown(tmp_path):
    unknown = Grid.of([[math.nan] * 2] * 3)
    gap = replace(
        on_device(0), head_entropy=unknown, visible_keys=(None,) * 3, numbers=(None, *on_device(0).numbers[1:])
    )
    trace = Trace.open(recorded(tmp_path / "a.tui", [Ready(CARD), started(), gap]))
    assert comparable(trace.step(1, 0)) == comparable(gap) and math.isnan(trace.column(1, "head_entropy")[0])


# --- Read by others ------------------------------------------------------------------------------------------


def test_the_questions_of_the_documentation_are_answered(long):
    with closing(sqlite3.connect(long)) as db:
        asked = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
        assert len(asked) >= 4
        for question in asked:
            assert db.execute(question).fetchall(), question
        (most,) = db.execute("select text from tokens order by entropy_nats desc limit 1").fetchone()
        assert most == " w3"


def test_every_table_and_column_is_documented():
    docs = DOCS.read_text()
    assert f"`PRAGMA user_version` is {schema.VERSION}" in docs and f"{schema.APPLICATION:#x}" in docs
    for table, columns in schema.TABLES.items():
        section = docs.split(f"### {table}\n")[1].split("\n### ")[0]
        for column in columns:
            assert re.search(rf"^\| [^|]*`{column}`", section, re.MULTILINE), (table, column)


def test_the_prompts_tokens_have_their_scores(long):
    with closing(sqlite3.connect(long)) as db:
        rows = db.execute("select text, entropy_nats from prompt_tokens where run = 1 order by position").fetchall()
    assert rows == [("The", None), (" capital", 1.5), (" is", 2.5)]


# --- Files from anywhere -------------------------------------------------------------------------------------
