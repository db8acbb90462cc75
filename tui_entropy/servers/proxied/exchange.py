"""Exchange: a request of an application and its answer, as a run that is told while the bytes pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from tui_entropy.records.commands import ANSWER_ENDED, Relayed
from tui_entropy.records.events import Ended, Event, Started
from tui_entropy.records.model import ModelCard
from tui_entropy.servers.proxied.answered import AnswerReader
from tui_entropy.servers.proxied.asked import asked
from tui_entropy.servers.steps import StepMaker
from tui_entropy.servers.streams.alignment import TokenAligner
from tui_entropy.servers.streams.told_token import Chunk
from tui_entropy.servers.token_stream import ENDS
from tui_entropy.servers.tokens import TokenNames

MOST_CANDIDATES = 200
EARLY = "the stream ended early: no word that the text is over came"


class Exchange:
    """One run. It may end after others that began later: each has parts of its own."""

    def __init__(
        self, run: int, first: Relayed, card: ModelCard, names: TokenNames, emit: Callable[[Event], None]
    ) -> None:
        """first: what is told when the request comes."""
        wanted = asked(first.body)
        self.n_written = 0
        self.name = " ".join(filter(None, (kind_of(first.route), wanted.model)))
        """What is asked for, and of which model."""
        self._run, self._emit = run, emit
        self._n_answers, self._n_logprobs = wanted.n_answers, wanted.n_logprobs
        self._began = self._newest = first.at
        server = None if card.server is None else replace(card.server, n_logprobs=wanted.n_logprobs)
        self._maker = StepMaker(replace(card, server=server), names, len(wanted.tokens))
        self._aligner = TokenAligner()
        self._answer: AnswerReader | None = None
        self._finish, self._error = "", ""
        emit(
            Started(
                run, wanted.prompt, wanted.system, wanted.chat, wanted.tokens, wanted.knobs, (), wanted.max_tokens,
                request=first.request, given_knobs=wanted.given_knobs,
            )
        )  # fmt: skip

    def take(self, part: Relayed) -> bool:
        """What passed next. Whether that was all."""
        if self._answer is None and part.status:
            self._answer = AnswerReader(part.status, part.content_type, part.encoding, self._n_answers)
        if self._answer is not None:
            self._tell(self._answer.take(part.data), part.at)
        if part.ended:
            self.end(part.ended, part.at, part.broken)
        return bool(part.ended)

    def end(self, why: str, at: float, broken: bool = False) -> None:
        """No more comes. why: where the answer does not say itself how it ended. broken: as in Relayed."""
        if self._answer is not None:
            self._tell(self._answer.finish(), at)
        said = self._error or ENDS.get(self._finish, self._finish)
        early = not said and why == ANSWER_ENDED and self._answer is not None and self._answer.lacks_its_end
        reason = said or (EARLY if early else why)
        self._emit(Ended(self._run, reason, failed=bool(self._error) or broken or early))

    def _tell(self, chunks: Iterable[Chunk], at: float) -> None:
        for chunk in chunks:
            self._finish, self._error = chunk.finish or self._finish, chunk.error or self._error
            for token in self._aligner.take(chunk):
                step = self._maker.step(
                    token, self._run, self.n_written, min(self._n_logprobs, MOST_CANDIDATES),
                    max(at - self._newest, 0.0), max(at - self._began, 0.0),
                )  # fmt: skip
                self._maker.count(step)
                self.n_written, self._newest = self.n_written + 1, at
                self._emit(step)


def kind_of(route: str) -> str:
    """What a route is for, in a word: 'chat', 'completions', 'embeddings'."""
    parts = route.strip("/").removeprefix("v1/").split("/")
    return parts[-2] if len(parts) > 1 and parts[-1] == "completions" else parts[-1]
