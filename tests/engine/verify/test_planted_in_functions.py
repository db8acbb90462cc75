"""Doctor must be able to fail: a fault is planted in one function of the program, and the rows of the numbers that
come of it see it."""

import math

import pytest
import torch
from msgspec.structs import replace
from planted import SHORT, acting, failing, written_under

from tui_entropy import log
from tui_entropy.engine import (
    adaptive,
    branches,
    context,
    decode,
    fan,
    measure,
    sampling,
    shadow,
    state,
    travel,
    vectors,
)  # fmt: skip
from tui_entropy.engine.attention import AttentionProbe
from tui_entropy.engine.verify import (
    checks_attention,
    checks_branches,
    checks_draws,
    checks_lanes,
    checks_steps,
    checks_vectors,
)  # fmt: skip
from tui_entropy.records import BLOCKS, SCORES, Grid


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


def deviation_of_a_sample(patch):
    def kept(stage, knobs, row, past):
        if stage != "top_n_sigma":
            return honest(stage, knobs, row, past)
        alive = row.scores[row.scores > -torch.inf]
        return row.scores >= row.scores.max() - knobs.top_n_sigma * alive.std(correction=1)

    honest = sampling._kept
    patch.setattr(sampling, "_kept", kept)


def mirostat_in_nats(patch):
    def next_mu(mu, knobs, final_prob):
        return sampling.first_mu(mu, knobs) - knobs.mirostat_eta * (-math.log(final_prob) - knobs.mirostat_tau)

    patch.setattr(decode, "next_mu", next_mu)


def half_the_seconds_of_sampling(patch):
    honest = decode.step_record
    patch.setattr(
        decode,
        "step_record",
        lambda *given, sample_seconds, **known: honest(*given, sample_seconds=sample_seconds / 2, **known),
    )


def ten_times_the_seconds_of_a_fan(patch):
    honest = fan.fanned
    patch.setattr(fan, "fanned", lambda *given: (told := honest(*given)) and replace(told, seconds=10 * told.seconds))


def penalties_of_the_first_row_for_all(patch):
    first = {}

    def past(prompt, written, position, *rest):
        return honest(prompt, first.setdefault(position, written), position, *rest)

    honest = fan.Past
    patch.setattr(fan, "Past", past)


def a_vector_on_the_prompt_alone(patch):
    honest = decode.read

    def read(loaded, probes, context, last, pushes, *rest):
        return honest(loaded, probes, context, last, pushes if last <= context.n_prompt else {}, *rest)

    patch.setattr(decode, "read", read)


def the_last_vector_alone(patch):
    honest = vectors._sum
    patch.setattr(vectors, "_sum", lambda parts: honest(list(parts)[-1:]))


def nothing_elsewhere(patch):
    _answering(patch, lambda told: replace(told, elsewhere=tuple(0.0 for _ in told.elsewhere)))


def the_mean_of_heads_doubled(patch):
    _answering(patch, lambda told: told if told.head else replace(told, weights=Grid.of(2 * told.weights.numpy())))


def _answering(patch, change):
    honest = AttentionProbe.rows
    patch.setattr(AttentionProbe, "rows", lambda *given, **known: change(honest(*given, **known)))


def a_branch_that_counts_a_step_it_does_not_have(patch):
    honest = state.Recent.first
    patch.setattr(state.Recent, "first", lambda self, n: honest(self, n + 1))


def a_branch_with_the_bound_of_another_step(patch):
    honest = context.Context.branch

    def branch(self, step, *given):
        new = honest(self, step, *given)
        new.mus[-1] = self.mus[-1]
        return new

    patch.setattr(context.Context, "branch", branch)


def a_cache_one_column_off_after_going_back(patch):
    honest = travel.columns
    patch.setattr(travel, "columns", lambda cache, first, last: honest(cache, max(first - 1, 0), last - 1))


def a_cache_of_the_run_that_was_left(patch):
    honest = travel.as_of
    patch.setattr(travel, "as_of", lambda cache, n, known: honest(cache, max(n - 1, 0), known))


def nothing_forced_and_nothing_banned(patch):
    honest = branches.Branches.branch

    def branch(self, ask):
        n = honest(self, ask)
        self.session.context.forced, self.session.context.banned = [], frozenset()
        return n

    patch.setattr(branches.Branches, "branch", branch)


OVER_MANY_STEPS = (z_upside_down, state_of_certainty)
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
    (mirostat_in_nats, checks_steps.steps, {"mirostat bound"}),
    (half_the_seconds_of_sampling, checks_steps.steps, {"seconds, sampling"}),
    (ten_times_the_seconds_of_a_fan, checks_lanes.lanes, {"seconds, fan"}),
    (penalties_of_the_first_row_for_all, checks_lanes.lanes, {"draws of a fan"}),
    (a_vector_on_the_prompt_alone, checks_vectors.vector_files, {"vector file, GGUF", "vector file, safetensors"}),
    (the_last_vector_alone, checks_vectors.vector_files, {"two vectors"}),
    (nothing_elsewhere, checks_attention.attention, {"attention elsewhere"}),
    (the_mean_of_heads_doubled, checks_attention.attention, {"attention elsewhere"}),
    (a_branch_that_counts_a_step_it_does_not_have, checks_branches.branches, {"steps of branches"}),
    (a_branch_with_the_bound_of_another_step, checks_branches.branches, {"steps of branches"}),
    (a_cache_one_column_off_after_going_back, checks_branches.branches, {"logits of branches"}),
    (a_cache_of_the_run_that_was_left, checks_branches.branches, {"logits of branches"}),
    (nothing_forced_and_nothing_banned, checks_branches.branches, {"first tokens of branches"}),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "examined", "names"), FAULTS)
def test_a_fault_in_one_function_fails_the_rows_of_its_numbers(fault, examined, names, monkeypatch):
    fault(monkeypatch)
    if fault not in OVER_MANY_STEPS:
        written_under(monkeypatch, SHORT)
    assert failing(examined) >= names


def test_an_edge_by_the_deviation_of_a_sample_fails(monkeypatch):
    deviation_of_a_sample(monkeypatch)
    written_under(monkeypatch, acting("top_n_sigma"))
    assert "stage top_n_sigma" in failing(checks_steps.steps)


@pytest.mark.parametrize("name", SCORES)
def test_a_score_of_the_prompt_that_is_wrong_fails_its_row_alone(name, monkeypatch):
    honest, at = decode.scores, SCORES.index(name)

    def scores(*given):
        table = honest(*given)
        table[:, at] += 1
        return table

    monkeypatch.setattr(decode, "scores", scores)
    written_under(monkeypatch, [1])
    rows = {row for row in failing(checks_steps.steps) if row.startswith("prompt ")}
    assert rows == {f"prompt {name.replace('_', ' ')}"} | ({"prompt perplexity"} if name == "surprisal" else set())
