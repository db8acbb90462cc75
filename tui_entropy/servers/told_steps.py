"""ToldSteps: what a server told of the next token, as the step that is written: drawn here, forced, or as it came."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from tui_entropy.records.events import Event, Refused
from tui_entropy.records.model import ModelCard
from tui_entropy.records.source import OwnDraw
from tui_entropy.records.step import Step
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.run import ServerRun
from tui_entropy.servers.streams.told_token import ToldToken
from tui_entropy.servers.token_stream import Arrival
from tui_entropy.servers.tokens import TokenNames


class ToldSteps:
    """Of one session."""

    def __init__(
        self,
        server: Kind,
        card: ModelCard,
        names: TokenNames,
        emit: Callable[[Event], None],
        own_draw: Callable[..., OwnDraw] | None,
    ) -> None:
        """own_draw: as of engine/decoding/own_draw.py; None where the server draws."""
        self._server, self._card, self._names, self._emit = server, card, names, emit
        self.own_draw = own_draw
        self._complained = False

    def step(self, run: ServerRun, arrival: Arrival, seconds: float) -> tuple[Step, bool]:
        """seconds: since the token before. Returns also whether it is another token than the server may have gone on
        from."""
        told = arrival.token
        self._names.learn(told)
        own = None if self.own_draw is None or run.given else self._drawn(run, told)
        if own is not None:
            told = self._as_written(run, told, own.token_id)
        elif run.forced:
            told = self._as_written(run, told, run.forced[0])
        inside = {} if arrival.inside is None else arrival.inside.fields(told.token_id, self._names)
        step = run.maker.step(
            told, run.number, len(run.steps), run.knobs.n_candidates, seconds, run.at + seconds, bool(run.forced),
            own, inside,
        )  # fmt: skip
        self._complain(told, step)
        return step, own is not None or bool(run.forced or run.banned)

    def _drawn(self, run: ServerRun, told: ToldToken) -> OwnDraw | None:
        """A token of the whole distribution; None where it was not told."""
        import numpy as np

        ids = [one.token_id for one in told.alternatives if one.token_id is not None]
        if self.own_draw is None or len(ids) < self._card.vocab:
            return None
        logprobs = np.full(self._card.vocab, -np.inf, np.float32)
        logprobs[ids] = [one.logprob for one in told.alternatives]
        context = run.context().ids
        n_prompt = len(run.started.prompt_tokens)
        shown = ids[: run.knobs.n_candidates]
        forced = run.forced[0] if run.forced else None
        return self.own_draw(logprobs, run.knobs, context[:n_prompt], context[n_prompt:], shown, run.banned, forced)

    def _as_written(self, run: ServerRun, told: ToldToken, token_id: int) -> ToldToken:
        """This token where the server would have written another one: what it believed is the same."""
        one = next((one for one in told.alternatives if self._names.of_alternative(one).token_id == token_id), None)
        if one is None:
            self._names.learn(ToldToken(token_id))
            held, logprob = self._names.token_bytes(token_id), None
        else:
            held, logprob = self._names.of_alternative(one).token_bytes, one.logprob
        told_id = token_id if self._server.takes_ids else None
        return replace(told, token_id=told_id, token_bytes=held, text=run.text_of(held), logprob=logprob)

    def _complain(self, told: ToldToken, step: Step) -> None:
        """Of numbers that can be no log-probabilities, once."""
        if self._complained or len(told.alternatives) < 2 or step.bounds or step.numbers[0] is not None:
            return
        self._complained = True
        self._emit(
            Refused(
                "what this server tells as log-probabilities is none: together they are more than 1, so no number is "
                "made of them (`tui-entropy doctor --server` says more)",
                notice=True,
            )
        )
