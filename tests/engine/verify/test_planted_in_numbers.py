"""Doctor must be able to fail: a fault is planted in every number that is shown, one at a time, and the check that is
there for it sees it. What there is comes from the records, the series and the chain themselves."""

import ast
import inspect
import sys
from dataclasses import replace as with_parts
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from planted import (
    LOADED,
    SHORT,
    acting,
    change_steps,
    failing,
    given,
    healthy,
    healthy_text,
    rows_that_prove,
    written_under,
)  # fmt: skip

from tui_entropy.engine.decoding import choose
from tui_entropy.engine.probes.library.text import continuations
from tui_entropy.engine.reliability.report import PASS
from tui_entropy.engine.reliability.trust import NUMBERS
from tui_entropy.engine.reliability.trust import STAGES as NAMED
from tui_entropy.engine.sampling import chain, distribution
from tui_entropy.engine.session import shadow
from tui_entropy.engine.verify import second
from tui_entropy.engine.verify.checks import draws, lanes, steps, units
from tui_entropy.metrics import registry
from tui_entropy.metrics.registry import BY_NAME, METRICS, SCORES
from tui_entropy.records.arrays import Grid  # fmt: skip
from tui_entropy.records.lens_rows import LensRow
from tui_entropy.records.probes.continuations import Continuation, SampledContinuations
from tui_entropy.records.quantised_rows import HEAD, QuantisedRows
from tui_entropy.records.step import ATTENTION, BLOCKS, Candidate, Decision, Shadow, Stage, Step, Watched
from tui_entropy.stages.registry import BY_NAME as STAGE
from tui_entropy.stages.registry import ORDERS, STAGES

# --- Whole ---------------------------------------------------------------------------------------------------------


def fields(kind: type, prefix: str) -> list[str]:
    return [f"{prefix}.{name}" for name in kind.__struct_fields__]


EVERY_NUMBER = (
    *NUMBERS,
    *(name for name in fields(Step, "step") if name != "step.bounds"),  # a model that is here has none
    *fields(Candidate, "candidate"),
    *fields(LensRow, "lens_row"),
    *fields(Stage, "stage"),
    *fields(Watched, "watched"),
    *fields(Decision, "decision"),
    *fields(Shadow, "shadow"),
    *fields(Continuation, "fan"),
    *fields(SampledContinuations, "fanned"),
    *(f"unit {one.name}" for one in METRICS),
    *(
        "branch.logits",
        "branch.steps",
        "branch.tokens",
        "vector GGUF",
        "vector safetensors",
        "vector sum",
        "vector range",
    ),
    *(f"attention.{name}" for name in ATTENTION),
    *(f"blocks.{name}" for name in BLOCKS),
    *(f"prompt.{name}" for name in (*SCORES, "perplexity")),
)


@pytest.mark.parametrize("name", EVERY_NUMBER)
def test_every_number_that_is_shown_has_a_second_way_that_was_gone(name):
    verdicts = [check.verdict for check in healthy() if name in check.proves]
    assert verdicts and set(verdicts) == {PASS}


def test_the_stages_that_are_known_are_all_that_the_chain_can_name():
    """Those of the order are knobs; the others are strings that the engine gives to the chain."""
    named = set(ORDERS["hf"])
    for module in (chain, choose, continuations, shadow):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "force_token":
                named.add(ast.literal_eval(node.args[1]))
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "on" and '"' in ast.unparse(node):
                named.add(ast.literal_eval(node.value.elts[0]))
    assert named | {"banned"} == set(NAMED)


def test_second_ways_share_no_line_with_the_first():
    """They import numbers and names alone, and the second ways of stages, which stand beside the first."""
    allowed = {"numpy", "numpy.typing", "tui_entropy.stages.registry", "tui_entropy.stages.stage"}
    for path in Path(second.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                known = name in allowed or name.startswith((second.__name__, "tui_entropy.records."))
                assert known or name.split(".")[0] in sys.stdlib_module_names, (path.name, name)


def called_by(*functions):
    """The functions of stages that these call, and those that those call."""
    found = set()
    for function in filter(None, functions):
        names = {name for code in codes(function.__code__) for name in code.co_names}
        there = [function.__globals__[name] for name in names if name in function.__globals__]
        ours = [one for one in there if inspect.isfunction(one) and one.__module__.startswith("tui_entropy.")]
        found |= {function, *called_by(*ours)}
    return found


def codes(code):
    """A function's code, and that of those within it."""
    return [code, *(one for const in code.co_consts if inspect.iscode(const) for one in codes(const))]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_two_ways_of_a_stage_call_no_function_that_both_know(stage):
    first = called_by(stage.rescore, stage.keep, stage.acts)
    assert first and not first & called_by(stage.check, stage.check_acts)


def test_nothing_fails_where_nothing_is_wrong():
    assert [check.name for check in healthy() if check.verdict != PASS] == []
    assert np.array([check.worst / check.bound for check in healthy() if check.bound]).max() < 0.5


# --- A fault in each field, by its type ----------------------------------------------------------------------------


def spoilt(value):
    """The same kind of value, and wrong."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 1.5 + 0.3
        case str():
            return value + "x"
        case bytes():
            return value + b"x"
        case None:
            return "banned"
        case Grid():
            return Grid.of(value.numpy() * 1.5 + 0.1)
        case QuantisedRows():
            return QuantisedRows(value.data[:-1] + bytes([value.data[-1] ^ 1]))  # the last key of the last row
        case dict():
            return {name: number * 1.5 for name, number in value.items()}
        case tuple():
            return (*value[1:], 1) if not value or isinstance(value[0], int | float) else value[1:]
    return replace(value, temperature=value.temperature + 0.1)


OF_STEP = [name for name in Step.__struct_fields__ if name not in ("shadow", "decision", "mirostat_mu", "bounds")]
"""Without those that most steps do not have, and without bounds, which a model that is here has of no number."""


@pytest.mark.parametrize("name", OF_STEP)
def test_a_field_of_a_step_that_is_wrong_fails_the_row_that_proves_it(name, monkeypatch):
    def change(step):
        value = getattr(step, name)
        wrong = tuple(keys and 2 * keys for keys in value) if name == "visible_keys" else spoilt(value)
        if name in ("entropy_z", "attention_z"):
            wrong = None if value is None else -value
        return replace(step, **{name: wrong})

    given(monkeypatch, change_steps(change))
    assert failing(steps.steps) & rows_that_prove(f"step.{name}")


ROWS_OF_HEADS = LOADED.card.n_layers * (1 + LOADED.card.n_heads)


@pytest.mark.parametrize(
    ("at", "by"), [(HEAD.size + ROWS_OF_HEADS, 20), (HEAD.size + 2 * ROWS_OF_HEADS, 4)], ids=["rest", "weight"]
)
def test_a_number_of_a_recorded_row_that_is_wrong_likewise(at, by, monkeypatch):
    """Of the first row, by so many levels."""

    def change(step):
        data = step.attention_rows.data
        return replace(step, attention_rows=QuantisedRows(data[:at] + bytes([data[at] ^ by]) + data[at + 1 :]))

    given(monkeypatch, change_steps(change))
    assert failing(steps.steps) == rows_that_prove("step.attention_rows")


@pytest.mark.parametrize("name", ["mirostat_mu", "decision"])
def test_a_field_that_most_steps_do_not_have_likewise(name, monkeypatch):
    given(monkeypatch, change_steps(lambda step: replace(step, **{name: None})))
    assert failing(steps.steps) >= {{"mirostat_mu": "mirostat bound"}.get(name, "decision")}


PARTS = {
    "candidate": (Candidate, "candidates", steps.steps),
    "stage": (Stage, "stages", steps.steps),
    "watched": (Watched, "watched", steps.steps),
    "lens_row": (LensRow, "lens_rows", steps.steps),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (of, _, _) in PARTS.items() for name in of.__struct_fields__]
)
def test_a_field_of_what_a_step_holds_several_of_likewise(kind, name, monkeypatch):
    _, field, examined = PARTS[kind]

    def change(step):
        parts = [replace(part, **{name: spoilt(getattr(part, name))}) for part in getattr(step, field)]
        return replace(step, **{field: tuple(parts)})

    given(monkeypatch, change_steps(change))
    assert failing(examined) & rows_that_prove(f"{kind}.{name}")


@pytest.mark.parametrize("name", Decision.__struct_fields__)
def test_a_field_of_a_decision_likewise(name, monkeypatch):
    def change(step):
        decision = step.decision
        return replace(step, decision=decision and replace(decision, **{name: spoilt(getattr(decision, name))}))

    given(monkeypatch, change_steps(change))
    assert failing(steps.steps) >= {"decision"}


@pytest.mark.parametrize("name", Shadow.__struct_fields__)
def test_a_field_of_a_shadow_likewise(name, monkeypatch):
    honest = shadow.ShadowRun.record

    def record(self, *given):
        stats = honest(self, *given)
        value = getattr(stats, name)
        wrong = tuple(each - 0.5 for each in value) if isinstance(value, tuple) else spoilt(value)
        return replace(stats, **{name: wrong})

    monkeypatch.setattr(shadow.ShadowRun, "record", record)
    assert failing(lanes.lanes) >= {"shadow"}


@pytest.mark.parametrize("name", [*Continuation.__struct_fields__, *SampledContinuations.__struct_fields__])
def test_a_field_of_a_fan_likewise(name, monkeypatch):
    honest = continuations.group_continuations

    def fanned(*given):
        sampled = honest(*given)
        if name in SampledContinuations.__struct_fields__:
            return replace(sampled, **{name: spoilt(getattr(sampled, name))})
        rows = [replace(row, **{name: 7 if name == "group" else spoilt(getattr(row, name))}) for row in sampled.rows]
        return replace(sampled, rows=tuple(rows))

    monkeypatch.setattr(continuations, "group_continuations", fanned)
    assert failing(lanes.lanes) & (rows_that_prove(f"fan.{name}") | rows_that_prove(f"fanned.{name}"))


@pytest.mark.parametrize("name", [one.name for one in METRICS])
def test_a_series_that_reads_something_else_fails_its_row_and_no_other_series(name, monkeypatch):
    given(monkeypatch, healthy_text())
    wrong = with_parts(BY_NAME[name], read=lambda step: _spoilt_number(BY_NAME_BEFORE[name].read(step)))
    monkeypatch.setitem(registry.BY_NAME, name, wrong)
    examined = lanes.lanes if name in lanes.OF_LANES else steps.steps
    rows = rows_that_prove(f"series {name}")
    others = {row for other in METRICS if other.name != name for row in rows_that_prove(f"series {other.name}")}
    found = failing(examined)
    assert found & rows and not (found & others) - {"attention z"}


BY_NAME_BEFORE = dict(BY_NAME)


def _spoilt_number(value):
    return None if value is None else value * 1.5 + 0.3


@pytest.mark.parametrize("name", [one.name for one in METRICS if one.kind.startswith("information")])
def test_a_series_in_the_wrong_unit_fails_its_row(name, monkeypatch):
    given(monkeypatch, healthy_text())
    monkeypatch.setitem(registry.BY_NAME, name, with_parts(BY_NAME[name], kind="number"))
    examined = lanes.lanes if name in lanes.OF_LANES else steps.steps
    assert name in failing(examined)


@pytest.mark.parametrize("name", [one.name for one in METRICS])
def test_a_series_that_is_called_by_another_unit_fails(name, monkeypatch):
    kind = "seconds" if BY_NAME[name].kind != "seconds" else "information"
    wrong = [with_parts(one, kind=kind) if one.name == name else one for one in METRICS]
    monkeypatch.setattr(units, "METRICS", wrong)
    assert failing(units.units) == {"units"}


# --- Stages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ORDERS["hf"])
def test_a_stage_that_does_nothing_fails_its_row_and_that_of_no_other_stage(stage, monkeypatch):
    honest = STAGE[stage]
    idle = with_parts(
        honest,
        keep=honest.keep and (lambda row, *given: torch.ones_like(row.scores, dtype=torch.bool)),
        rescore=honest.rescore and (lambda row, *given: row.scores),
    )
    monkeypatch.setitem(STAGE, stage, idle)
    written_under(monkeypatch, acting(stage))
    found = failing(steps.steps)
    assert {row for row in found if row.startswith("stage ")} == {f"stage {stage}"}
    assert "final probability" in found


def test_a_ban_that_is_passed_over_fails_its_row(monkeypatch):
    honest = distribution.narrow
    monkeypatch.setattr(chain, "narrow", lambda row, kept: honest(row, kept | True))
    written_under(monkeypatch, SHORT)
    assert "stage banned" in failing(steps.steps)


def test_a_forced_token_that_is_not_alone_fails_its_row(monkeypatch):
    monkeypatch.setattr(
        choose,
        "force_token",
        lambda chained, stage, token: distribution.ChainResult(
            (*chained.stages, stage), (*chained.rows, chained.rows[-1])
        ),
    )
    written_under(monkeypatch, SHORT)
    assert "stage forced" in failing(steps.steps)
    assert "stage adaptive" in failing(draws.adaptive_samplers)


def test_an_order_that_is_not_the_one_that_is_set_fails(monkeypatch):
    honest = choose.apply
    monkeypatch.setattr(choose, "apply", lambda knobs, *given: honest(replace(knobs, order=ORDERS["hf"]), *given))
    assert "stages that act" in failing(steps.steps)
