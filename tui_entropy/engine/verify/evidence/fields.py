"""The fields of a step that are no series: candidates, stages, grids, draw, text, decisions, what is followed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.verify.evidence.compare import EAGER_PASS, Tally, allowed, gap, outside
from tui_entropy.engine.verify.evidence.written import Seen, Text
from tui_entropy.engine.verify.second import belief, chain, entropix, heads, history, noise
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.step import ATTENTION, BLOCKS, Decision, Step, Watched
from tui_entropy.stages.registry import ORDERS

SHARE = allowed(torch.float32, 1)
TIMES = "of bound"
"""The unit of a row of numbers in many units: shares of what each of them may be off by."""
STAGES = (*ORDERS["hf"], "banned", "forced")
CHAIN = "survivors, mass, entropy and probabilities after it, against its definition in float64"


def compare_fields(loaded: Loaded, text: Text, tally: Tally) -> None:
    """Compare every proposal of a text, field by field."""
    assert text.plainly is not None
    rows(tally)
    for seen in text.seen:
        ids = [seen.step.token_id, *(one.token_id for one in seen.step.candidates)]
        if not all(0 <= token < len(seen.logits) for token in ids):
            tally.add("candidates", math.inf, 1.0)  # a token that there is not
            continue
        candidates(loaded, seen, tally)
        stages(seen, tally)
        draw(seen, tally)
        places(seen, text, tally)
        running_statistics(seen, tally)
        tracked_tokens(seen, text.followed, tally)
        decision(seen, loaded.model.dtype, tally)
        blocks(seen, loaded.model.dtype, tally)
        if not text.plainly.missing:
            grids(seen, loaded.model.dtype, tally)
    for name in ("head grid", "attention of blocks", "visible keys"):
        tally.skipped[name] = text.plainly.missing or "nothing of the kind came up"
    words(loaded, text, tally)
    seconds(text, tally)


def rows(tally: Tally) -> None:
    """Declare the rows of the report, in its order."""
    each = ["step.stages", "step.stage_probs", "stage.survivors", "stage.mass", "stage.entropy"]
    for stage in STAGES:
        tally.row(f"stage {stage}", "sampling", CHAIN, TIMES, [f"stage {stage}", *each])
    tally.row(
        "stages that act", "sampling", "names and order, against the knobs", "steps", ["step.stages", "stage.name"]
    )
    tally.row(
        "final probability", "sampling", "of the written token, against the chain in float64", "share",
        of_step("final_prob"),
    )  # fmt: skip
    tally.row(
        "candidates", "logits", "ids and log-probabilities, against the best of the logits in float64", TIMES,
        ["step.candidates", "candidate.token_id", "candidate.logprob", "candidate.token_bytes"],
    )  # fmt: skip
    tally.row(
        "candidates, final", "sampling", "final probability and the stage that cut each, against the chain", TIMES,
        ["candidate.final_prob", "candidate.cut"],
    )  # fmt: skip
    tally.row(
        "draw of a seed", "sampling", "tokens against Gumbel noise made from its definition", "tokens",
        of_step("token_id"),
    )  # fmt: skip
    tally.row("mirostat bound", "sampling", "mu against its rule, step by step", "bits", of_step("mirostat_mu"))
    tally.row(
        "decision", "sampling", "quadrant, knobs and what was seen, against the published rules", TIMES,
        ["step.decision", *(f"decision.{name}" for name in Decision.__struct_fields__)],
    )  # fmt: skip
    tally.row("place", "logits", "run, index and position, against counting", "steps", of_step(*PLACES))
    tally.row("state", "heads", "against the table of states", "steps", of_step("state", "entropy_z", "attention_z"))
    tally.row("stray blocks", "residual", "which, against quartiles of the steps before", "blocks", of_step("strays"))
    tally.row(
        "followed tokens",
        "logits",
        "watches against float64 of the logits",
        TIMES,
        ["step.watched", *(f"watched.{name}" for name in Watched.__struct_fields__)],
    )
    tally.row(
        "block statistics", "residual", "mean, deviation and norm of every block, against a plain pass", TIMES,
        ["step.blocks", *(f"blocks.{name}" for name in BLOCKS)],
    )  # fmt: skip
    tally.row(
        "head grid", "heads", "entropy and varentropy of every head, against eager rows", TIMES,
        of_step("head_entropy", "head_varentropy"),
    )  # fmt: skip
    tally.row(
        "attention of blocks", "heads", "spread, disagreement and interaction of every block, against eager ones",
        TIMES, ["step.attention", *(f"attention.{name}" for name in ATTENTION)],
    )  # fmt: skip
    tally.row(
        "visible keys", "heads", "of every block, against what its eager mask leaves", "keys", of_step("visible_keys")
    )
    tally.row(
        "text of tokens", "logits", "bytes and text put together, against the tokenizer's own decoding", "pieces",
        of_step("token_bytes", "text"),
    )  # fmt: skip
    of_attention = "decision", "block statistics", "head grid", "attention of blocks", "visible keys"
    tally.rests_on |= dict.fromkeys(of_attention, EAGER_PASS)
    for name, field in (("forward pass", "forward_seconds"), ("sampling", "sample_seconds"), ("time", "at")):
        proves = [*of_step(field), *([f"series {name}"] if name != "time" else [])]
        tally.row(f"seconds, {name}", "logits", SECONDS[name], "s", proves)


def of_step(*names: str) -> list[str]:
    """Fields of a step, as `Check.proves` names them."""
    return [f"step.{name}" for name in names]


PLACES = ("run", "index", "position")
SECONDS = {
    "forward pass": "beyond what the model's own forward took, or what the whole step did",
    "sampling": "beyond what is left of the whole step, or less than most of it in the median",
    "time": "beyond what all steps took from outside",
}


def candidates(loaded: Loaded, seen: Seen, tally: Tally) -> None:
    """The n best, which may change places where they are as good as each other."""
    shown, size = seen.step.candidates, float(np.abs(seen.logits).max())
    n = min(seen.knobs.n_candidates, len(seen.logits))
    best = np.sort(seen.logp)[::-1][:n]
    ids = [one.token_id for one in shown]
    tally.share("candidates", len(set(ids)), n, 0.0)
    tally.share("candidates", [one.logprob for one in shown], best, allowed(torch.float32, size))
    tally.share("candidates", seen.logp[ids], best, allowed(torch.float32, size))
    data = [loaded.tokenizer.token_bytes(token) == one.token_bytes for token, one in zip(ids, shown, strict=True)]
    tally.share("candidates", all(data), True, 0.0)
    if seen.final.doubtful:
        return
    tally.share("candidates, final", [one.final_prob for one in shown], np.exp(seen.final.logp[ids]), SHARE)
    tally.share("candidates, final", [one.cut == cut(seen.left, one.token_id) for one in shown], [True] * n, 0.0)
    tally.add("final probability", gap(seen.step.final_prob, math.exp(seen.final.logp[seen.step.token_id])), SHARE)


def cut(left: Sequence[chain.Left], token: int) -> str | None:
    """The first stage that a token did not pass; None where it can be drawn. A last stage that lets one token alone
    through can bring it back."""
    if left[-1].scores[token] > -math.inf:
        return None
    return next((after.stage for after in left[1:] if after.scores[token] == -math.inf), None)


def stages(seen: Seen, tally: Tally) -> None:
    """Each stage that acted, in what it left. Nothing is compared from one on that rounding decides."""
    step, left = seen.step, seen.left
    tally.add("stages that act", float([s.name for s in step.stages] != [after.stage for after in left[1:]]), 0.0)
    ids = [step.token_id, *(one.token_id for one in step.candidates)]
    size = math.log(len(seen.logits))
    for stage, probs, after in zip(step.stages, step.stage_probs.rows(), left[1:], strict=False):
        if after.doubtful or stage.name != after.stage:
            break
        differences = [
            math.inf if stage.survivors != after.survivors else 0.0,
            gap(stage.mass, after.mass) / SHARE,
            gap(stage.entropy, after.entropy) / allowed(torch.float32, size),
            gap(probs, np.exp(after.logp[ids])) / SHARE,
        ]
        for difference in differences:
            tally.add(f"stage {after.stage}", difference, 1.0)
        if max(differences) > 1:  # what follows it is given something else
            break


def draw(seen: Seen, tally: Tally) -> None:
    """The token that the noise of this seed and position makes win; of several draws the one the model likes best."""
    if seen.final.doubtful or seen.before.only:
        return
    n = 5 if seen.decided[0] == "adaptive" else 1
    size = max(1.0, float(np.abs(seen.final.scores[seen.final.scores > -np.inf]).max()))
    close = allowed(torch.float32, size)
    may = [
        noise.possible_draws(seen.final.scores, seen.knobs.seed + (i << 32), seen.before.position, close)
        for i in range(n)
    ]
    sure = {next(iter(tokens)) for tokens in may if len(tokens) == 1}
    best = max((seen.logp[token] for token in sure), default=-math.inf)
    drawn = seen.step.token_id in frozenset().union(*may) and seen.logp[seen.step.token_id] >= best - close
    tally.add("draw of a seed", float(not drawn), 0.0)


def places(seen: Seen, text: Text, tally: Tally) -> None:
    expected = text.started.run, len(seen.earlier), len(text.started.prompt_tokens) + len(seen.earlier)
    tally.add("place", float(tuple(getattr(seen.step, name) for name in PLACES) != expected), 0.0)
    on = "mirostat_tau" in [after.stage for after in seen.left]
    mu = (2 * seen.knobs.mirostat_tau if seen.before.mu is None else seen.before.mu) if on else None
    tally.add("mirostat bound", gap(seen.step.mirostat_mu, mu), allowed(torch.float32, 32))


def running_statistics(seen: Seen, tally: Tally) -> None:
    step, norms = seen.step, [earlier.blocks.column(2) for earlier in seen.earlier]
    attends = any(keys is not None for keys in step.visible_keys)
    expected = history.state(step.entropy_z, step.attention_z, len(seen.earlier), attends)
    tally.add("state", float(step.state != expected), 0.0)
    strays = history.strays(norms, step.blocks.column(2))
    tally.add("stray blocks", float(len(set(step.strays) ^ set(strays))), 0.0)


def tracked_tokens(seen: Seen, ids: tuple[int, ...], tally: Tally) -> None:
    """ids: of the tokens that are followed."""
    size = float(np.abs(seen.logits).max())
    tally.share("followed tokens", tuple(one.token_id for one in seen.step.watched) == ids, True, 0.0)
    for one in seen.step.watched:
        bound = allowed(torch.float32, size)
        tally.share("followed tokens", one.logprob, float(seen.logp[one.token_id]), bound)
        tally.share("followed tokens", one.logit, float(seen.logits[one.token_id]), bound)
        best, worst = belief.ranks(seen.logits, one.token_id, 1e-6 * size)
        tally.share("followed tokens", outside(one.rank, best, worst), 0.0, 0.0)


def decision(seen: Seen, dtype: torch.dtype, tally: Tally) -> None:
    """The decision of an adaptive sampler: its inputs, those of attention in the model's dtype, and its action."""
    step, decision = seen.step, seen.step.decision
    tally.share("decision", decision is None, seen.knobs.adaptive == "off", 0.0)
    if decision is None:
        return
    quadrant, knobs = seen.decided
    tally.share("decision", (decision.variant, decision.quadrant) == (seen.knobs.adaptive, quadrant), True, 0.0)
    tally.share("decision", decision.action == entropix.action(seen.knobs, quadrant, knobs), True, 0.0)
    for name, value in knobs.items():
        tally.share("decision", float(getattr(decision.knobs, name)), float(value), 1e-9 * max(abs(float(value)), 1))
    for name, value in entropix.thresholds(seen.knobs.adaptive).items():
        tally.share("decision", decision.saw.get(name), value, 1e-9 * max(value, 1.0))
    size, ln_n = math.log(len(seen.logits)), max(math.log(step.position), 1.0)
    expected = {"entropy": (belief.entropy(seen.logp), size), "varentropy": (belief.varentropy(seen.logp), size**2)}
    if seen.rows:
        last = max(seen.rows)
        rows, keys = seen.rows[last], seen.rows[last].shape[1]
        expected |= {
            "attention_entropy": (float(heads.entropies(rows).mean()), ln_n),
            "attention_varentropy": (heads.spread(rows), ln_n**2),
            "agreement": (2 * heads.disagreement(rows) / keys, 2 / keys),
        }
        if last in seen.scores:
            expected["interaction"] = heads.interaction(seen.scores[last]), float(np.abs(seen.scores[last]).max())
    for name, (value, large) in expected.items():
        exactly = name in ("entropy", "varentropy")
        bound = allowed(torch.float32 if exactly else dtype, large)
        tally.share("decision", decision.saw.get(name), value, bound)


def blocks(seen: Seen, dtype: torch.dtype, tally: Tally) -> None:
    assert seen.plainly is not None
    at = seen.step.position - 1
    for block, (mean, deviation, norm) in enumerate(seen.step.blocks.rows()):
        expected = heads.block_stats(seen.plainly.streams[block, at].double().numpy())
        size = max(expected[1], abs(expected[0]))
        tally.share("block statistics", (mean, deviation), expected[:2], allowed(dtype, size))
        tally.share("block statistics", norm, expected[2], allowed(dtype, expected[2]))


def grids(seen: Seen, dtype: torch.dtype, tally: Tally) -> None:
    """Blocks without attention are unknown in every grid."""
    step, ln_n = seen.step, max(math.log(seen.step.position), 1.0)
    entropies, varentropies = step.head_entropy.rows(), step.head_varentropy.rows()
    for block, measures in enumerate(step.attention.rows()):
        if block not in seen.rows:
            unknown = all(math.isnan(value) for value in (*measures, *entropies[block], *varentropies[block]))
            tally.share("head grid", unknown, True, 0.0)
            tally.add("visible keys", float(step.visible_keys[block] is not None), 0.0)
            continue
        rows, scores = seen.rows[block], seen.scores.get(block) if seen.plainly and seen.plainly.scores else None
        tally.share("head grid", entropies[block], heads.entropies(rows), allowed(dtype, ln_n))
        tally.share("head grid", varentropies[block], heads.varentropies(rows), allowed(dtype, ln_n**2))
        tally.share("attention of blocks", measures[0], heads.spread(rows), allowed(dtype, ln_n**2))
        tally.share("attention of blocks", measures[1], heads.disagreement(rows), allowed(dtype, 1))
        if scores is not None:
            bound = allowed(dtype, float(np.abs(scores).max()))
            tally.share("attention of blocks", measures[2], heads.interaction(scores), bound)
        tally.add("visible keys", gap(step.visible_keys[block], rows.shape[1]), 0.0)


def words(loaded: Loaded, text: Text, tally: Tally) -> None:
    """The text of the tokens, one after the other, against all of them decoded at once."""
    prompt = [token.token_id for token in text.started.prompt_tokens]
    written = [step.token_id for step in text.steps]
    decode = loaded.tokenizer.hf_tokenizer.decode
    opening, whole = str(decode(prompt)), str(decode(prompt + written))
    data = b"".join(_bytes(text.steps))
    if whole.startswith(opening) and "\ufffd" not in whole:
        tally.add("text of tokens", float(data.decode("utf-8", "replace") != whole[len(opening) :]), 0.0)
    for n in range(1, len(text.steps) + 1):
        so_far = b"".join(_bytes(text.steps[:n]))
        step_texts = "".join(step.text for step in text.steps[:n])
        tally.add(
            "text of tokens",
            float(not so_far.decode("utf-8", "replace").startswith(step_texts.rstrip("\ufffd"))),
            0.0,
        )


def _bytes(steps: Iterable[Step]) -> list[bytes]:
    return [step.token_bytes for step in steps]


def seconds(text: Text, tally: Tally) -> None:
    """Times: each lies between the sum of its parts and the whole that it is part of."""
    before = all_outside = 0.0
    shares = []
    for seen in text.seen:
        if seen.seconds is None:
            continue
        step, clock = seen.step, seen.seconds
        all_outside += clock.outside
        elapsed = step.forward_seconds + step.sample_seconds
        forward, sampling = (BY_NAME[name].read(step) or math.nan for name in ("forward pass", "sampling"))
        tally.add("seconds, forward pass", outside(forward, clock.model, clock.outside), CLOCK)
        tally.add("seconds, sampling", outside(sampling, CLOCK, clock.outside - clock.model), CLOCK)
        shares.append(sampling / (clock.outside - clock.model))
        tally.add("seconds, time", outside(step.at, before + elapsed, all_outside), CLOCK)
        before = step.at
    if shares:
        tally.add("seconds, sampling", outside(statistics.median(shares), LEAST_SHARE, 1.0), CLOCK)


CLOCK = 1e-6
"""Seconds: a clock's own grain."""
LEAST_SHARE = 0.5
"""Of what a step takes beside the model, how much is sampling at least: the rest is the record that is made of it."""
