"""MeasuredStream: a stream of tokens, each with what the model's inside was when it was chosen."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tui_entropy.servers.kinds.kind import Kind, Request
from tui_entropy.servers.token_stream import Arrival, StreamEnd, TokenStream
from tui_entropy.servers.vllm_lens.hook_plan import Measured, Pushes
from tui_entropy.servers.vllm_lens.numbers_poll import NumbersPoll
from tui_entropy.servers.vllm_lens.told_numbers import ToldNumbers

LATE_S = 0.15
"""Seconds for which a token that has come is held back until its numbers have."""


class MeasuredStream(TokenStream):
    """Numbers belong to a token only where they are of the position before it, and of the very token that stands
    there; else it has none, and is counted."""

    def __init__(
        self, server: Kind, request: Request, ids: Sequence[int], stream: str, measured: Measured, pushes: Pushes
    ) -> None:
        """ids: all that is sent. stream: by which the numbers are known."""
        super().__init__(server, request)
        self.poll = NumbersPoll(server.client, stream, measured)
        self._pushes = pushes
        self._position, self._token_id = len(ids) - 1, ids[-1]
        """Of the token that is read for the next one."""
        self.n_told = self.n_missing = 0
        """Tokens with numbers and without."""

    @property
    def trouble(self) -> str:
        """Why tokens have no numbers; empty where all of them have."""
        if not self.n_missing:
            return ""
        n = self.n_told + self.n_missing
        why = self.poll.error or (
            f"{self.poll.n_odd} entries were no numbers" if self.poll.n_odd else f"later than {LATE_S * 1000:.0f} ms"
        )
        return f"{self.n_missing} of {n} tokens have no numbers of the model's inside: {why}"

    def next(self, patience: float) -> Arrival | StreamEnd | None:
        arrival = super().next(patience)
        if not isinstance(arrival, Arrival):
            return arrival
        told = self.poll.numbers(self._position, arrival.at + LATE_S)
        if told is not None and told.token_id != self._token_id:
            told = None
        if wrong := self._wrongly_steered(told):
            return StreamEnd("", wrong)
        self._position += 1
        self._token_id = -1 if arrival.token.token_id is None else arrival.token.token_id
        self.n_told, self.n_missing = self.n_told + (told is not None), self.n_missing + (told is None)
        return replace(arrival, inside=told)

    def _wrongly_steered(self, told: ToldNumbers | None) -> str:
        """What must not go by unseen: a text that is not steered as it was asked for."""
        wanted = self._pushes.n_blocks_at(self._position)
        if wanted and self.poll.error:
            return f"whether the server steers is not known ({self.poll.error}): turn the vectors off"
        if told is None or told.n_pushed == wanted:
            return ""
        return f"the server steered {told.n_pushed} blocks where {wanted} were asked for: turn the vectors off"

    def close(self) -> None:
        self.poll.close()
        super().close()
