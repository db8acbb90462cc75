"""What a server's log-probabilities are worth, found out with a few short requests.

greedy          16 tokens at temperature 0: the most probable one is the one that is written, nothing is missing,
                and ids stand for the text
distribution    the same place at temperature 1.5: raw numbers stay, processed ones are flatter by it
bias            the second candidate made likelier from outside: processed numbers move
characters      a prompt that makes it write characters of several tokens
seed            the second request once more
prompt          whether the tokens of a prompt are scored
inside          of vLLM with vllm-lens: how late its numbers come, and whether the last lens row is the model
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Message
from tui_entropy.records.sampling import Knobs
from tui_entropy.servers.card import model_card
from tui_entropy.servers.kinds.kind import Context, Kind
from tui_entropy.servers.kinds.registry import card_of
from tui_entropy.servers.steps import most_probable
from tui_entropy.servers.streams.alignment import Counts
from tui_entropy.servers.streams.band import Band, are_probabilities, entropy_band
from tui_entropy.servers.streams.told_token import Alternative, ToldToken
from tui_entropy.servers.token_stream import answered
from tui_entropy.servers.tokens import TokenNames
from tui_entropy.servers.vllm_lens.card import card_with_inside
from tui_entropy.servers.vllm_lens.hook_plan import ModelInside
from tui_entropy.servers.vllm_lens.inside_check import inside_check

GREEDY = Knobs(temperature=0.0, top_k=0, top_p=1.0)
HOT = 1.5
TOLD = 16
"""Tokens of the first request."""
PROMPT = "The three largest cities of France are"
CHARACTERS = "Repeat exactly: 😀🎉漢字 😀🎉漢字 😀🎉漢字 😀🎉"
SAME = 0.02
"""Nats by which two answers to the same question may differ: servers batch, and half precision rounds."""
PASSED, NOTED, FAILED, SKIPPED = "ok", "note", "FAILED", "not asked"


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    verdict: str
    """One of PASSED, NOTED for what is no fault but must be known, FAILED, SKIPPED."""
    sentence: str


class Answer(Struct, frozen=True):
    """What came of one request."""

    tokens: tuple[ToldToken, ...]
    n_unknown: int
    n_left_over: int
    text: str


class Examination:
    """Of one server. It asks as little as it can, and each answer serves several findings."""

    def __init__(self, server: Kind) -> None:
        self.server = server
        self.names = TokenNames(server)
        self.n_requests = 0
        self.prompt_ids: tuple[int, ...] = ()
        self.greedy: Answer
        """The first answer, for a comparison with a model that is here."""

    def findings(self, progress: Callable[[str], None] = lambda _: None) -> Iterator[Finding]:
        """Each as it is found. Raises UserError where the server does not answer at all."""
        progress("writing greedily")
        self.prompt_ids = self._encoded(PROMPT)
        self.greedy = self._answer(PROMPT, self.prompt_ids, GREEDY, TOLD)
        if not self.server.n_logprobs or not any(token.is_told for token in self.greedy.tokens):
            yield Finding("log-probabilities", FAILED, "this server tells none: its text can be shown, and no number")
            return
        yield from self._of_greedy()
        progress(f"writing at temperature {HOT:g}")
        hot = self._answer(PROMPT, self.prompt_ids, replace(GREEDY, temperature=HOT), 8)
        yield self._distribution(hot)
        yield self._bias()
        progress("writing characters of several tokens")
        yield self._characters()
        yield self._seed(hot)
        yield Finding("prompt scores", *self._prompt_scores())
        if self.server.inside is not None:
            progress("measuring the inside of its model")
            yield self._inside(self.server.inside)

    # --- What is found -----------------------------------------------------------------------------------------

    def _of_greedy(self) -> Iterator[Finding]:
        tokens, answer = [token for token in self.greedy.tokens if token.is_told], self.greedy
        zero = [token for token in tokens if token.logprob == 0.0 and len(token.alternatives) < 2]
        sums = [token for token in tokens if not are_probabilities([one.logprob for one in token.alternatives])]
        if len(zero) == len(tokens):
            said = "every one is exactly 0, as servers with speculative decoding write where they have none"
            yield Finding("probabilities", FAILED, said)
        elif sums:
            said = f"at {len(sums)} of {len(tokens)} tokens they are more than 1 together: logits, or nothing at all"
            yield Finding("probabilities", FAILED, said)
        else:
            yield Finding("probabilities", PASSED, f"those of {len(tokens)} tokens are at most 1 together")
        ranked = [token for token in tokens if token.alternatives]
        first = sum(_is_top(token) for token in ranked)
        agrees = first == len(ranked)
        said = f"at temperature 0 the most probable token was written {first} of {len(ranked)} times"
        yield Finding("greedy", PASSED if agrees else FAILED, said)
        n = len(answer.tokens)
        missing = answer.n_unknown + answer.n_left_over
        said = f"{answer.n_unknown} of {n} tokens had no entry" if missing else f"each of {n} tokens had one"
        yield Finding("entries", NOTED if missing else PASSED, said)
        yield self._duplicates(ranked)
        yield self._ids_and_text()

    def _duplicates(self, tokens: Sequence[ToldToken]) -> Finding:
        n_asked, fewest = self.server.n_logprobs, min(len(token.alternatives) for token in tokens)
        texts = [[_text(one) for one in token.alternatives] for token in tokens]
        alike = sum(len(each) - len(set(each)) for each in texts)
        if fewest < n_asked and not self.server.takes_ids:
            said = f"{n_asked} were asked for and {fewest} came: tokens with the same text are one, and bands wider"
            return Finding("alternatives", NOTED, said)
        said = f"{fewest} at each token" + (f", {alike} in all with the text of another" if alike else "")
        return Finding("alternatives", PASSED if fewest >= n_asked else NOTED, said)

    def _ids_and_text(self) -> Finding:
        if not self.server.takes_ids:
            return Finding("ids", NOTED, "none are told: tokens are told apart by their texts")
        ids = [token.token_id for token in self.greedy.tokens]
        if None in ids:
            return Finding("ids", NOTED, f"{ids.count(None)} of {len(ids)} tokens have none")
        for token in self.greedy.tokens:
            self.names.learn(token)
        said = b"".join(self.names.of(token).token_bytes for token in self.greedy.tokens).decode("utf-8", "replace")
        agree = said.strip() == self.greedy.text.strip()
        return Finding(
            "ids", PASSED if agree else FAILED, "they stand for the text" if agree else f"they say {said!r}"
        )

    def _distribution(self, hot: Answer) -> Finding:
        """The first place has the same context in both."""
        if not hot.tokens or not self.greedy.tokens:
            return Finding("distribution", SKIPPED, "nothing was written")
        cold, warm = (_by_token(answer.tokens[0]) for answer in (self.greedy, hot))
        shared = sorted(cold.keys() & warm.keys(), key=lambda key: -cold[key])
        if len(shared) < 2:
            return Finding("distribution", NOTED, "not known: the two answers share too few tokens")
        apart = cold[shared[0]] - cold[shared[1]]
        moved = warm[shared[0]] - warm[shared[1]]
        if abs(apart) < SAME:
            return Finding("distribution", NOTED, "not known: two tokens tie where it was asked")
        if abs(moved - apart) <= SAME + 0.02 * abs(apart):
            return Finding("distribution", PASSED, f"raw: the same at temperature {HOT:g}")
        if abs(moved - apart / HOT) <= SAME + 0.02 * abs(apart):
            said = f"processed: at temperature {HOT:g} they are those of that temperature and not of the model"
            return Finding("distribution", FAILED, said)
        return Finding("distribution", NOTED, f"not known: from temperature 0 to {HOT:g} they changed in another way")

    def _bias(self) -> Finding:
        if not self.server.takes_ids or "banned" not in self.server.fields:
            return Finding("bias", SKIPPED, "a bias needs token ids")
        first = self.greedy.tokens[0].token_id if self.greedy.tokens else None
        if first is None:
            return Finding("bias", SKIPPED, "the first token has no id")
        answer = self._answer(PROMPT, self.prompt_ids, GREEDY, 1, banned=(first,))
        plain = _by_token(self.greedy.tokens[0])
        banned = _by_token(answer.tokens[0]) if answer.tokens else {}
        if not banned or answer.tokens[0].token_id == first:
            return Finding("bias", FAILED, "a token that was banned was written all the same")
        key = next((key for key in plain if key in banned), None)
        if first in banned and abs(banned[first] - plain[first]) <= SAME:
            return Finding("bias", PASSED, "a token can be banned, and the numbers stay those of the model")
        moved = key is None or abs(banned[key] - plain[key]) > SAME
        return Finding("bias", FAILED if moved else NOTED, "processed: the numbers follow what is banned")

    def _characters(self) -> Finding:
        answer = self._answer(CHARACTERS, self._encoded(CHARACTERS), GREEDY, 24)
        broken = answer.text.count("\ufffd")
        unnamed = sum(token.token_id is None for token in answer.tokens) if self.server.takes_ids else 0
        if broken:
            return Finding("characters", FAILED, f"{broken} characters came out broken")
        if answer.n_unknown:
            lost = f"{answer.n_unknown} of {len(answer.tokens)} tokens, parts of characters, were told nothing of"
            return Finding("characters", NOTED, lost + (f", and {unnamed} have no id" if unnamed else ""))
        return Finding("characters", PASSED, "tokens that are parts of characters are told of like others")

    def _seed(self, hot: Answer) -> Finding:
        again = self._answer(PROMPT, self.prompt_ids, replace(GREEDY, temperature=HOT), 8)
        same = again.text == hot.text
        said = "the same seed wrote the same" if same else "the same seed wrote something else"
        return Finding("seed", PASSED if same else NOTED, f"{said} at temperature {HOT:g}")

    def _prompt_scores(self) -> tuple[str, str]:
        try:
            found = self.server.prompt_scores(self.prompt_ids)
        except UserError as refused:
            return FAILED, str(refused)
        if found is None:
            return NOTED, "the tokens of a prompt are not scored"
        self.n_requests += 1
        known = sum(one.logprob is not None for one in found)
        return (
            PASSED if known == len(found) - 1 else NOTED
        ), f"{known} of {len(found)} tokens of a prompt are scored"

    def _inside(self, model: ModelInside) -> Finding:
        self.n_requests += 1
        card = card_with_inside(model_card(card_of(self.server), "", "", ""), model, self.server.spec.lens)
        is_right, said = inside_check(self.server, card, self.prompt_ids)
        return Finding("inside", PASSED if is_right else NOTED, said)

    # --- Asking ------------------------------------------------------------------------------------------------

    def _encoded(self, text: str) -> tuple[int, ...]:
        return tuple(one.token_id for one in self.server.encode(text)) if self.server.takes_ids else ()

    def _answer(
        self, text: str, ids: tuple[int, ...], knobs: Knobs, n_tokens: int, banned: Sequence[int] = ()
    ) -> Answer:
        self.n_requests += 1
        context = Context(ids, text, (Message("user", text),))
        request = self.server.request(context, knobs, n_tokens, self.server.n_logprobs, banned)
        counts = Counts()
        tokens = [token for event, _ in answered(self.server, request, counts) for token in event]
        return Answer(tuple(tokens), counts.unknown, counts.left_over, "".join(token.text for token in tokens))


def _is_top(token: ToldToken) -> bool:
    best = token.alternatives[0].logprob
    return token.logprob is not None and token.logprob >= best - 1e-6


def _text(one: Alternative) -> str | int:
    return one.text or (one.token_id if one.token_id is not None else "")


def _by_token(token: ToldToken) -> dict[int | str, float]:
    return {one.token_id if one.token_id is not None else one.text: one.logprob for one in token.alternatives}


def bands(answer: Answer, vocab: int, n_logprobs: int) -> list[Band]:
    """The entropy at each token; NaN where nothing is known."""
    told = (most_probable(token, n_logprobs) for token in answer.tokens)
    return [entropy_band(values, vocab) if values else Band(math.nan, math.nan) for values in told]
