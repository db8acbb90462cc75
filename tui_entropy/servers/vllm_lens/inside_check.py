"""What doctor says of the inside that a server tells: how late it comes, and whether its last layer is the model."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

from tui_entropy.core.errors import UserError
from tui_entropy.records.model import ModelCard
from tui_entropy.records.sampling import Knobs
from tui_entropy.servers.kinds.kind import Context, Kind
from tui_entropy.servers.token_stream import StreamEnd
from tui_entropy.servers.tokens import TokenNames
from tui_entropy.servers.vllm_lens.inside import Inside

N_TOKENS = 16
SAME = 0.02
"""By which a probability of the last lens row may differ from the one that was told: half precision rounds."""


def inside_check(server: Kind, card: ModelCard, ids: Sequence[int]) -> tuple[bool, str]:
    """Write a few greedy tokens. Returns whether all is as it should be, and a sentence."""
    assert server.inside is not None
    inside, knobs = Inside(server, server.inside, card, None), Knobs(temperature=0.0, lens=server.inside.n_layers)
    request = server.request(Context(ids=tuple(ids)), knobs, N_TOKENS, server.n_logprobs)
    stream = inside.stream(request, ids, len(ids), N_TOKENS, knobs, [(0, ())])
    late: list[float] = []
    n_same = n_tokens = 0
    try:
        while n_tokens < N_TOKENS and not isinstance(found := stream.next(server.spec.timeout), StreamEnd | None):
            n_tokens += 1
            if found.inside is not None:
                late.append(1e3 * (time.monotonic() - found.at))
                rows = found.inside.fields(found.token.token_id, TokenNames())["lens_rows"]
                top = found.token.alternatives[:1]
                n_same += bool(rows and top and abs(rows[-1].p - math.exp(top[0].logprob)) <= SAME)
        trouble = stream.trouble
    except UserError as failure:
        return False, str(failure)
    finally:
        stream.close()
        inside.close()
    if not late:
        return False, trouble or "the server wrote no token"
    said = f"{statistics.median(late):.0f} ms behind the token, {max(late):.0f} at most"
    if server.inside.norm and server.n_logprobs > 1:
        said += f"; the last layer says what the server told at {n_same} of {len(late)}"
        trouble = trouble or ("" if n_same == len(late) else "they differ")
    if len(late) < n_tokens:
        said += f"; {n_tokens - len(late)} of {n_tokens} tokens had none in time"
    return not trouble, said
