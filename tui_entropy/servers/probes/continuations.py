"""Several short continuations of one text: as many requests with the tokens before, some of them at a time."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.probes.answering import Progress, Unavailable
from tui_entropy.records.probes.continuations import (
    ABOUT,
    CONTINUATIONS,
    ContinuationOptions,
    Draw,
    SampledContinuations,
)
from tui_entropy.records.probes.panels import Panel
from tui_entropy.servers.asked import Asked, stream_of
from tui_entropy.servers.probes.probe import ProbePlace, ServerProbe
from tui_entropy.servers.run import changed
from tui_entropy.servers.steps import known
from tui_entropy.servers.streams.told_token import ToldToken
from tui_entropy.servers.token_stream import ENDS, Arrival, StreamEnd, TokenStream
from tui_entropy.servers.vllm_lens.steering import steers

AT_ONCE = 8
"""Requests that are open at a time: servers batch them, and have queues."""
PATIENCE_S = 0.01
"""Seconds until it is looked again where nothing has come."""
N_LOGPROBS = 2
"""Alternatives that are asked for: beside a second one it shows where what is told is no log-probability."""


@dataclass
class Written:
    """What one request came to."""

    tokens: list[ToldToken]
    finish: str = ""
    """Why it ended, in the server's word; empty while it goes on."""


def compute(at: ProbePlace, options: ContinuationOptions) -> Sequence[Panel]:
    """Continuations from before the token, under the knobs of now. Row n has the seed that the run has there, and n
    more. What is forced or banned at the next token alone is passed over."""
    session, step = at.session, at.step
    if session.told_steps.own_draw is not None:
        raise Unavailable(
            "with --server-sampler own each token is drawn here, from a request of its own: leave that option out to "
            "have the server continue"
        )
    n_left = session.card.context - at.position if session.card.context else options.tokens
    if n_left < 1:
        raise Unavailable(f"the server reads {session.card.context} tokens at most, and they are full there")
    length, n_logprobs = min(options.tokens, n_left), min(session.server.n_logprobs, N_LOGPROBS)
    changes = changed(at.run.changes, step, session.vectors)

    inside = session.inside if any(steers(vectors) for _, vectors in changes) else None

    def opened(nth: int) -> TokenStream:
        knobs = replace(session.knobs, seed=session.knobs.seed + step + nth)
        return stream_of(session.server, inside, at.run, step, Asked(knobs, length, n_logprobs), changes)

    draws = [_draw(at, one, n_logprobs) for one in written(opened, options.n, length, at.progress)]
    return SampledContinuations.grouped(options, draws).panels


def _draw(at: ProbePlace, one: Written, n_logprobs: int) -> Draw:
    names = at.session.names
    logprob = 0.0
    for token in one.tokens:
        surprisal = known(token, at.session.card.vocab, n_logprobs)[0].get("surprisal")
        logprob -= math.nan if surprisal is None else surprisal
    text = "".join(token.text for token in one.tokens)
    ids = tuple(names.of(token).token_id for token in one.tokens)
    return Draw(text, ids, logprob, ENDS.get(one.finish) == ENDS["stop"])


def written(opened: Callable[[int], TokenStream], n: int, length: int, progress: Progress) -> list[Written]:
    """What each of n requests comes to, AT_ONCE of them at a time. opened: sends one of them. length: tokens that are
    asked for with each. progress: whatever it raises ends all of them. Raises UserError where one of them fails."""
    found = [Written([]) for _ in range(n)]
    waiting, streams = deque(range(n)), dict[int, TokenStream]()
    try:
        while waiting or streams:
            while waiting and len(streams) < AT_ONCE:
                nth = waiting.popleft()
                streams[nth] = opened(nth)
            came = [_take(found[nth], streams[nth]) for nth in streams]
            streams = {nth: stream for nth, stream in streams.items() if not found[nth].finish}
            progress(sum(length if one.finish else len(one.tokens) for one in found), len(found) * length)
            if not any(came):
                time.sleep(PATIENCE_S)
    finally:
        for stream in streams.values():
            stream.close()
    return found


def _take(one: Written, stream: TokenStream) -> bool:
    """What has come of it by now; whether anything has."""
    match stream.next(0):
        case Arrival(token=token):
            one.tokens.append(token)
        case StreamEnd(error="") as end:
            one.finish = end.finish
        case StreamEnd() as end:
            raise UserError(end.error)
        case None:
            return False
    return True


PROBE = ServerProbe(
    CONTINUATIONS,
    ABOUT,
    "a request for each of them, with the tokens before",
    ContinuationOptions,
    compute,
    page="fan",
)
