"""ToldToken: what a server told of one token that it wrote. Chunk: what one event of its stream holds."""

from __future__ import annotations

from msgspec import Struct


class Alternative(Struct, frozen=True):
    """A token that could have been written, as a server names it."""

    logprob: float
    """Nats; of the distribution that this server means, which it need not say."""
    token_id: int | None = None
    text: str = ""
    token_bytes: bytes | None = None
    """None where the server gives none that can be trusted."""


class ToldToken(Struct, frozen=True):
    """A token that was written. What the server did not say is None or empty."""

    token_id: int | None = None
    text: str = ""
    token_bytes: bytes | None = None
    logprob: float | None = None
    """Nats. None where it is not given, or is no number."""
    alternatives: tuple[Alternative, ...] = ()
    """The most probable first, each token once; the written one may be among them."""

    @property
    def is_told(self) -> bool:
        """Something is known of it beside that it is there."""
        return self.logprob is not None or bool(self.alternatives)


class Chunk(Struct, frozen=True):
    """One event of a stream."""

    tokens: tuple[ToldToken, ...] = ()
    """Those that it has log-probabilities of, in their order."""
    text: str = ""
    """What it adds to the text."""
    token_ids: tuple[int, ...] | None = None
    """Ids of all tokens that it adds; None where the server tells none."""
    prompt_ids: tuple[int, ...] | None = None
    finish: str = ""
    """Why the text ends with it, in the server's word; empty while it goes on."""
    n_tokens: int | None = None
    """Tokens written so far, where the server counts them."""
    error: str = ""
    """What went wrong at the server in the midst of a stream."""
    is_done: bool = False
    """The server said that no further event comes."""
