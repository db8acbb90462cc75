"""Every probe of a server, how each is described to a screen, and its answer."""

from __future__ import annotations

from time import perf_counter

from msgspec import to_builtins

from tui_entropy.core.errors import UserError
from tui_entropy.records.probes.answering import ProbeCancelled, Progress, Unavailable, described, read_options
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeInfo
from tui_entropy.servers.probes import continuations
from tui_entropy.servers.probes.probe import ProbePlace, ServerProbe
from tui_entropy.servers.session import ServerSession

PROBES = (continuations.PROBE,)
BY_NAME = {probe.name: probe for probe in PROBES}


def infos() -> tuple[ProbeInfo, ...]:
    return tuple(
        ProbeInfo(one.name, one.about, one.needs, described(one.options), one.trust, one.page) for one in PROBES
    )


def probe_of(name: str) -> ServerProbe:
    """Raises UserError for one that a server has no answer to."""
    if name not in BY_NAME:
        known = ", ".join(BY_NAME)
        raise UserError(
            f"{name} looks into a model, and a server tells nothing of its inside: it can be asked for {known}, and "
            "a model that is loaded here for all others"
        )
    return BY_NAME[name]


def answer(session: ServerSession, ask: AskProbe, progress: Progress = lambda done, total: None) -> ProbeAnswer:
    """Look at a token of a run, whose text stays as it is. Raises UserError for a probe, a run, a position or an
    option that there is not, and for what the server refuses."""
    probe, run = probe_of(ask.name), session.run_of(ask.run)
    options = read_options(probe.name, probe.options, ask.options)
    n = len(run.started.prompt_tokens) + len(run.steps)
    if not 1 <= ask.position <= n:
        raise UserError(
            f"run {ask.run} has no token at position {ask.position} that something was written before: take one from "
            f"1 to {n}"
        )
    began, why = perf_counter(), None
    try:
        panels = tuple(probe.compute(ProbePlace(session, run, ask.position, progress), options))
    except Unavailable as reason:
        panels, why = (), str(reason)
    except ProbeCancelled:
        return ProbeAnswer(ask.name, ask.run, ask.position, ask.options, unavailable="given up", record=False)
    known = to_builtins(options)
    return ProbeAnswer(ask.name, ask.run, ask.position, known, panels, why, perf_counter() - began, ask.record)
