"""Kind: how a kind of server is asked. The base is any OpenAI-compatible one, which names tokens by their texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Message
from tui_entropy.records.knobs import KNOBS
from tui_entropy.records.model import ServerFact, ServerSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import NO_ID, PromptToken
from tui_entropy.servers.http.client import HttpClient, ServerRefused
from tui_entropy.servers.streams.band import MOST_VOCAB
from tui_entropy.servers.streams.chunks import chunk_of, chunk_of_object
from tui_entropy.servers.streams.told_token import Chunk, ToldToken
from tui_entropy.servers.vllm_lens.hook_plan import ModelInside
from tui_entropy.stages.registry import STAGE_KNOBS
from tui_entropy.stages.stage import GREEDY_BELOW

Request = tuple[str, dict[str, Any]]
"""Path and body."""
AMOUNTS = (100, 20, 5, 1)
"""How many log-probabilities are asked for, the first that is not refused: 100 cost a server next to nothing."""
DRAWN = ("seed", "banned", "order")
"""Knobs of a draw beside those of the stages."""
OURS = frozenset({"n_candidates"})
"""Knobs that a server has no part in."""


class Context(NamedTuple):
    """What is written on."""

    ids: tuple[int, ...] = ()
    """Of all tokens so far, for a server that takes ids."""
    text: str = ""
    """All of it, for one that does not."""
    messages: tuple[Message, ...] = ()
    """Of a conversation, for one that is asked with messages."""


class Named(NamedTuple):
    """A token by its id."""

    token_bytes: bytes
    text: str


class Kind:
    """An OpenAI-compatible server of which nothing else is known."""

    name: ClassVar[str] = "openai"
    title: str = "an OpenAI-compatible server"
    takes_ids: ClassVar[bool] = False
    """A text can be sent as ids, and every token that is told of has one."""
    tells_all: ClassVar[bool] = False
    """Any number of log-probabilities may be asked for."""
    names_by_id: ClassVar[bool] = False
    """What ids stand for has to be asked for."""
    fields: ClassVar[Mapping[str, str]] = {
        "temperature": "temperature", "top_p": "top_p", "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty", "seed": "seed",
    }  # fmt: skip
    """Knob -> the field of a request that it goes into."""
    inside: ModelInside | None = None
    """What is known of the model's inside, where it is told while it writes."""
    no_inside: str = "a request of it has no field for that"
    """Why it is not steered, in half a sentence; empty where it is."""
    distribution: str = "not known: `tui-entropy doctor --server` finds out"
    """Of what the log-probabilities are."""

    def __init__(self, client: HttpClient, spec: ServerSpec, model: Mapping[str, Any]) -> None:
        """model: its entry in the list of the server's models."""
        self.client, self.spec = client, spec
        self.model = str(model.get("id") or spec.model)
        self.context_length = _whole(model.get("max_model_len") or model.get("context_length"))
        """0 where it is not told."""
        self.vocab = spec.vocab
        """The same."""
        self.n_logprobs = 0
        self.chat = spec.api == "chat" and not self.takes_ids

    @classmethod
    def is_named(cls, models: Mapping[str, Any]) -> bool:
        """Whether a list of models says that they are of this kind."""
        listed = models.get("data") or ()
        return any(isinstance(one, dict) and one.get("owned_by") == cls.name for one in listed)

    @classmethod
    def recognise(cls, client: HttpClient, models: Mapping[str, Any]) -> str | None:
        """What the server is called, if it is of this kind. models: its list of models."""
        return cls.title

    # --- Before writing ----------------------------------------------------------------------------------------

    def learn(self) -> None:
        """Find out what it can do, with as few requests as that takes. Raises UserError."""
        if self.spec.api == "auto":
            self.chat = not self._completes()
        self.n_logprobs = self._amount()

    def _completes(self) -> bool:
        """Whether it takes texts. One that does not refuses the route or the model of it."""
        try:
            self._ask_one(Context(text="Hello"), 0)
        except ServerRefused as refusal:
            if refusal.status in (401, 403):
                raise
            return False
        return True

    def _amount(self) -> int:
        """The most log-probabilities of AMOUNTS, or those that a person asked for, that it tells at each token."""
        wanted = self.spec.n_logprobs
        for n in (wanted,) if wanted else AMOUNTS:
            try:
                told = self._ask_one(Context(text="Hello", messages=(Message("user", "Hello"),)), n).tokens
            except ServerRefused as refusal:
                if wanted or refusal.status not in (400, 422):
                    raise
                most = re.search(
                    r"(?:max(?:imum)? allowed|at most|less than or equal to|<=?)\D{0,12}(\d+)", refusal.said
                )
                if most and 0 < int(most[1]) < n:
                    return int(most[1])
                continue
            if not told:
                return 0
            return n if len(told[0].alternatives) > 1 or n == 1 else max(len(told[0].alternatives), 1)
        return 0

    def _ask_one(self, context: Context, n_logprobs: int) -> Chunk:
        return self.whole(*self.request(context, Knobs(temperature=0.0), 1, n_logprobs))

    def whole(self, path: str, body: dict[str, Any]) -> Chunk:
        """The answer to a request, not streamed: a stream may begin with 200 where it is refused. Raises
        ServerRefused."""
        body = {name: value for name, value in body.items() if name != "stream_options"} | {"stream": False}
        found = self.client.post(path, body)
        return chunk_of_object(found if isinstance(found, dict) else {})

    @property
    def can_go_back(self) -> str:
        """Why no text can be gone on with from a place in it, in half a sentence; empty where it can."""
        return "it is asked with messages, and what it wrote of an answer cannot be sent back" if self.chat else ""

    @property
    def reads(self) -> str:
        """How a text that is there already is read through it, in a phrase."""
        return "with a request for each token" if self.takes_ids else "not through this server: it tells no ids"

    @property
    def ignored(self) -> tuple[str, ...]:
        """The knobs that it is not told, and that nothing here acts on."""
        draws = self.spec.sampler == "server"
        known = {*OURS, *(self.fields if draws else (knob.name for knob in STAGE_KNOBS)), *(() if draws else DRAWN)}
        return tuple(knob.name for knob in KNOBS if knob.name not in known)

    def facts(self) -> list[ServerFact]:
        """What was found out, for a person."""
        told = f"of the {self.n_logprobs} most probable tokens" if self.n_logprobs else "none given"
        return [
            ServerFact("asked with", "messages" if self.chat else "token ids" if self.takes_ids else "text"),
            ServerFact("log-probabilities", told),
            ServerFact("their distribution", self.distribution, "not known" not in self.distribution),
            ServerFact(
                "token ids", "given" if self.takes_ids else "none given: tokens are told apart by their texts"
            ),
            ServerFact("going back, branches", self.can_go_back or "by sending the text again"),
            ServerFact("vocabulary", f"{self.vocab} tokens" if self.vocab else f"not told: at most {MOST_VOCAB}"),
            ServerFact("prompt scores", "none"),
            ServerFact("a text that is read", self.reads),
            ServerFact("steering, lens", "none"),
            ServerFact("drawn by", "the server" if self.spec.sampler == "server" else "the chain of this program"),
            ServerFact("same seed", "as the server takes it", False),
        ]

    # --- Asking ------------------------------------------------------------------------------------------------

    def request(
        self, context: Context, knobs: Knobs, n_tokens: int, n_logprobs: int, banned: Iterable[int] = ()
    ) -> Request:
        """For up to so many further tokens. n_logprobs: alternatives told at each."""
        body = {
            "model": self.model, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": n_tokens,
            **self._settings(knobs),
        }  # fmt: skip
        if self.chat:
            body["messages"] = [{"role": one.role, "content": one.content} for one in context.messages]
            body |= {"logprobs": True, "top_logprobs": n_logprobs} if n_logprobs else {}
            return "/v1/chat/completions", body
        body["prompt"] = context.text
        body |= {"logprobs": n_logprobs} if n_logprobs else {}
        return "/v1/completions", body

    def _settings(self, knobs: Knobs) -> dict[str, Any]:
        return {field: self.value(knobs, name) for name, field in self.fields.items()}

    def value(self, knobs: Knobs, name: str) -> Any:
        """Of a knob, as this server takes it."""
        value = getattr(knobs, name)
        return 0.0 if name == "temperature" and value < GREEDY_BELOW else value

    def chunks(self, pieces: Iterable[bytes]) -> Iterator[Chunk]:
        """The events of a stream. Raises NoChunk and EventTooLarge."""
        from tui_entropy.servers.streams.sse import event_data

        return map(chunk_of, event_data(pieces))

    def recovered(self, tokens: list[ToldToken]) -> list[ToldToken]:
        """The tokens of an event, with what can be found out of those that it did not name."""
        return tokens

    def prompt_scores(self, ids: Sequence[int]) -> list[ToldToken] | None:
        """What it told of each token of a prompt, the first of which nothing comes before. None where it scores none.
        Raises UserError."""
        return None

    # --- Tokens ------------------------------------------------------------------------------------------------

    def encode(self, text: str) -> tuple[PromptToken, ...]:
        """A text as it is sent. Without ids it is one piece."""
        return (PromptToken(NO_ID, text.encode(), text),) if text else ()

    def encode_chat(self, messages: Sequence[Message], opening: bool = True) -> tuple[PromptToken, ...]:
        """A conversation in the form of the model's template; opening: with the answer begun. Without ids it is its
        messages."""
        return self.encode("\n\n".join(f"{one.role}: {one.content}" for one in messages))

    def encode_continuation(self, text: str) -> list[int]:
        """The ids of a text that goes on from another. Raises UserError where there are none."""
        raise UserError("this server tells no token ids, so that a text cannot be put in: branch without one")

    def names(self, ids: Sequence[int]) -> dict[int, Named]:
        """What ids stand for."""
        return {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
