"""Doctor must be able to fail: a fault is planted in one function of the program, or in a stage of the sampling
chain, and the rows of the numbers that come of it see it."""

import pytest
import torch
from msgspec.structs import replace
from planted import SHORT, acting, failing, written_under

from tui_entropy import log
from tui_entropy.engine import adaptive, decode, measure, sampling, shadow, state, vectors
from tui_entropy.engine.attention import AttentionProbe
from tui_entropy.engine.verify import checks_draws, checks_lanes, checks_steps, checks_vectors
from tui_entropy.records import BLOCKS, ORDERS, SCORES

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
    written_under(monkeypatch, acting(stage))
    found = failing(checks_steps.steps)
    assert {row for row in found if row.startswith("stage ")} == {f"stage {stage}"}
    assert "final probability" in found


def test_a_ban_that_is_passed_over_fails_its_row(monkeypatch):
    honest = sampling._narrowed
    monkeypatch.setattr(sampling, "_narrowed", lambda row, kept: honest(row, kept | True))
    written_under(monkeypatch, SHORT)
    assert "stage banned" in failing(checks_steps.steps)


def test_a_forced_token_that_is_not_alone_fails_its_row(monkeypatch):
    monkeypatch.setattr(
        decode,
        "only",
        lambda chained, stage, token: sampling.Chained((*chained.stages, stage), (*chained.rows, chained.rows[-1])),
    )
    written_under(monkeypatch, SHORT)
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
]  # fmt: skip


@pytest.mark.parametrize(("fault", "examined", "names"), FAULTS)
def test_a_fault_in_one_function_fails_the_rows_of_its_numbers(fault, examined, names, monkeypatch):
    fault(monkeypatch)
    if fault not in OVER_MANY_STEPS:
        written_under(monkeypatch, SHORT)
    assert failing(examined) >= names


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
