"""What differs between the server that wrote a recording and the one that is there to go on with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tui_entropy.core.errors import UserError
from tui_entropy.records.events import Started
from tui_entropy.records.model import ModelCard, ServerCard
from tui_entropy.records.step import NO_ID
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.run import messages_of

DISTRIBUTION = "their distribution"
"""The fact that says whose the log-probabilities are."""


def check(then: ModelCard | None, begun: Iterable[Started], now: ModelCard, server: Kind) -> None:
    """Raise UserError where what is recorded cannot be sent to this server."""
    if then is not None and then.server is None:
        raise UserError(
            f"the recording was made with {then.name} on a machine of its own and not through a server: leave "
            "--server out"
        )
    if then is not None and then.vocab and now.vocab and then.vocab != now.vocab:
        raise UserError(
            f"the recording was made with {then.name}, which has {then.vocab} tokens, and {now.name} of "
            f"{server.title} has {now.vocab}: name the model that it was made with, by --server-model"
        )
    unnamed = any(token.token_id == NO_ID for started in begun for token in started.prompt_tokens)
    if server.takes_ids and unnamed:
        raise UserError(
            f"the recording has no token ids, and {server.title} is asked with them: --server-kind openai asks it "
            "with text"
        )


def of_server(then: ModelCard | None, begun: Iterable[Started], now: ModelCard, server: Kind) -> Iterator[str]:
    """Half a sentence for each way in which server or model differ. Raises UserError where it does not answer."""
    if then is None or then.server is None or now.server is None:
        yield "nobody said which server it was"
        return
    if then.server.name != now.server.name:
        yield f"it was written by {then.server.name} and this is {now.server.name}"
    if then.requested != now.requested:
        yield f"its model was {then.requested} and is {now.requested}"
    was, is_now = _distribution(then.server), _distribution(now.server)
    if was and is_now and was != is_now:
        yield f"its log-probabilities were {was} and are {is_now}"
    first = next(iter(begun), None)
    if first is not None and server.takes_ids and not _has_same_tokens(first, server):
        yield "its first prompt has other tokens here, so that ids may stand for another text"


def _distribution(card: ServerCard) -> str:
    """'raw' or 'processed'; empty where that is not known."""
    found = next((fact.value for fact in card.facts if fact.name == DISTRIBUTION), "")
    return "" if found.startswith("not known") else found.partition(":")[0]


def _has_same_tokens(started: Started, server: Kind) -> bool:
    """What a prompt is made of is asked for again, where that can be asked as it was then."""
    messages = messages_of(started.prompt, started.system) if started.chat else ()
    if started.n_given or (started.chat and not messages):
        return True
    there = server.encode_chat(messages) if started.chat else server.encode(started.prompt)
    return [one.token_id for one in there] == [one.token_id for one in started.prompt_tokens]
