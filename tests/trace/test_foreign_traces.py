"""Traces from anywhere: what is none, of other versions, and damaged; none is believed further than it can be."""

import json
import math
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cards import CARD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from recorded import float32, on_device, recorded, session
from scripted import started

from tui_entropy.core.errors import UserError
from tui_entropy.metrics.registry import BY_NAME, METRICS
from tui_entropy.records.events import (
    Event,
    Ready,
)
from tui_entropy.records.quantised_rows import FORM, quantised
from tui_entropy.records.step import Shadow, Step
from tui_entropy.trace import schema
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.recovery import recover
from tui_entropy.trace.step_codec import MIND


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
