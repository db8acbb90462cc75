"""This lane against its shadow, which was given the same tokens."""

from __future__ import annotations

from tui_entropy.metrics.metric import LN2, Metric
from tui_entropy.metrics.readers import of_shadow

COMPARISON = (
    Metric(
        "kl", "information", "model", 2 * LN2,
        "KL divergence of this lane from its shadow, which was given the same tokens: what the vectors, or the other "
        "prompt, changed in the belief about this token. 0 is one mind; high does not mean that the token changed.",
        read=of_shadow(lambda step, shadow: shadow.kl),
    ),
    Metric(
        "entropy change", "information", "model", 2 * LN2,
        "Entropy of this lane minus that of its shadow. Below 0 what tells the two apart made the model surer; near "
        "0 the two may still be sure of different tokens, which the KL shows.",
        read=of_shadow(lambda step, shadow: step.entropy - shadow.entropy),
    ),
    Metric(
        "surprisal change", "information", "model", 4 * LN2,
        "Surprisal of the written token in this lane minus that in its shadow. Far below 0 the token is here because "
        "of what tells the two apart; it says nothing of the tokens that were not written.",
        read=of_shadow(lambda step, shadow: step.surprisal - shadow.surprisal),
    ),
    Metric(
        "flip", "count", "model", 1.0,
        "1 where the most probable token of the shadow is another one than this lane's, 0 where it is the same. With "
        "greedy sampling only these change the text; a flip between two near ties says little.",
        read=lambda step: float(step.shadow.top_id != step.candidates[0].token_id) if step.shadow and step.candidates
        else None,
    ),
    Metric(
        "by lane", "count", "final", 1.0,
        "1 where the shadow, with the same luck, would have written another token, so that this one is here only "
        "because of what tells the lanes apart. 0 where it would have written the same, however differently sure.",
        read=of_shadow(lambda step, shadow: float(shadow.would_id != step.token_id)),
    ),
)  # fmt: skip
