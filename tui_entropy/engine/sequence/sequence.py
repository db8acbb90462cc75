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
from tui_entropy.engine.instruments.head_measures import Held
from tui_entropy.engine.measure.running_stats import Recent
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.tokenization.tokenizer import TextStream
from tui_entropy.records.step import Step

if TYPE_CHECKING:
    from tui_entropy.engine.measure.step_record import Numbers
    from tui_entropy.engine.sampling.distribution import Chained
    from tui_entropy.engine.sampling.settings import Controls
    from tui_entropy.records.step import Decision, Shadow

ONE_BY_ONE = 32
"""Written tokens that are read again one by one, as they were at first. More are read in stretches, which is faster
and the same only up to rounding."""


class Companion(Protocol):
    """Another mind on the same tokens, asked at every step: what the lane beside a run is to it."""

    how: str
    context: Context
    """What it reads; that of the run itself where both have the same logits."""

    @property
    def apart(self) -> bool:
        """It has a cache of its own, and is read before the run is."""

    def thought(
        self,
        now: Controls,
        watched: Context,
        decision: Decision | None,
        logp: Tensor,
        ids: Tensor,
        chained: Chained,
        token: Tensor,
    ) -> dict[str, Tensor]:
        """What it thinks where the run chose a token: tensors by name, on the device."""

    def record(self, numbers: Numbers, text: TextStream) -> Shadow:
        """Of the numbers of `thought` on the host."""


class Context:
    """The tokens of one run, prompt and written, their keys and values, and what later steps hang on."""

    def __init__(self, loaded: Loaded, prompt_ids: list[int], max_tokens: int) -> None:
        self._loaded = loaded
        self.rows: list[Context] = [self]
        """Those whose keys and values are the rows of this cache and are read together, in the first one's turn."""
        self.shadow: Companion | None = None
        """Another mind that is asked at every step."""
        self.under: Mapping[int, Tensor] | None = None
        """What it is read under beside another lane; None for what that one is."""
        self.lag = 0
        """What is taken off a position before it is asked for luck: tokens more than in the lane it is beside."""
        self.n_prompt = len(prompt_ids)
        self.n_tokens = self.n_prompt
        """Prompt and written."""
        self.n_scored = 0
        """Tokens of the prompt whose scores were told."""
        self.pushes: list[Mapping[int, Tensor]] = []
        """What each token was read under, also those that must be read again."""
        self.stamps: list[int] = []
        """Of each of them a number that only contexts share in which it, all before it, and what they were read under
        are the same. So they share its keys and values too."""
        self.recent = Recent()
        self.text = TextStream(loaded.codec, prompt_ids)
        self.mus: list[float | None] = [None]
        """Mirostat's bound in bits for each step, and for the next one; None while it is off, and at its start."""
        self.ats = [0.0]
        """Seconds of work before each step, and up to the newest."""
        self.forced: list[int] = []
        """Tokens that come next, whatever the model says."""
        self.banned: frozenset[int] = frozenset()
        """Tokens that the next one may not be."""
        self.meddled: dict[int, tuple[list[int], frozenset[int]]] = {}
        """Step -> what was forced there and what banned, where anything was."""
        room = torch.zeros(min(max_tokens, max(loaded.card.context - self.n_prompt, 0)), dtype=torch.long)
        self._ids = torch.cat([torch.tensor(prompt_ids, dtype=torch.long), room]).to(loaded.model.device)
        self.let_go()

    def let_go(self) -> None:
        """Begin with an empty cache: what was read is to be read again."""
        self.rows = [self]
        self.cache: Cache = new_cache(self._loaded.model, self._loaded.anatomy, self.n_tokens + ROOM)
        self.n_read = 0
        """Tokens whose keys and values the cache holds."""
        self.held = Held()
        self.vectors: list[Tensor | None] = [None] * self._loaded.anatomy.n_layers
        """With `held`, what the probes have of it."""
        self.logits: Tensor | None = None
        """(vocab,) float32 after the newest token that was read."""

    def branch(self, step: int, max_tokens: int = 0) -> Context:
        """As this one was before a step, with room for that many more tokens. Nothing of it is in its cache."""
        n = self.n_prompt + step
        new = Context(self._loaded, self._ids[:n].tolist(), max_tokens)
        new.n_prompt, new.n_scored, new.lag = self.n_prompt, self.n_scored, self.lag
        new.text = TextStream(self._loaded.codec, new.prompt.tolist())
        new.pushes, new.stamps = self.pushes[:n], self.stamps[:n]
        new.recent, new.mus, new.ats = self.recent.first(step), self.mus[: step + 1], self.ats[: step + 1]
        new.meddled = {at: how for at, how in self.meddled.items() if at < step}
        new.text.spell(new.written.tolist())
        return new

    def shared(self, other: Context) -> int:
        """How many tokens, from the first on, have the same keys and values in both."""
        ours, theirs = self.stamps, other.stamps
        return bisect_left(range(min(len(ours), len(theirs))), True, key=lambda at: ours[at] != theirs[at])

    @property
    def room(self) -> int:
        """Tokens that can still be written."""
        return len(self._ids) - self.n_tokens

    @property
    def n_written(self) -> int:
        return self.n_tokens - self.n_prompt

    @property
    def behind(self) -> int:
        """Tokens to read before the newest."""
        return max(self.n_tokens - 1 - self.n_read, 0)

    @property
    def mu(self) -> float | None:
        return self.mus[-1]

    @property
    def at(self) -> float:
        """Seconds of work up to the newest step."""
        return self.ats[-1]

    @property
    def bytes(self) -> int:
        """Of keys and values, with the room that is kept for more."""
        return n_bytes(tensor for layer in self.cache.layers for tensor in tensors(layer))

    @property
    def ids(self) -> Tensor:
        """(n_tokens,)"""
        return self._ids[: self.n_tokens]

    @property
    def prompt(self) -> Tensor:
        """(n_prompt,) ids."""
        return self._ids[: self.n_prompt]

    @property
    def written(self) -> Tensor:
        """(n_written,) ids."""
        return self._ids[self.n_prompt : self.n_tokens]

    def stretch(self, most: int) -> tuple[int, Mapping[int, Tensor] | None]:
        """The next tokens to read before the newest: up to which position, and what they were read under before.

        As they were read at first: the prompt in stretches of which its last token is no part, and what was written
        one by one as long as it is not much, so that to the bit the same comes of it.
        """
        first, newest = self.n_read, self.n_tokens - 1
        if not self._loaded.anatomy.in_stretches:
            most = newest if first == 0 else 1
        if first < self.n_prompt - 1:
            newest = min(newest, self.n_prompt - 1)
        elif self.behind <= ONE_BY_ONE:
            most = 1
        return self.alike(min(first + most, newest))

    def alike(self, last: int) -> tuple[int, Mapping[int, Tensor] | None]:
        """Up to which position, at most `last`, the tokens that are not read now were read under the same before, and
        under what. None where they never were."""
        first = self.n_read
        if first >= len(self.pushes):
            return last, None
        under = self.pushes[first]
        same = itertools.takewhile(lambda pushes: pushes is under, self.pushes[first:last])
        return first + sum(1 for _ in same), under

    def note(self, last: int, pushes: Mapping[int, Tensor]) -> None:
        """The tokens that are not read yet, up to a position, are read under these pushes now."""
        for position in range(self.n_read, last):
            if position < len(self.pushes) and self.pushes[position] is pushes:
                continue
            self.pushes[position:], self.stamps[position:] = [pushes], [next(_stamps)]

    @property
    def row(self) -> int:
        """Its place in the passes that it shares."""
        return self.rows.index(self)

    def pushed(self, pushes: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """What it is read under where the lane that it stands beside is read under these."""
        return pushes if self.under is None else self.under

    def throughout(self, last: int, pushes: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """What all tokens up to a position are read under in one pass where those that are not read yet are read
        under these pushes: block -> (last, d_model), or the pushes themselves if there were no others."""
        each = [*self.pushes[: self.n_read], *[pushes] * (last - self.n_read)]
        if all(its is pushes for its in each):
            return pushes
        shapes = {block: torch.zeros_like(push) for its in each for block, push in its.items()}
        return {block: torch.stack([its.get(block, none) for its in each]) for block, none in shapes.items()}

    def write(self, token_id: int) -> None:
        self._ids[self.n_tokens] = token_id
        self.n_tokens += 1

    def take(self, step: Step, mu: float | None) -> None:
        """A step is written. mu: mirostat's bound for the next one."""
        if self.forced or self.banned:
            self.meddled[self.n_written] = self.forced[:1], self.banned
        self.write(step.token_id)
        if self.shadow is not None and self.shadow.context is not self:
            self.shadow.context.write(step.token_id)
        self.recent.count()
        self.text.push(step.token_id)
        self.mus.append(mu)
        self.ats.append(step.at)
        self.forced, self.banned = self.forced[1:], frozenset()


_stamps = itertools.count()
