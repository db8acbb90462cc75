"""The answer of the probe `lens` that a step carries with it, where the lens was left on while it was written."""

from __future__ import annotations

from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Column, Table, Tokens
from tui_entropy.records.step import Step

LENS = "lens"


def recorded_lens(step: Step) -> ProbeAnswer | None:
    """What each layer would have said where a step was chosen, the last layer first; None where the lens was off."""
    if not step.lens_rows:
        return None
    columns = (
        Column("layer"), Column("most probable"), Column("its p", "share"), Column("entropy", "nats"),
        Column("KL from last", "nats"), Column("rank of the written one"),
    )  # fmt: skip
    rows = tuple(
        (str(row.layer), Tokens((row.token_id,), row.token_bytes), row.p, row.entropy, row.kl, row.rank or None)
        for row in reversed(step.lens_rows)
    )
    table = Table("what each layer would have said, read while it was written", columns, rows)
    return ProbeAnswer(LENS, step.run, step.position, panels=(table,))
