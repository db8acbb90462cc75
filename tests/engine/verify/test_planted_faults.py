"""Doctor must be able to fail: a fault is planted in every number that is shown, one at a time, and the check that is
there for it sees it. What there is comes from the records, the series and the chain themselves."""

import ast
import inspect
from dataclasses import replace as with_parts
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from msgspec.structs import replace

from tui_entropy import log, series
from tui_entropy.engine import adaptive, decode, fan, measure, prompt_scores, sampling, shadow, state, vectors
from tui_entropy.engine.attention import AttentionProbe
from tui_entropy.engine.verify import (
    checks_draws,
    checks_lanes,
    checks_logits,
    checks_steps,
    checks_vectors,
    compare,
    doctor,
    second,
)
from tui_entropy.engine.verify.schedule import SCHEDULE
from tui_entropy.engine.verify.trust import NUMBERS, STAGES
from tui_entropy.engine.verify.written import watched
from tui_entropy.records import (
    ATTENTION,
    BLOCKS,
    ORDERS,
    SCORES,
    Candidate,
    Decision,
    Fanned,
    FanRow,
    Grid,
    Shadow,
    Stage,
    Step,
    Watched,
)
from tui_entropy.report import FAIL, PASS, Check
from tui_entropy.series import BY_NAME, SERIES

LOADED = small.loaded()
IDS = torch.tensor(LOADED.codec.encode(compare.PROMPT, None, chat=False)[: compare.N_PROMPT])
RUN_ALONE = (
    checks_steps.steps, checks_lanes.lanes, checks_draws.draws, checks_draws.adaptive_samplers,
    checks_draws.long_texts, checks_vectors.vector_files,
)  # fmt: skip


def checked(*examined) -> list[Check]:
    with torch.inference_mode():
        return [check for each in examined for check in each(LOADED, IDS)]


def failing(*examined) -> set[str]:
    return {check.name for check in checked(*examined) if check.verdict == FAIL}


@pytest.fixture(scope="module")
def clean() -> list[Check]:
    return checked(*RUN_ALONE)


def rows_that_prove(name: str, clean: list[Check]) -> set[str]:
    return {check.name for check in clean if name in check.proves}


# --- Whole ---------------------------------------------------------------------------------------------------------


def fields(kind: type, prefix: str, but: tuple[str, ...] = ()) -> list[str]:
    return [f"{prefix}.{name}" for name in kind.__struct_fields__ if name not in but]


EVERY_NUMBER = (
    *NUMBERS,
    *fields(Step, "step"),
    *fields(Candidate, "candidate"),
    *fields(Stage, "stage"),
    *fields(Watched, "watched"),
    *fields(Decision, "decision"),
    *fields(Shadow, "shadow"),
    *fields(FanRow, "fan"),
    *fields(Fanned, "fanned", but=("seconds",)),
    *(f"attention.{name}" for name in ATTENTION),
    *(f"blocks.{name}" for name in BLOCKS),
    *(f"prompt.{name}" for name in (*SCORES, "perplexity")),
)


@pytest.mark.parametrize("name", EVERY_NUMBER)
def test_every_number_that_is_shown_has_a_second_way_that_was_gone(name, clean):
    verdicts = [check.verdict for check in clean if name in check.proves]
    assert verdicts and set(verdicts) == {PASS}


def test_the_stages_that_are_known_are_all_that_the_chain_can_name():
    """Those of the order are knobs; the others are strings that the engine gives to the chain."""
    named = set(ORDERS["hf"])
    for module in (sampling, decode, fan, shadow):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "only":
                named.add(ast.literal_eval(node.args[1]))
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "on" and '"' in ast.unparse(node):
                named.add(ast.literal_eval(node.value.elts[0]))
    assert named | {"banned"} == set(STAGES)


def test_second_ways_share_no_line_with_the_first():
    """They import numbers and names alone."""
    allowed = {"numpy", "numpy.typing", "tui_entropy.records"}
    for path in Path(second.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                known = name in allowed or name.startswith(second.__name__)
                assert known or name.split(".")[0] in __import__("sys").stdlib_module_names, (path.name, name)


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
        case dict():
            return {name: number * 1.5 for name, number in value.items()}
        case tuple():
            return (*value[1:], 1) if not value or isinstance(value[0], int | float) else value[1:]
    return replace(value, temperature=value.temperature + 0.1)


def after_step(patch, change):
    """Every step that the loop makes goes through this on its way out."""
    honest = decode.step_record
    patch.setattr(decode, "step_record", lambda *given, **known: change(honest(*given, **known)))


OF_STEP = [name for name in Step.__struct_fields__ if name not in ("shadow", "decision", "mirostat_mu")]


@pytest.mark.parametrize("name", OF_STEP)
def test_a_field_of_a_step_that_is_wrong_fails_the_row_that_proves_it(name, clean, monkeypatch):
    def change(step):
        value = getattr(step, name)
        wrong = tuple(keys and 2 * keys for keys in value) if name == "visible_keys" else spoilt(value)
        if name in ("entropy_z", "attention_z"):
            wrong = None if value is None else -value
        return replace(step, **{name: wrong})

    after_step(monkeypatch, change)
    assert failing(checks_steps.steps) & rows_that_prove(f"step.{name}", clean)


@pytest.mark.parametrize("name", ["mirostat_mu", "decision"])
def test_a_field_that_most_steps_do_not_have_likewise(name, clean, monkeypatch):
    after_step(monkeypatch, lambda step: replace(step, **{name: None}))
    assert failing(checks_steps.steps) >= {{"mirostat_mu": "mirostat bound"}.get(name, "decision")}


PARTS = {
    "candidate": (Candidate, "candidates", checks_steps.steps),
    "stage": (Stage, "stages", checks_steps.steps),
    "watched": (Watched, "watched", checks_steps.steps),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (of, _, _) in PARTS.items() for name in of.__struct_fields__]
)
def test_a_field_of_what_a_step_holds_several_of_likewise(kind, name, clean, monkeypatch):
    _, field, examined = PARTS[kind]

    def change(step):
        parts = [replace(part, **{name: spoilt(getattr(part, name))}) for part in getattr(step, field)]
        return replace(step, **{field: tuple(parts)})

    after_step(monkeypatch, change)
    assert failing(examined) & rows_that_prove(f"{kind}.{name}", clean)


@pytest.mark.parametrize("name", Decision.__struct_fields__)
def test_a_field_of_a_decision_likewise(name, monkeypatch):
    def change(step):
        told = step.decision
        return replace(step, decision=told and replace(told, **{name: spoilt(getattr(told, name))}))

    after_step(monkeypatch, change)
    assert failing(checks_steps.steps) >= {"decision"}


@pytest.mark.parametrize("name", Shadow.__struct_fields__)
def test_a_field_of_a_shadow_likewise(name, monkeypatch):
    honest = shadow.ShadowLane.record

    def record(self, *given):
        told = honest(self, *given)
        value = getattr(told, name)
        wrong = tuple(each - 0.5 for each in value) if isinstance(value, tuple) else spoilt(value)
        return replace(told, **{name: wrong})

    monkeypatch.setattr(shadow.ShadowLane, "record", record)
    assert failing(checks_lanes.lanes) >= {"shadow"}


@pytest.mark.parametrize(
    "name", [*FanRow.__struct_fields__, *(n for n in Fanned.__struct_fields__ if n != "seconds")]
)
def test_a_field_of_a_fan_likewise(name, clean, monkeypatch):
    honest = fan.fanned

    def fanned(*given):
        told = honest(*given)
        if name in Fanned.__struct_fields__:
            return replace(told, **{name: spoilt(getattr(told, name))})
        rows = [replace(row, **{name: 7 if name == "group" else spoilt(getattr(row, name))}) for row in told.rows]
        return replace(told, rows=tuple(rows))

    monkeypatch.setattr(fan, "fanned", fanned)
    assert failing(checks_lanes.lanes) & (
        rows_that_prove(f"fan.{name}", clean) | rows_that_prove(f"fanned.{name}", clean)
    )


@pytest.fixture(scope="module")
def text():
    """What doctor has written, so that it need not be written again for what is read off it in another way."""
    with torch.inference_mode(), decode.instruments(LOADED, keep=0) as probes:
        return watched(LOADED, probes, SCHEDULE, IDS[-3:].tolist())


@pytest.mark.parametrize("name", [series.name for series in SERIES])
def test_a_series_that_reads_something_else_fails_its_row_and_no_other_series(name, clean, text, monkeypatch):
    monkeypatch.setattr(checks_steps, "watched", lambda *given: text)
    wrong = with_parts(BY_NAME[name], read=lambda step: _spoilt_number(BY_NAME_BEFORE[name].read(step)))
    monkeypatch.setitem(series.BY_NAME, name, wrong)
    examined = checks_lanes.lanes if name in checks_lanes.OF_LANES else checks_steps.steps
    rows = rows_that_prove(f"series {name}", clean)
    others = {row for other in SERIES if other.name != name for row in rows_that_prove(f"series {other.name}", clean)}
    found = failing(examined)
    assert found & rows and not (found & others) - {"attention z"}


BY_NAME_BEFORE = dict(BY_NAME)


def _spoilt_number(value):
    return None if value is None else value * 1.5 + 0.3


@pytest.mark.parametrize("name", [series.name for series in SERIES if series.kind.startswith("information")])
def test_a_series_in_the_wrong_unit_fails_its_row(name, text, monkeypatch):
    monkeypatch.setattr(checks_steps, "watched", lambda *given: text)
    monkeypatch.setitem(series.BY_NAME, name, with_parts(BY_NAME[name], kind="number"))
    examined = checks_lanes.lanes if name in checks_lanes.OF_LANES else checks_steps.steps
    assert name in failing(examined)


# --- Stages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ORDERS["hf"])
def test_a_stage_that_does_nothing_fails_its_row_and_that_of_no_other_stage(stage, monkeypatch):
    kept, rescored = sampling._kept, sampling._rescored

    def keeping(name, knobs, row, past):
        return torch.ones_like(row.scores, dtype=torch.bool) if name == stage else kept(name, knobs, row, past)

    monkeypatch.setattr(sampling, "_kept", keeping)
    monkeypatch.setattr(
        sampling,
        "_rescored",
        lambda name, knobs, row, past: row.scores if name == stage else rescored(name, knobs, row, past),
    )
    found = failing(checks_steps.steps)
    assert {row for row in found if row.startswith("stage ")} == {f"stage {stage}"}
    assert "final probability" in found


def test_a_ban_that_is_passed_over_fails_its_row(monkeypatch):
    honest = sampling._narrowed
    monkeypatch.setattr(sampling, "_narrowed", lambda row, kept: honest(row, kept | True))
    assert "stage banned" in failing(checks_steps.steps)


def test_a_forced_token_that_is_not_alone_fails_its_row(monkeypatch):
    monkeypatch.setattr(
        decode,
        "only",
        lambda chained, stage, token: sampling.Chained((*chained.stages, stage), (*chained.rows, chained.rows[-1])),
    )
    assert "stage forced" in failing(checks_steps.steps)
    assert "stage adaptive" in failing(checks_draws.adaptive_samplers)


def test_an_order_that_is_not_the_one_that_is_set_fails(monkeypatch):
    honest = decode.apply
    monkeypatch.setattr(decode, "apply", lambda knobs, *given: honest(replace(knobs, order=ORDERS["hf"]), *given))
    assert "stages that act" in failing(checks_steps.steps)


# --- Faults of one function each, as they were once not seen -------------------------------------------------------


def scaled(patch, module, name, factor):
    honest = getattr(module, name)
    patch.setattr(module, name, lambda *given, **known: honest(*given, **known) * factor)


def moved(patch, module, name, by):
    honest = getattr(module, name)
    patch.setattr(module, name, lambda *given, **known: honest(*given, **known) + by)


def varentropy_one_and_a_half(patch):
    honest = measure.surprisal_moments
    patch.setattr(measure, "surprisal_moments", lambda logp: (honest(logp)[0], honest(logp)[1] * 1.5))


def margins_larger(patch):
    honest = measure.margins
    patch.setattr(measure, "margins", lambda logp: (honest(logp)[0] * 1.2, honest(logp)[1]))


def candidates_less_likely(patch):
    honest = measure.believed
    patch.setattr(
        measure, "believed", lambda *given: (lambda logp, told: (logp, told | {"logprobs": told["logprobs"] - 0.5}))
        (*honest(*given)),
    )  # fmt: skip
    patch.setattr(decode, "believed", measure.believed)


def interaction_twice(patch):
    honest = AttentionProbe.measures

    def measures(self, *row):
        told = honest(self, *row)
        return told._replace(layers=told.layers * torch.tensor([1.0, 1.0, 2.0]))

    patch.setattr(AttentionProbe, "measures", measures)


def keys_twice(patch):
    honest = AttentionProbe.visible_keys
    patch.setattr(AttentionProbe, "visible_keys", lambda self: tuple(n and 2 * n for n in honest(self)))


def blocks_times(column, factor):
    def fault(patch):
        honest = measure.block_stats
        factors = torch.ones(len(BLOCKS))
        factors[column] = factor
        patch.setattr(measure, "block_stats", lambda stream: honest(stream) * factors)

    fault.__name__ = f"block_{BLOCKS[column]}_times_{factor:.4g}"
    return fault


def repetition_inverted(patch):
    honest = sampling._rescored

    def rescored(stage, knobs, row, past):
        if stage == "repetition_penalty":
            knobs = replace(knobs, repetition_penalty=1 / knobs.repetition_penalty)
        return honest(stage, knobs, row, past)

    patch.setattr(sampling, "_rescored", rescored)


def noise_halved(patch):
    for module in (sampling,):
        scaled(patch, module, "gumbel", 0.5)


def draw_of_the_best(patch):
    best = lambda scores, seed, position: scores.argmax()  # noqa: E731
    patch.setattr(decode, "draw", best)
    patch.setattr(checks_draws, "draw", best)


def direction_one_block_early(patch):
    honest = vectors._block
    patch.setattr(vectors, "_block", lambda name: max(honest(name) - 1, 1))


def strength_forgotten(patch):
    honest = vectors.pushes
    patch.setattr(vectors, "pushes", lambda on, known: honest([replace(one, strength=1.0) for one in on], known))


def range_forgotten(patch):
    honest = vectors.pushes
    patch.setattr(
        vectors, "pushes", lambda on, known: honest([replace(one, first=None, last=None) for one in on], known)
    )


def wrong_prompt_token(patch):
    honest = decode.scores
    patch.setattr(
        decode, "scores", lambda model, body, residual, wanted: honest(model, body, residual, wanted.roll(1))
    )


def perplexity_of_twice_the_loss(patch):
    honest = state.perplexity
    patch.setattr(state, "perplexity", lambda nll: honest(2 * nll))


def z_upside_down(patch):
    honest = state.z_score
    patch.setattr(state, "z_score", lambda before, value: (z := honest(before, value)) and -z)


def a_wider_fence(patch):
    patch.setattr(state, "FENCE", 300.0)


def a_short_memory(patch):
    patch.setattr(state, "RECENT", 20)


def mirostat_the_other_way(patch):
    honest = decode.next_mu
    patch.setattr(decode, "next_mu", lambda mu, knobs, p: 2 * sampling.first_mu(mu, knobs) - honest(mu, knobs, p))


def first_of_the_draws(patch):
    patch.setattr(decode.adaptive, "draws", lambda decision: 1)


def thresholds_in_nats(patch):
    patch.setattr(adaptive, "THRESHOLDS", adaptive.THRESHOLDS | {"S1": adaptive.THRESHOLDS["S3"]})


def state_of_certainty(patch):
    patch.setattr(state, "state", lambda entropy_z, attention_z: "Confident")


def kl_the_other_way(patch):
    honest = shadow.kl
    patch.setattr(shadow, "kl", lambda logp, logq: honest(logq, logp))


def a_shadow_without_its_vector(patch):
    patch.setattr(shadow, "same_pushes", lambda one, other: True)


def a_log_that_forgets(patch):
    patch.setattr(log.Log, "prompt_perplexity", property(lambda self: 2.0))


CHAIN = {"final probability", "final entropy", "candidates, final"}
FAULTS = [
    (varentropy_one_and_a_half, checks_steps.steps, {"varentropy", "decision"}),
    (lambda patch: moved(patch, measure, "rank", 1), checks_steps.steps, {"rank", "followed tokens"}),
    (margins_larger, checks_steps.steps, {"logit margin"}),
    (lambda patch: moved(patch, measure, "uniform_kl", 0.3), checks_steps.steps, {"uniform kl"}),
    (candidates_less_likely, checks_steps.steps, {"candidates"}),
    (interaction_twice, checks_steps.steps,
     {"interaction strength", "entropix interaction strength", "attention of blocks", "decision"}),
    (keys_twice, checks_steps.steps, {"visible keys", "head entropy", "entropix agreement", "decision"}),
    (blocks_times(0, 3.0), checks_steps.steps, {"residual mean", "block statistics"}),
    (blocks_times(1, 3.0), checks_steps.steps, {"residual std", "block statistics"}),
    (blocks_times(2, 3.0), checks_steps.steps, {"residual norm", "block statistics"}),
    (blocks_times(1, (32 / 31) ** 0.5), checks_steps.steps, {"residual std", "block statistics"}),
    (repetition_inverted, checks_steps.steps, {"stage repetition_penalty", *CHAIN}),
    (noise_halved, checks_draws.draws, {"draws of many seeds"}),
    (noise_halved, checks_steps.steps, {"draw of a seed"}),
    (draw_of_the_best, checks_draws.draws, {"draws of many seeds"}),
    (draw_of_the_best, checks_steps.steps, {"draw of a seed"}),
    (direction_one_block_early, checks_vectors.vector_files,
     {"vector file, GGUF", "vector file, safetensors", "vector of some blocks", "vector written"}),
    (strength_forgotten, checks_vectors.vector_files,
     {"vector file, GGUF", "vector file, safetensors", "vector of some blocks"}),
    (range_forgotten, checks_vectors.vector_files, {"vector of some blocks"}),
    (wrong_prompt_token, checks_steps.steps, {"prompt surprisal", "prompt rank", "prompt perplexity"}),
    (a_log_that_forgets, checks_steps.steps, {"prompt perplexity"}),
    (perplexity_of_twice_the_loss, checks_steps.steps, {"perplexity", "window perplexity"}),
    (perplexity_of_twice_the_loss, checks_draws.long_texts, {"long text"}),
    (z_upside_down, checks_steps.steps, {"entropy z", "attention z"}),
    (z_upside_down, checks_draws.long_texts, {"long text"}),
    (a_wider_fence, checks_draws.long_texts, {"long text"}),
    (a_short_memory, checks_draws.long_texts, {"long text"}),
    (mirostat_the_other_way, checks_steps.steps, {"mirostat bound"}),
    (first_of_the_draws, checks_draws.adaptive_samplers, {"best of draws"}),
    (thresholds_in_nats, checks_draws.adaptive_samplers, {"adaptive samplers"}),
    (state_of_certainty, checks_steps.steps, {"state"}),
    (kl_the_other_way, checks_lanes.lanes, {"kl"}),
    (a_shadow_without_its_vector, checks_lanes.lanes, {"logits of a shadow"}),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "examined", "names"), FAULTS)
def test_a_fault_in_one_function_fails_the_rows_of_its_numbers(fault, examined, names, monkeypatch):
    fault(monkeypatch)
    assert failing(examined) >= names


@pytest.mark.parametrize("name", SCORES)
def test_a_score_of_the_prompt_that_is_wrong_fails_its_row_alone(name, monkeypatch):
    honest, at = decode.scores, SCORES.index(name)

    def scores(*given):
        table = honest(*given)
        table[:, at] += 1
        return table

    monkeypatch.setattr(decode, "scores", scores)
    rows = {row for row in failing(checks_steps.steps) if row.startswith("prompt ")}
    assert rows == {f"prompt {name.replace('_', ' ')}"} | ({"prompt perplexity"} if name == "surprisal" else set())


def test_nothing_fails_where_nothing_is_wrong(clean):
    assert [check.name for check in clean if check.verdict != PASS] == []
    assert np.array([check.worst / check.bound for check in clean if check.bound]).max() < 0.5
    assert doctor.CHECKS and checks_logits and prompt_scores
