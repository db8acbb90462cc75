"""Traces read back: all that went in, and of files from anywhere no more than can be believed."""

import json
import math
import random
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cards import CARD
from forests import sessions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from places import ROOT
from recorded import float32, on_device, recorded, session
from scripted import logged, started
from trace_contents import comparable, known

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
from tui_entropy.records.quantised_rows import FORM, QuantisedRows, quantised
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.records.step import Candidate, Decision, Shadow, Stage, Step
from tui_entropy.state.run_view import RunView
from tui_entropy.state.session_view import SessionView
from tui_entropy.state.step_store import StepStore
from tui_entropy.trace import schema
from tui_entropy.trace.lazy_steps import STEPS_PER_PAGE
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.recovery import recover
from tui_entropy.trace.step_codec import MIND

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


def whole(log: SessionView) -> dict[int, dict[str, object]]:
    """Every field of every run, the steps as records and as columns, and where the screen is."""
    contents: dict[int, dict[str, object]] = {0: known(log) | {"twin": log.twin and log.twin.started.run}}
    for run, one in log.runs.items():
        scores = {name: [None if math.isnan(v) else v for v in column] for name, column in one.prompt_scores.items()}
        steps = one.steps
        columns = steps.texts, steps.ids, steps.at, steps.strays, *(list(steps.values(metric)) for metric in METRICS)
        fields = {name: getattr(one, name) for name in RunView.__slots__}
        contents[run] = fields | {"steps": list(steps), "prompt_scores": scores, "columns": columns}
        contents[run]["norms"] = [steps.norms(block) for block in (1, 2, 3)]
    return contents


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
    live.runs[2] = logged(*events).run
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


def test_rows_of_a_quantisation_that_is_not_known_are_there_and_not_read(tmp_path):
    rows = quantised(np.array([[0.75, 4, 0.25]] * 3, np.float32), 3)
    path = recorded(tmp_path / "a.tui", [Ready(CARD), started(), replace(on_device(0), attention_rows=rows)])
    known = Trace.open(path).step(1, 0).attention_rows
    assert known == rows and known.row(3, None).keys == (4,)
    with closing(sqlite3.connect(path)) as db, db:
        (header,) = db.execute("SELECT value FROM header WHERE key = 'arrays'").fetchone()
        assert json.loads(header)["attention_rows"]["dtype"] == FORM
        db.execute("UPDATE header SET value = ? WHERE key = 'arrays'", (header.replace(FORM, "sqrt12"),))
    trace = Trace.open(path)
    other = trace.step(1, 0).attention_rows
    assert (other.form, other.readable, other.row(3, None)) == ("sqrt12", False, None) and not trace.damage


def test_what_is_no_trace_is_refused_in_a_sentence(tmp_path):
    foreign, newer, text = tmp_path / "b.tui", tmp_path / "c.tui", tmp_path / "d.tui"
    with closing(sqlite3.connect(foreign)) as db:
        db.execute("CREATE TABLE steps (run)")
    shutil.copy(recorded(tmp_path / "a.tui", session(1)), newer)
    with closing(sqlite3.connect(newer)) as db:
        db.execute("PRAGMA user_version=2")
    text.write_text("once upon a time")
    for path, said in (
        (tmp_path / "none.tui", "No such file"),
        (tmp_path, "not a regular file"),
        (foreign, "no trace"),
        (newer, "version 2 and this tui-entropy reads version 1"),
        (text, "no trace"),
    ):
        with pytest.raises(UserError, match=said) as refused:
            Trace.open(path)
        assert "\n" not in str(refused.value)


def test_columns_and_kinds_that_came_later_are_passed_over(tmp_path):
    path = recorded(tmp_path / "a.tui", session(2))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE steps ADD COLUMN temperature_of_the_room REAL DEFAULT 21")
        db.execute("INSERT INTO events VALUES (999, 1, 1, 'sneeze', 0, '{\"type\": \"sneeze\"}')")
    trace = Trace.open(path)
    assert list(trace.steps(1)) == [on_device(index, 1, f" w{index}") for index in range(2)] and not trace.damage
    assert len(list(trace.events())) == 3


@pytest.mark.parametrize(
    "trap",
    [
        "DROP TABLE steps; CREATE VIEW steps AS SELECT 1 AS seq, 1 AS run, 0 AS step, randomblob(9) AS text",
        "DROP TABLE arrays; CREATE VIRTUAL TABLE arrays USING fts5(seq, blocks)",
        "ALTER TABLE steps RENAME TO s; CREATE TABLE steps (seq INTEGER PRIMARY KEY, run, step, "
        "text AS (hex(zeroblob(9000000)))); INSERT INTO steps (seq, run, step) VALUES (1, 1, 0)",
        "DROP TABLE events; CREATE VIEW events AS WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 "
        "FROM n) SELECT seq, 1 AS run, 'paused' AS kind, 0 AS wall, '' AS json FROM n",
    ],
)
def test_nothing_that_a_file_would_run_is_run(tmp_path, trap):
    path = recorded(tmp_path / "a.tui", session(3))
    with closing(sqlite3.connect(path)) as db:
        db.executescript(trap)
    try:
        trace = Trace.open(path)
    except UserError as refused:
        assert "damaged" in str(refused)
        return
    look_at_everything(trace)
    assert not trace.n_steps(1) or trace.damage


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE steps SET text = x'ff00', bytes = 'none', token_id = 'seven', rank = 1e308, entropy_nats = 'much'",
        "UPDATE steps SET stages = x'00', stray_blocks = '[9999999999, -1]', decision = '{\"saw\": 3}', state = 5",
        "UPDATE arrays SET blocks = x'0102', candidate_ids = zeroblob(4000000), stage_results = 'text'",
        "UPDATE arrays SET visible_keys = NULL, candidate_cut = x'7f7f', head_entropy_nats = zeroblob(40000000)",
        "UPDATE header SET value = '{{{{'",
        "UPDATE events SET json = replace(json, '\"n_layers\":3', '\"n_layers\":999999999')",
        "UPDATE events SET json = replace(json, '\"first\":1', '\"first\":100000')",
        "UPDATE events SET json = '{\"type\":\"started\"', wall = 'noon' WHERE kind = 'started'",
        "UPDATE events SET json = replace(json, '\"run\":1', '\"run\":99999999999999999999')",
        "UPDATE steps SET step = step + 5000000000",
        "UPDATE branches SET parent_run = run, parent_step = 'x'; UPDATE events SET json = '' WHERE kind = 'started'",
        "DROP TABLE steps; CREATE TABLE steps (seq, run, step); INSERT INTO steps VALUES (NULL, 1, 0)",
    ],
)
def test_values_of_another_kind_or_size_are_unknown(tmp_path, change):
    path = recorded(tmp_path / "a.tui", session(3))
    with closing(sqlite3.connect(path)) as db:
        db.executescript(change)
    look_at_everything(Trace.open(path))


def odd_parents(path: Path, origins: list[tuple[object, object]], lost: set[int]) -> Path:
    """The trace of a run and branches of which each says such a (parent, shared); some of the events are lost."""
    with closing(sqlite3.connect(path)) as db, db:
        for run, (parent, shared) in enumerate(origins, 1):
            query = "UPDATE events SET json = json_set(json, '$.parent', ?, '$.shared', ?) WHERE kind = ? AND run = ?"
            db.execute(query, (parent, shared, "started", run))
            db.execute("UPDATE branches SET parent_run = ?, parent_step = ? WHERE run = ?", (parent, shared, run))
        for run in lost:
            db.execute("UPDATE events SET json = 'gone' WHERE kind = 'started' AND run = ?", (run,))
    return path


@given(
    st.lists(
        st.tuples(st.none() | st.integers(-1, 7) | st.just("x"), st.integers(-2, 9) | st.just(2**62)),
        min_size=5,
        max_size=5,
    ),
    st.sets(st.integers(1, 5)),
    st.sets(st.integers(1, 5)),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_branches_say_of_their_parents_all_that_was_written_can_be_looked_at(
    tmp_path_factory, origins, lost, gone
):
    folder = tmp_path_factory.mktemp("odd")
    events: list[Event] = [Ready(CARD), started(), *(on_device(index, 1) for index in range(4))]
    for run in range(2, 6):
        events += [replace(started(run), parent=run - 1, shared=run), on_device(run, run), on_device(run + 1, run)]
    path = odd_parents(recorded(folder / "a.tui", events), origins, lost)
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany("DELETE FROM steps WHERE run = ? AND step < 4", [(run,) for run in gone])
    trace = Trace.open(path)
    assert look_at_everything(trace) <= 5 * 300
    for run in trace.runs:
        parts = trace.lineage(run)
        assert parts[-1].run == run and parts[0].first == 0
        assert [part.last for part in parts[:-1]] == [part.first for part in parts[1:]]
        assert len(trace.seqs(run)) == len(trace.texts(run)) == trace.n_steps(run)
    trace.apart()
    trace.close()
    shutil.rmtree(folder)


def test_a_branch_has_the_tokens_of_its_parents_prompt_once(tmp_path):
    branch = replace(started(2), parent=1, shared=2)
    edited = replace(started(3), parent=1, prompt_tokens=started().prompt_tokens[:2], prompt="The capital")
    path = recorded(tmp_path / "a.tui", [*session(3), branch, edited])
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT run, count(*) FROM prompt_tokens GROUP BY run").fetchall()
    assert rows == [(1, 3), (3, 2)]
    runs = Trace.open(path).log().runs
    assert [len(runs[run].started.prompt_tokens) for run in (1, 2, 3)] == [3, 3, 2]
    assert runs[2].prompt_scores is runs[1].prompt_scores and not len(runs[3].steps)


def look_at_everything(trace: Trace) -> int:
    """As a screen would, step by step. How many steps there were."""
    n = 0
    for run in trace.runs:
        log = trace.log(run)
        for made in log.steps:
            assert made.head_entropy.shape == made.head_varentropy.shape and len(made.visible_keys) == len(
                made.blocks.rows()
            )
        n += len(log.steps)
        assert all(len(list(log.steps.values(metric))) == len(log.steps) for metric in METRICS)
        log.steps.norms(1)
        trace.lineage(run)
    return n


def test_a_copy_that_broke_off_gives_all_that_had_come(tmp_path):
    whole = recorded(tmp_path / "a.tui", session(300)).read_bytes()
    cut = tmp_path / "b.tui"
    for share in (0.3, 0.5, 0.8, 0.95):
        cut.write_bytes(whole[: int(share * len(whole))])
        trace = Trace.open(cut)
        n = trace.n_steps(1)
        assert n > (share - 0.15) * 300 and trace.damage
        assert list(trace.steps(1, 0, n - 12)) == [on_device(index, 1, f" w{index}") for index in range(n - 12)]


@pytest.mark.parametrize("seed", range(40))
def test_damage_of_any_kind_is_a_sentence_or_less_to_read(tmp_path, seed):
    damaged = bytearray(recorded(tmp_path / "a.tui", session(60, 10)).read_bytes())
    chance = random.Random(seed)
    for _ in range(chance.choice([1, 5, 50, 500])):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    if seed % 3 == 0:
        at = chance.randrange(len(damaged))
        damaged[at : at + 4000] = bytes(min(4000, len(damaged) - at))
    if seed % 3 == 1:
        del damaged[chance.randrange(len(damaged)) :]
    (tmp_path / "b.tui").write_bytes(damaged)
    try:
        trace = Trace.open(tmp_path / "b.tui")
    except UserError as refused:
        assert "\n" not in str(refused)
    else:
        assert look_at_everything(trace) <= 70 * 5


def test_a_lost_beginning_is_made_up_from_the_tables(tmp_path):
    path = recorded(tmp_path / "a.tui", session(3))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE events SET json = 'gone' WHERE kind = 'started'")
    begun = Trace.open(path).log().started
    assert begun is not None and begun.prompt == started().prompt and begun.prompt_tokens == started().prompt_tokens


def shadowed(index: int) -> Step:
    mind = Shadow(
        **dict(zip(MIND[:5], map(float32, (0.5 + index, 0.2, 0.1, 1.25, 2.5)), strict=True)),
        rank=3, top_id=7, top_bytes=b" \xff", would_id=5000 + index, would_bytes=b"new",
        logprobs=(float32(-0.7), -2.5),
    )  # fmt: skip
    return replace(on_device(index), shadow=mind)


def test_what_a_shadow_thought_comes_out_as_it_went_in(tmp_path):
    made = [on_device(0), shadowed(1), shadowed(2)]
    trace = Trace.open(recorded(tmp_path / "a.tui", [*session(0)[:1], started(1), *made]))
    assert list(trace.steps(1)) == made
    kl = list(trace.column(1, "kl_nats"))
    assert math.isnan(kl[0]) and kl[1:] == [step.shadow.kl for step in made[1:]]
    assert list(trace.log().steps.values(BY_NAME["entropy change"])) == [
        None, *(step.entropy - step.shadow.entropy for step in made[1:])
    ]  # fmt: skip


def test_a_trace_from_before_there_were_shadows_is_read_and_salvaged(tmp_path):
    events = session(3)
    path = recorded(tmp_path / "old.tui", events)
    db = sqlite3.connect(path)
    db.execute("DROP VIEW tokens")
    for table, n in schema.LATER.items():
        for column in list(schema.TABLES[table])[-n:]:
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    db.commit()
    db.execute("VACUUM")
    db.close()
    steps = [event for event in events if isinstance(event, Step)]
    trace = Trace.open(path)
    assert not trace.damage and list(trace.steps(1)) == steps
    assert list(trace.log().steps.values(BY_NAME["kl"])) == [None] * 3
    assert list(trace.log().steps.values(BY_NAME["entropy"])) == [step.entropy for step in steps]
    found = recover(path)
    assert found.execute("SELECT entropy_nats, kl_nats FROM steps ORDER BY step").fetchall() == [
        (step.entropy, None) for step in steps
    ]


@pytest.mark.parametrize("column", ["varentropy_nats2", "state", "flip"])
def test_columns_are_known_by_their_names_where_a_damaged_file_has_others_than_we_have(tmp_path, column):
    """One fewer, and one more than we know."""
    path = recorded(tmp_path / "other.tui", events := session(3))
    db = sqlite3.connect(path)
    db.execute("DROP VIEW tokens")
    db.execute(f"ALTER TABLE steps DROP COLUMN {column}")
    db.execute("ALTER TABLE steps ADD COLUMN of_a_later_version REAL")
    db.commit()
    db.execute("VACUUM")
    db.close()
    found = (
        recover(path).execute(f"SELECT surprisal_nats, rank, stages, {column} FROM steps ORDER BY step").fetchall()
    )
    steps = [event for event in events if isinstance(event, Step)]
    assert found == [(one.surprisal, one.rank, "top_k,top_p", None) for one in steps]
