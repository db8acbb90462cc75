"""Doctor must be able to fail: a fault is planted in one function of the program, and the rows of the numbers that
come of it see it."""

from dataclasses import replace as with_parts

import function_faults as faults
import pytest
from planted import SHORT, acting, failing, written_under

from tui_entropy.engine.decoding import reader
from tui_entropy.engine.instruments import step_tensors
from tui_entropy.engine.measure import step_record
from tui_entropy.engine.sequence import sequence as sequence
from tui_entropy.engine.verify.checks import attention, draws, lanes, steps
from tui_entropy.engine.verify.checks import branches as branches_
from tui_entropy.engine.verify.checks import probes as probes_  # fmt: skip
from tui_entropy.engine.verify.checks import vectors as vectors_  # fmt: skip
from tui_entropy.metrics.registry import COMPUTED, METRICS, SCORES

OVER_MANY_STEPS = (faults.z_upside_down, faults.state_of_certainty)
CHAIN = {"final probability", "final entropy", "candidates, final"}
FAULTS = [
    (faults.varentropy_one_and_a_half, steps.steps, {"varentropy", "decision"}),
    (lambda patch: faults.moved(patch, step_tensors, "rank", 1), steps.steps, {"rank"}),
    (faults.margins_larger, steps.steps, {"logit margin"}),
    (lambda patch: faults.moved(patch, step_record, "rank", 1), steps.steps, {"followed tokens"}),
    (faults.candidates_less_likely, steps.steps, {"candidates"}),
    (faults.interaction_twice, steps.steps,
     {"interaction strength", "entropix interaction strength", "attention of blocks", "decision"}),
    (faults.keys_twice, steps.steps, {"visible keys", "head entropy", "entropix agreement", "decision"}),
    (faults.blocks_times(0, 3.0), steps.steps, {"residual mean", "block statistics"}),
    (faults.blocks_times(1, 3.0), steps.steps, {"residual std", "block statistics"}),
    (faults.blocks_times(2, 3.0), steps.steps, {"residual norm", "block statistics"}),
    (faults.blocks_times(1, (32 / 31) ** 0.5), steps.steps, {"residual std", "block statistics"}),
    (faults.repetition_inverted, steps.steps, {"stage repetition_penalty", *CHAIN}),
    (faults.noise_halved, draws.draws, {"draws of many seeds"}),
    (faults.noise_halved, steps.steps, {"draw of a seed"}),
    (faults.draw_of_the_best, draws.draws, {"draws of many seeds"}),
    (faults.draw_of_the_best, steps.steps, {"draw of a seed"}),
    (faults.direction_one_block_early, vectors_.vector_files,
     {"vector file, GGUF", "vector file, safetensors", "vector of some blocks", "vector written"}),
    (faults.strength_forgotten, vectors_.vector_files,
     {"vector file, GGUF", "vector file, safetensors", "vector of some blocks"}),
    (faults.range_forgotten, vectors_.vector_files, {"vector of some blocks"}),
    (faults.wrong_prompt_token, steps.steps, {"prompt surprisal", "prompt rank", "prompt perplexity"}),
    (faults.a_log_that_forgets, steps.steps, {"prompt perplexity"}),
    (faults.perplexity_of_twice_the_loss, steps.steps, {"perplexity", "window perplexity"}),
    (faults.perplexity_of_twice_the_loss, draws.long_texts, {"long text"}),
    (faults.z_upside_down, steps.steps, {"entropy z", "attention z"}),
    (faults.z_upside_down, draws.long_texts, {"long text"}),
    (faults.a_wider_fence, draws.long_texts, {"long text"}),
    (faults.a_short_memory, draws.long_texts, {"long text"}),
    (faults.mirostat_the_other_way, steps.steps, {"mirostat bound"}),
    (faults.first_of_the_draws, draws.adaptive_samplers, {"best of draws"}),
    (faults.thresholds_in_nats, draws.adaptive_samplers, {"adaptive samplers"}),
    (faults.state_of_certainty, steps.steps, {"state"}),
    (faults.kl_the_other_way, lanes.lanes, {"kl"}),
    (faults.a_shadow_without_its_vector, lanes.lanes, {"logits of a shadow"}),
    (faults.mirostat_in_nats, steps.steps, {"mirostat bound"}),
    (faults.half_the_seconds_of_sampling, steps.steps, {"seconds, sampling"}),
    (faults.ten_times_the_seconds_of_a_fan, lanes.lanes, {"seconds, fan"}),
    (faults.penalties_of_the_first_row_for_all, lanes.lanes, {"draws of a fan"}),
    (faults.a_vector_on_the_prompt_alone, vectors_.vector_files, {"vector file, GGUF", "vector file, safetensors"}),
    (faults.the_last_vector_alone, vectors_.vector_files, {"two vectors"}),
    (faults.nothing_elsewhere, attention.attention, {"attention elsewhere"}),
    (faults.the_mean_of_heads_doubled, attention.attention, {"attention elsewhere"}),
    (faults.a_branch_that_counts_a_step_it_does_not_have, branches_.branches, {"steps of branches"}),
    (faults.a_branch_with_the_bound_of_another_step, branches_.branches, {"steps of branches"}),
    (faults.a_cache_one_column_off_after_going_back, branches_.branches, {"logits of branches"}),
    (faults.a_cache_of_the_run_that_was_left, branches_.branches, {"logits of branches"}),
    (faults.a_lens_one_layer_off, probes_.probes, {"probe lens"}),
    (faults.a_lens_one_position_off, probes_.probes, {"probe lens"}),
    (faults.a_live_lens_one_layer_off, steps.steps, {"lens rows", "lens entropy", "lens kl"}),
    (faults.a_kl_from_another_belief, steps.steps, {"lens rows", "lens kl"}),
    (faults.nothing_forced_and_nothing_banned, branches_.branches, {"first tokens of branches"}),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "examined", "names"), FAULTS)
def test_a_fault_in_one_function_fails_the_rows_of_its_numbers(fault, examined, names, monkeypatch):
    fault(monkeypatch)
    if fault not in OVER_MANY_STEPS:
        written_under(monkeypatch, SHORT)
    assert failing(examined) >= names


def test_an_edge_by_the_deviation_of_a_sample_fails(monkeypatch):
    faults.deviation_of_a_sample(monkeypatch)
    written_under(monkeypatch, acting("top_n_sigma"))
    assert "stage top_n_sigma" in failing(steps.steps)


@pytest.mark.parametrize("name", [metric.name for metric in COMPUTED])
def test_a_metric_that_is_computed_otherwise_fails_its_row_and_no_other_metric(name, monkeypatch):
    wrong = tuple(
        with_parts(one, compute=lambda at, one=one: one.compute(at) * 1.5 + 0.3) if one.name == name else one
        for one in COMPUTED
    )
    monkeypatch.setattr(step_record, "COMPUTED", wrong)
    written_under(monkeypatch, [1])
    found = failing(steps.steps) & {metric.name for metric in METRICS}
    follows = {"surprisal": {"perplexity", "window perplexity"}, "entropy": {"entropy z"}}
    assert found - follows.get(name, set()) == {name}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_of_the_prompt_that_is_wrong_fails_its_row_alone(name, monkeypatch):
    honest, at = reader.scores, SCORES.index(name)

    def scores(*given):
        table = honest(*given)
        table[:, at] += 1
        return table

    monkeypatch.setattr(reader, "scores", scores)
    written_under(monkeypatch, [1])
    rows = {row for row in failing(steps.steps) if row.startswith("prompt ")}
    assert rows == {f"prompt {name.replace('_', ' ')}"} | ({"prompt perplexity"} if name == "surprisal" else set())
