"""Faults to plant in one function of the program: each takes the monkeypatch that puts it there."""

import math
from dataclasses import replace as with_parts

import torch
from msgspec.structs import replace

from tui_entropy.engine.decoding import choose, entropix_sampler, loop, reader
from tui_entropy.engine.decomposition import residual_stream
from tui_entropy.engine.instruments import step_tensors
from tui_entropy.engine.instruments.attention import AttentionInstrument
from tui_entropy.engine.instruments.residual import ResidualInstrument
from tui_entropy.engine.lenses import readout
from tui_entropy.engine.measure import running_stats, step_record
from tui_entropy.engine.probes import answer
from tui_entropy.engine.probes.library.text import continuations
from tui_entropy.engine.sampling import chain
from tui_entropy.engine.sequence import sequence as sequence
from tui_entropy.engine.session import rewind, session, shadow
from tui_entropy.engine.steering import control_vector  # fmt: skip
from tui_entropy.engine.verify.checks import draws
from tui_entropy.records.arrays import Grid
from tui_entropy.records.step import BLOCKS
from tui_entropy.stages.registry import BY_NAME
from tui_entropy.state import session_view


def scaled(patch, module, name, factor):
    honest = getattr(module, name)
    patch.setattr(module, name, lambda *given, **known: honest(*given, **known) * factor)


def moved(patch, module, name, by):
    honest = getattr(module, name)
    patch.setattr(module, name, lambda *given, **known: honest(*given, **known) + by)


def varentropy_one_and_a_half(patch):
    honest = step_tensors.surprisal_moments
    patch.setattr(step_tensors, "surprisal_moments", lambda logp: (honest(logp)[0], honest(logp)[1] * 1.5))


def margins_larger(patch):
    honest = step_tensors.margins
    patch.setattr(step_tensors, "margins", lambda logp: (honest(logp)[0] * 1.2, honest(logp)[1]))


def candidates_less_likely(patch):
    honest = step_record.model_metrics

    def less(*given):
        logp, metrics = honest(*given)
        return logp, metrics | {"logprobs": metrics["logprobs"] - 0.5}

    patch.setattr(step_record, "model_metrics", less)
    patch.setattr(choose, "model_metrics", step_record.model_metrics)


def interaction_twice(patch):
    honest = AttentionInstrument.head_statistics

    def measures(self, *row):
        statistics = honest(self, *row)
        return statistics._replace(layers=statistics.layers * torch.tensor([1.0, 1.0, 2.0]))

    patch.setattr(AttentionInstrument, "head_statistics", measures)


def keys_twice(patch):
    honest = AttentionInstrument.visible_keys
    patch.setattr(AttentionInstrument, "visible_keys", lambda self: tuple(n and 2 * n for n in honest(self)))


def blocks_times(column, factor):
    def fault(patch):
        honest = step_record.block_stats
        factors = torch.ones(len(BLOCKS))
        factors[column] = factor
        patch.setattr(step_record, "block_stats", lambda stream: honest(stream) * factors)

    fault.__name__ = f"block_{BLOCKS[column]}_times_{factor:.4g}"
    return fault


def repetition_inverted(patch):
    honest = BY_NAME["repetition_penalty"]
    wrong = with_parts(honest, rescore=lambda row, past, penalty, n: honest.rescore(row, past, 1 / penalty, n))
    patch.setitem(BY_NAME, honest.name, wrong)


def noise_halved(patch):
    for module in (chain,):
        scaled(patch, module, "gumbel", 0.5)


def draw_of_the_best(patch):
    best = lambda scores, seed, position: scores.argmax()  # noqa: E731
    patch.setattr(choose, "draw", best)
    patch.setattr(draws, "draw", best)


def direction_one_block_early(patch):
    honest = control_vector._block
    patch.setattr(control_vector, "_block", lambda name: max(honest(name) - 1, 1))


def strength_forgotten(patch):
    honest = control_vector.offsets
    patch.setattr(
        control_vector, "offsets", lambda on, known: honest([replace(one, strength=1.0) for one in on], known)
    )


def range_forgotten(patch):
    honest = control_vector.offsets
    patch.setattr(
        control_vector,
        "offsets",
        lambda on, known: honest([replace(one, first=None, last=None) for one in on], known),
    )


def wrong_prompt_token(patch):
    honest = reader.scores
    patch.setattr(
        reader, "scores", lambda model, body, residual, wanted: honest(model, body, residual, wanted.roll(1))
    )


def perplexity_of_twice_the_loss(patch):
    honest = running_stats.perplexity
    patch.setattr(running_stats, "perplexity", lambda nll: honest(2 * nll))


def z_upside_down(patch):
    honest = running_stats.z_score
    patch.setattr(running_stats, "z_score", lambda before, value: (z := honest(before, value)) and -z)


def a_wider_fence(patch):
    patch.setattr(running_stats, "FENCE", 300.0)


def a_short_memory(patch):
    patch.setattr(running_stats, "RECENT", 20)


def mirostat_the_other_way(patch):
    honest = choose.next_mu
    patch.setattr(choose, "next_mu", lambda mu, knobs, p: 2 * chain.first_mu(mu, knobs) - honest(mu, knobs, p))


def first_of_the_draws(patch):
    patch.setattr(choose.entropix_sampler, "draws", lambda decision: 1)


def thresholds_in_nats(patch):
    patch.setattr(
        entropix_sampler, "THRESHOLDS", entropix_sampler.THRESHOLDS | {"S1": entropix_sampler.THRESHOLDS["S3"]}
    )


def state_of_certainty(patch):
    patch.setattr(running_stats, "state", lambda entropy_z, attention_z: "Confident")


def kl_the_other_way(patch):
    honest = shadow.kl
    patch.setattr(shadow, "kl", lambda logp, logq: honest(logq, logp))


def a_shadow_without_its_vector(patch):
    patch.setattr(shadow, "same_offsets", lambda one, other: True)


def a_log_that_forgets(patch):
    patch.setattr(session_view.SessionView, "prompt_perplexity", property(lambda self: 2.0))


def deviation_of_a_sample(patch):
    def kept(row, past, n):
        alive = row.scores[row.scores > -torch.inf]
        return row.scores >= row.scores.max() - n * alive.std(correction=1)

    patch.setitem(BY_NAME, "top_n_sigma", with_parts(BY_NAME["top_n_sigma"], keep=kept))


def mirostat_in_nats(patch):
    def next_mu(mu, knobs, final_prob):
        return chain.first_mu(mu, knobs) - knobs.mirostat_eta * (-math.log(final_prob) - knobs.mirostat_tau)

    patch.setattr(choose, "next_mu", next_mu)


def half_the_seconds_of_sampling(patch):
    honest = choose.step_record
    patch.setattr(
        choose,
        "step_record",
        lambda *given, sample_seconds, **known: honest(*given, sample_seconds=sample_seconds / 2, **known),
    )


def ten_times_the_seconds_of_a_fan(patch):
    scaled(patch, answer, "perf_counter", 10)


def penalties_of_the_first_row_for_all(patch):
    first = {}

    def past(prompt, written, position, *rest):
        return honest(prompt, first.setdefault(position, written), position, *rest)

    honest = continuations.SamplingContext
    patch.setattr(continuations, "SamplingContext", past)


def a_vector_on_the_prompt_alone(patch):
    honest = reader.read

    def read(loaded, probes, sequence, last, offsets, *rest):
        return honest(loaded, probes, sequence, last, offsets if last <= sequence.n_prompt else {}, *rest)

    patch.setattr(loop, "read", read)


def the_last_vector_alone(patch):
    honest = control_vector._sum
    patch.setattr(control_vector, "_sum", lambda parts: honest(list(parts)[-1:]))


def nothing_elsewhere(patch):
    _answering(patch, lambda answer: replace(answer, elsewhere=tuple(0.0 for _ in answer.elsewhere)))


def the_mean_of_heads_doubled(patch):
    _answering(
        patch, lambda answer: answer if answer.head else replace(answer, weights=Grid.of(2 * answer.weights.numpy()))
    )


def _answering(patch, change):
    honest = AttentionInstrument.rows
    patch.setattr(AttentionInstrument, "rows", lambda *given, **known: change(honest(*given, **known)))


def a_branch_that_counts_a_step_it_does_not_have(patch):
    honest = running_stats.RunningStats.first
    patch.setattr(running_stats.RunningStats, "first", lambda self, n: honest(self, n + 1))


def a_branch_with_the_bound_of_another_step(patch):
    honest = sequence.TokenSequence.branch

    def branch(self, step, *given):
        new = honest(self, step, *given)
        new.mirostat_mus[-1] = self.mirostat_mus[-1]
        return new

    patch.setattr(sequence.TokenSequence, "branch", branch)


def a_cache_one_column_off_after_going_back(patch):
    honest = rewind.kv_slices
    patch.setattr(rewind, "kv_slices", lambda cache, first, last: honest(cache, max(first - 1, 0), last - 1))


def a_cache_of_the_run_that_was_left(patch):
    honest = rewind.truncated
    patch.setattr(rewind, "truncated", lambda cache, n, known: honest(cache, max(n - 1, 0), known))


def nothing_forced_and_nothing_banned(patch):
    honest = session.Session.branch

    def branch(self, ask):
        n = honest(self, ask)
        self.state.sequence.forced, self.state.sequence.banned = [], frozenset()
        return n

    patch.setattr(session.Session, "branch", branch)


def a_lens_one_layer_off(patch):
    honest = residual_stream.StreamWatch.stream

    def stream(self):
        layers = honest(self)
        return torch.cat([layers[:1], layers[:-2], layers[-1:]])

    patch.setattr(residual_stream.StreamWatch, "stream", stream)


def a_lens_one_position_off(patch):
    honest = residual_stream.StreamWatch.stream
    patch.setattr(residual_stream.StreamWatch, "stream", lambda self: honest(self).roll(1, 1))


def a_live_lens_one_layer_off(patch):
    honest = ResidualInstrument.layers

    def layers(self, *row):
        found = honest(self, *row)
        return torch.cat([found[:1], found[:-1]])

    patch.setattr(ResidualInstrument, "layers", layers)
    patch.setattr(ResidualInstrument, "stream", lambda self, *row: honest(self, *row)[1:])


def a_kl_from_another_belief(patch):
    patch.setattr(
        readout.Final, "of", classmethod(lambda kind, logp: kind(logp.exp().roll(1), (logp.exp() * logp).sum()))
    )
