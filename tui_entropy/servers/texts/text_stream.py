"""TextStream: what a server says of each token of a text that is there already, in their order.

A server that scores prompts is sent the text in stretches, each with all that stands before it and so twice as long
as the one before: the first comes soon, and all of them together cost no more than twice the whole. Any other that
takes ids is asked at each token for one further token. What it would have written is passed over, and what it says of
the tokens that could come there is known.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import PromptToken
from tui_entropy.servers.kinds.kind import Context, Kind
from tui_entropy.servers.streams.told_token import ToldToken
from tui_entropy.servers.token_stream import Arrival, TokenStream
from tui_entropy.servers.tokens import TokenNames

FIRST_STRETCH = 256
"""Tokens that are scored first, with what stands before them."""
NO_KNOB = Knobs(temperature=1.0, top_k=0, top_p=1.0)
"""Where log-probabilities are those after the knobs, these leave them as the model has them."""
TOLD_EVERY = 64
"""Tokens after which it is told how much of a text is read."""
READ = "read"
"""Why a stream ends: all is told."""


class TextStream(TokenStream):
    """It begins to ask at once."""

    def __init__(self, server: Kind, names: TokenNames, before: Sequence[int], given: Sequence[PromptToken]) -> None:
        """before: ids of what stands before the tokens of the text that are wanted."""
        self._names, self._before, self._given = names, tuple(before), tuple(given)
        super().__init__(server, ("", {}))

    def _tokens(self) -> str:
        for told in self._told():
            if not self._put(Arrival(told, time.monotonic())):
                break
        return READ

    def _told(self) -> Iterator[ToldToken]:
        ids = (*self._before, *(token.token_id for token in self._given))
        done = len(self._before)
        while done < len(ids):
            end = min(max(2 * done, FIRST_STRETCH), len(ids))
            scored = self._server.prompt_scores(ids[:end])
            if scored is None:
                break
            self._names.learn(*scored[done:])
            for told in scored[done:]:
                yield self._placed(told, done)
                done += 1
        for place in range(done, len(ids)):
            yield self._placed(told_at(self._server, ids[:place], ids[place]), place)

    def _placed(self, told: ToldToken, place: int) -> ToldToken:
        """With the name that the token has in the text."""
        token = self._given[place - len(self._before)]
        held = None if self._server.names_by_id else token.token_bytes
        return replace(told, token_id=token.token_id, token_bytes=held, text=token.text)


def told_at(server: Kind, before: Sequence[int], token_id: int) -> ToldToken:
    """What the server says of a token behind these, and of the most probable ones there: it is asked once more for
    all of its vocabulary where the token is not among those that are asked for. Raises UserError."""
    told = _next_token(server, before, server.n_logprobs)
    logprob = _logprob(told, token_id)
    if logprob is None and server.tells_all and server.n_logprobs < server.vocab:
        logprob = _logprob(_next_token(server, before, server.vocab), token_id)
    return replace(told, logprob=logprob)


def _next_token(server: Kind, before: Sequence[int], n_logprobs: int) -> ToldToken:
    path, body = server.request(Context(ids=tuple(before)), NO_KNOB, 1, n_logprobs)
    return next(iter(server.whole(path, body).tokens), ToldToken())


def _logprob(told: ToldToken, token_id: int) -> float | None:
    return next((one.logprob for one in told.alternatives if one.token_id == token_id), None)
