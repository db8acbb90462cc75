"""The tokens of one run, with all that it takes to write on after them or to go back in them."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from transformers import Cache

from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.cache.kv_cache import ROOM, n_bytes, tensors
from tui_entropy.engine.instruments.head_measures import AttentionState
from tui_entropy.engine.instruments.residual import no_vectors
from tui_entropy.engine.measure.running_stats import RunningStats
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sequence.view import Companion
from tui_entropy.engine.steering.plan import offsets_by_token, same_offsets
from tui_entropy.engine.tokenization.tokenizer import DecodeStream
from tui_entropy.records.step import Step

if TYPE_CHECKING:
    pass

ONE_BY_ONE = 32
"""Written tokens that are read again one by one, as they were at first. More are read in stretches, which is faster
and the same only up to rounding."""


class CompanionRun(Companion, Protocol):
    """A companion with a sequence of its own, which grows with the run's."""

    how: str

    @property
    def sequence(self) -> TokenSequence:
        """The sequence that it reads; that of the run itself where both have the same logits."""

    @property
    def has_own_pass(self) -> bool:
        """It has a cache of its own, and is read before the run is."""


class TokenSequence:
    """The tokens of one run, prompt and written, their keys and values, and what later steps hang on."""

    def __init__(self, loaded: Loaded, prompt_ids: list[int], max_tokens: int) -> None:
        self._loaded = loaded
        self.batch: list[TokenSequence] = [self]
        """Those whose keys and values are the rows of this cache and are read together, in the first one's turn."""
        self.shadow: CompanionRun | None = None
        """Another mind that is asked at every step."""
        self.own_offsets: Mapping[int, Tensor] | None = None
        """What it is read under beside another lane; None for what that one is."""
        self.position_offset = 0
        """What is taken off a position before its noise is asked for: tokens more than in the lane it is beside."""
        self.n_prompt = len(prompt_ids)
        self.n_tokens = self.n_prompt
        """Prompt and written."""
        self.n_scored = 0
        """Tokens of the prompt whose scores were told."""
        self.offsets: list[Mapping[int, Tensor]] = []
        """What each token was read under, also those that must be read again."""
        self.prefix_ids: list[int] = []
        """An id for each of these tokens: two sequences have the same one where the token, all tokens before it and
        the steering they were read under are the same, so that keys and values are the same too."""
        self.running_stats = RunningStats()
        self.text = DecodeStream(loaded.tokenizer, prompt_ids)
        self.mirostat_mus: list[float | None] = [None]
        """Mirostat's bound in bits for each step, and for the next one; None while it is off, and at its start."""
        self.met: list[frozenset[str]] = [frozenset()]
        """Of the conditions of vectors, those that the token before each step met, and for the next one."""
        self.elapsed = [0.0]
        """Seconds of work before each step, and up to the newest."""
        self.forced: list[int] = []
        """Tokens that come next, whatever the model says."""
        self.banned: frozenset[int] = frozenset()
        """Tokens that the next one may not be."""
        self.given: list[int] = []
        """Tokens of a text that is there already and not read yet; they come before those that are forced."""
        self.interventions: dict[int, tuple[list[int], frozenset[int]]] = {}
        """Step -> what was forced there and what banned, where anything was."""
        room = torch.zeros(min(max_tokens, max(loaded.card.context - self.n_prompt, 0)), dtype=torch.long)
        self._ids = torch.cat([torch.tensor(prompt_ids, dtype=torch.long), room]).to(loaded.model.device)
        self.reset_cache()

    def reset_cache(self) -> None:
        """Begin with an empty cache: what was read is to be read again."""
        self.batch = [self]
        self.cache: Cache = new_cache(self._loaded.model, self._loaded.architecture, self.n_tokens + ROOM)
        self.n_read = 0
        """Tokens whose keys and values the cache holds."""
        self.attention_state = AttentionState()
        self.vectors = no_vectors(self._loaded.architecture.n_layers)
        """With `attention_state`, what the instruments have of it."""
        self.logits: Tensor | None = None
        """(vocab,) float32 after the newest token that was read."""

    def branch(self, step: int, max_tokens: int = 0) -> TokenSequence:
        """As this one was before a step, with room for that many more tokens. Nothing of it is in its cache."""
        n = self.n_prompt + step
        new = TokenSequence(self._loaded, self._ids[:n].tolist(), max_tokens)
        new.n_prompt, new.n_scored, new.position_offset = self.n_prompt, self.n_scored, self.position_offset
        new.text = DecodeStream(self._loaded.tokenizer, new.prompt.tolist())
        new.offsets, new.prefix_ids = self.offsets[:n], self.prefix_ids[:n]
        new.running_stats, new.mirostat_mus, new.elapsed = (
            self.running_stats.first(step),
            self.mirostat_mus[: step + 1],
            self.elapsed[: step + 1],
        )
        new.met = self.met[: step + 1]
        new.interventions = {at: how for at, how in self.interventions.items() if at < step}
        new.text.decode_bytes(new.written.tolist())
        return new

    def common_prefix(self, other: TokenSequence) -> int:
        """The number of tokens, from the first on, that have the same keys and values in both."""
        ours, theirs = self.prefix_ids, other.prefix_ids
        return bisect_left(range(min(len(ours), len(theirs))), True, key=lambda at: ours[at] != theirs[at])

    @property
    def n_remaining(self) -> int:
        """Tokens that can still be written."""
        return len(self._ids) - self.n_tokens

    @property
    def n_written(self) -> int:
        return self.n_tokens - self.n_prompt

    @property
    def n_pending(self) -> int:
        """Tokens to read before the newest."""
        return max(self.n_tokens - 1 - self.n_read, 0)

    @property
    def mu(self) -> float | None:
        return self.mirostat_mus[-1]

    @property
    def elapsed_seconds(self) -> float:
        """Seconds of work up to the newest step."""
        return self.elapsed[-1]

    @property
    def bytes(self) -> int:
        """The bytes of keys and values, with the room that is kept for more."""
        return n_bytes(tensor for layer in self.cache.layers for tensor in tensors(layer))

    @property
    def ids(self) -> Tensor:
        """(n_tokens,)"""
        return self._ids[: self.n_tokens]

    def span(self, first: int, last: int) -> Tensor:
        """(last - first,) ids, also of tokens that are placed and not written."""
        return self._ids[first:last]

    def place(self, token_ids: list[int]) -> None:
        """Put tokens behind the newest, where they can be read before they are written one by one."""
        self._ids[self.n_tokens : self.n_tokens + len(token_ids)] = torch.tensor(token_ids, device=self._ids.device)

    @property
    def prompt(self) -> Tensor:
        """(n_prompt,) ids."""
        return self._ids[: self.n_prompt]

    @property
    def written(self) -> Tensor:
        """(n_written,) ids."""
        return self._ids[self.n_prompt : self.n_tokens]

    def next_chunk(self, most: int) -> tuple[int, Mapping[int, Tensor] | None]:
        """The next tokens to read before the newest: up to which position, and what they were read under before.

        As they were read at first: the prompt in stretches of which its last token is no part, and what was written
        one by one as long as it is not much, so that to the bit the same comes of it.
        """
        first, newest = self.n_read, self.n_tokens - 1
        if not self._loaded.architecture.in_stretches:
            most = newest if first == 0 else 1
        if first < self.n_prompt - 1:
            newest = min(newest, self.n_prompt - 1)
        elif self.n_pending <= ONE_BY_ONE:
            most = 1
        return self.span_under_same_steering(min(first + most, newest))

    def span_under_same_steering(self, last: int) -> tuple[int, Mapping[int, Tensor] | None]:
        """Up to which position, at most `last`, the tokens that are not read now were read under the same before, and
        under what. None where they never were."""
        first = self.n_read
        if first >= len(self.offsets):
            return last, None
        under = self.offsets[first]
        same = itertools.takewhile(lambda offsets: same_offsets(offsets, under), self.offsets[first:last])
        return first + sum(1 for _ in same), under

    def mark_read(self, last: int, offsets: Mapping[int, Tensor]) -> None:
        """The tokens that are not read yet, up to a position, are read under these offsets now."""
        for position in range(self.n_read, last):
            if position < len(self.offsets) and same_offsets(self.offsets[position], offsets):
                continue
            self.offsets[position:], self.prefix_ids[position:] = [offsets], [next(_prefix_ids)]

    def forget_read(self, n: int) -> None:
        """What was read behind the first n tokens counts as never read; the cache still holds it."""
        self.offsets, self.prefix_ids = self.offsets[:n], self.prefix_ids[:n]

    def read_anew(self, n: int, offsets: Mapping[int, Tensor]) -> None:
        """The first n tokens are to be read again, under these offsets, and the cache is empty."""
        self.reset_cache()
        self.offsets, self.prefix_ids = [], []
        self.mark_read(n, offsets)

    @property
    def batch_index(self) -> int:
        """Its place in the passes that it shares."""
        return self.batch.index(self)

    def effective_offsets(self, offsets: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """The offsets that it is read under where the lane that it stands beside is read under these."""
        return offsets if self.own_offsets is None else self.own_offsets

    def offsets_by_token(self, last: int, offsets: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """The offsets of all tokens up to a position in one pass where those that are not read yet are read
        under these offsets: block -> (last, d_model), or the offsets themselves if there were no others."""
        each = [*self.offsets[: self.n_read], *[offsets] * (last - self.n_read)]
        if all(same_offsets(its, offsets) for its in each):
            return offsets
        return offsets_by_token(each)

    def make_room(self, n: int) -> None:
        """Room for so many tokens more, as far as the model reads."""
        room = max(min(n, self._loaded.card.context - self.n_tokens), 0)
        self._ids = torch.cat([self.ids, self._ids.new_zeros(room)])

    def write(self, token_id: int) -> None:
        self._ids[self.n_tokens] = token_id
        self.n_tokens += 1

    def commit(self, step: Step, mu: float | None) -> None:
        """A step is written. mu: mirostat's bound for the next one."""
        if self.forced or self.banned:
            self.interventions[self.n_written] = self.forced[:1], self.banned
        self.write(step.token_id)
        if self.shadow is not None and self.shadow.sequence is not self:
            self.shadow.sequence.write(step.token_id)
        self.running_stats.commit()
        self.text.push(step.token_id)
        self.mirostat_mus.append(mu)
        self.elapsed.append(step.at)
        self.met.append(frozenset())
        self.forced, self.banned, self.given = self.forced[1:], frozenset(), self.given[1:]


_prefix_ids = itertools.count()
