"""The scores of a prompt that is written on from, where the server tells any."""

from __future__ import annotations

from collections.abc import Callable

from tui_entropy.core.errors import UserError
from tui_entropy.records.events import Event, PromptScores, Refused, Started
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.steps import SCORED, prompt_scores


def tell_scores(server: Kind, started: Started, vocab: int, emit: Callable[[Event], None]) -> None:
    """Tell of the tokens of the prompt, or why not. vocab: 0 where it is not known."""
    try:
        told = server.prompt_scores([one.token_id for one in started.prompt_tokens])
    except UserError as refused:
        emit(Refused(f"the prompt is not scored: {refused}", notice=True))
        return
    if told is not None and len(told) > 1:
        emit(PromptScores(started.run, 1, prompt_scores(told[1:], vocab, server.n_logprobs), SCORED))
