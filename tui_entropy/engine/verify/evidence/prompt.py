"""The scores of a prompt and its perplexity, against a plain pass over it."""

from __future__ import annotations

import numpy as np
import torch

from tui_entropy.engine.verify.evidence.compare import EAGER_PASS, UNITS, Tally, allowed, gap, outside
from tui_entropy.engine.verify.evidence.written import Text
from tui_entropy.engine.verify.second import belief, history
from tui_entropy.metrics.registry import METRICS
from tui_entropy.state.session_view import SessionView

SCORED = tuple(metric for metric in METRICS if metric.on_prompt)


def compare_prompt(text: Text, dtype: torch.dtype, tally: Tally) -> None:
    """Every score of every token of the prompt: what the model thought at the position before it."""
    assert text.plainly is not None
    against = "of each token of the prompt, against float64 of a plain pass, at the position before it"
    for metric in SCORED:
        unit, _ = UNITS.get(metric.kind, (metric.kind, 0))
        tally.row(f"prompt {metric.name}", "logits", against, unit, [f"prompt.{metric.field}"])
    tally.row("prompt perplexity", "logits", "of the log, against the plain pass", "number", ["prompt.perplexity"])
    tally.rests_on |= dict.fromkeys(
        [*(f"prompt {metric.name}" for metric in SCORED), "prompt perplexity"], EAGER_PASS
    )
    ids = [token.token_id for token in text.started.prompt_tokens]
    log, surprisals = SessionView(), []
    log.append(text.started)
    for scores in text.prompt_scores:
        log.append(scores)
    columns = {name: list(column) for name, column in log.prompt_scores.items()}
    for at, token in enumerate(ids[1:], 1):
        logits = text.plainly.logits[at - 1].double().numpy()
        size = float(np.abs(logits).max())
        surprisals.append(-float(belief.log_softmax(logits)[token]))
        at_hand = belief.Belief(logits, token, 2 * allowed(dtype, size))
        for metric in SCORED:
            assert metric.check is not None
            least, most, large = metric.check(at_hand)
            found = columns[metric.field][at]
            row = f"prompt {metric.name}"
            if least is None or most is None:
                tally.add(row, gap(found, None), 0.0)
            else:
                tally.add(row, outside(found, least, most), allowed(dtype, large))
    perplexity = history.perplexity(surprisals)
    tally.add("prompt perplexity", gap(log.prompt_perplexity, perplexity), allowed(dtype, 32) * perplexity)
