"""The scores of a prompt and its perplexity, against a plain pass over it."""

from __future__ import annotations

import math

import numpy as np
import torch

from tui_entropy.engine.verify.evidence.compare import EAGER_PASS, Tally, allowed, gap, outside
from tui_entropy.engine.verify.evidence.written import Text
from tui_entropy.engine.verify.second import belief, history
from tui_entropy.records.step import SCORES
from tui_entropy.state.session_view import SessionView

UNITS = {"varentropy": "nats²", "rank": "places", "logit_margin": "logits", "prob_margin": "share"}


def tell_prompt(text: Text, dtype: torch.dtype, tally: Tally) -> None:
    """Every score of every token of the prompt: what the model thought at the position before it."""
    assert text.plainly is not None
    for name in SCORES:
        against = "of each token of the prompt, against float64 of a plain pass, at the position before it"
        tally.row(f"prompt {name.replace('_', ' ')}", "logits", against, UNITS.get(name, "nats"), [f"prompt.{name}"])
    tally.row("prompt perplexity", "logits", "of the log, against the plain pass", "number", ["prompt.perplexity"])
    tally.rests_on |= dict.fromkeys(
        [*(f"prompt {name.replace('_', ' ')}" for name in SCORES), "prompt perplexity"], EAGER_PASS
    )
    ids = [piece.token_id for piece in text.started.pieces]
    log, surprisals = SessionView(), []
    log.append(text.started)
    for scores in text.prompt_scores:
        log.append(scores)
    columns = {name: list(column) for name, column in log.prompt_scores.items()}
    for at, token in enumerate(ids[1:], 1):
        logits = text.plainly.logits[at - 1].double().numpy()
        logp, size = belief.log_softmax(logits), float(np.abs(logits).max())
        ln_vocab, nats = math.log(len(logits)), -float(logp[token])
        surprisals.append(nats)
        best, worst = belief.ranks(logits, token, 2 * allowed(dtype, size))
        wanted = {
            "entropy": (belief.entropy(logp), ln_vocab),
            "varentropy": (belief.varentropy(logp), ln_vocab**2),
            "surprisal": (nats, size),
            "logit_margin": (belief.logit_margin(logits), size),
            "prob_margin": (belief.prob_margin(logp), 1.0),
            "uniform_kl": (ln_vocab - belief.entropy(logp), ln_vocab),
        }
        for name, (value, large) in wanted.items():
            tally.add(f"prompt {name.replace('_', ' ')}", gap(columns[name][at], value), allowed(dtype, large))
        tally.add("prompt rank", outside(columns["rank"][at], best, worst), 0.0)
    perplexity = history.perplexity(surprisals)
    tally.add("prompt perplexity", gap(log.prompt_perplexity, perplexity), allowed(dtype, 32) * perplexity)
