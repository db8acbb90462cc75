"""How a run without a screen ends: in its record where it did not come to its end, and what a text comes to."""

from __future__ import annotations

import math
import traceback

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import PipeClosed
from tui_entropy.metrics.registry import BY_NAME as METRIC
from tui_entropy.records.events import Ended, Failed
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.state.session_view import SessionView


def ended_by(run: int, error: BaseException) -> Ended | Failed:
    """The event that the record ends with for a run that did not come to its end."""
    match error:
        case KeyboardInterrupt():
            return Ended(run, "stopped by ctrl-C")
        case PipeClosed():
            return Ended(run, "stopped, since nobody reads stdout any more")
        case UserError():
            return Ended(run, str(error))
        case _:
            return Failed(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def tell_answered(narrator: Narrator, found: ProbeAnswer | None, recording: str | None) -> None:
    """How long an answer took, where there is one, and where it is recorded, if anywhere."""
    if found and not found.unavailable:
        narrator.done(f"{found.name} took {found.seconds:.2f} s")
    if recording:
        narrator.done(f"recorded in {recording}")


def text_summary(log: SessionView) -> str:
    """What a text that was read comes to."""
    n, n_bytes = len(log.steps), len("".join(log.steps.texts).encode())
    known = [nats for nats in log.steps.values(METRIC["surprisal"]) if nats is not None]
    if len(known) < n:
        return f"{n} tokens after the first · the surprisal of {n - len(known)} of them is unknown"
    nats = sum(known)
    bits = nats / math.log(2)
    return (
        f"{n} tokens after the first · perplexity {math.exp(min(nats / n, 700)):.4g} · {bits / n:.4g} bits a token · "
        f"{bits / max(n_bytes, 1):.4g} bits a byte"
    )
