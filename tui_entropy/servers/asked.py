"""Asked: what is wanted of a server behind so many steps of a run, and the stream that answers."""

from __future__ import annotations

from typing import NamedTuple

from tui_entropy.records.sampling import Knobs
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.run import ServerRun
from tui_entropy.servers.token_stream import TokenStream
from tui_entropy.servers.vllm_lens.inside import Inside
from tui_entropy.servers.vllm_lens.steering import Change


class Asked(NamedTuple):
    knobs: Knobs
    n_tokens: int
    n_logprobs: int
    """Alternatives told at each."""
    banned: tuple[int, ...] = ()


def stream_of(
    server: Kind, inside: Inside | None, run: ServerRun, n_steps: int, asked: Asked, changes: list[Change]
) -> TokenStream:
    """inside: of a server whose model's inside is told. changes: the vectors that act."""
    context, n_prompt = run.context(n_steps), len(run.started.prompt_tokens)
    request = server.request(context, asked.knobs, asked.n_tokens, asked.n_logprobs, asked.banned)
    if inside is None:
        return TokenStream(server, request)
    return inside.stream(request, context.ids, n_prompt, asked.n_tokens, run.knobs, changes)
