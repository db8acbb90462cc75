"""The model of a fake server: a vocabulary of bytes and words, and a distribution made of seed and position alone."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

WORDS = (
    " the", " of", " and", " to", " in", " is", " that", " it", " was", " for", " on", " are", " with", " as", " at",
    " be", " this", " have", " from", " or", " one", " had", " by", " word", " but", " not", " what", " all", " were",
    " we", " when", " your", " can", " said", " there", " use", " an", " each", " which", " she", " do", " how",
    " their", " if", " will", " up", " other", " about", " out", " many", " then", " them", "The",
)  # fmt: skip
EMOJI = ((b" \xf0\x9f", b"\x98", b"\x80"), (b"\xc3", b"\xa9"), (b"\xe6", b"\xbc", b"\xa2"))
"""Characters as the tokens that they are split over: a face behind a space, an e with an accent, a Han sign."""
SPLIT = [piece for pieces in EMOJI for piece in pieces]
PERIOD = 997
"""Distributions come again after so many positions, a prime: whatever is shifted by less shows."""
TWICE = b" twice"
"""The text of two tokens."""

BYTE_TOKENS = [bytes([value]) for value in range(256)]
VOCABULARY = [*BYTE_TOKENS, *(word.encode() for word in WORDS), b" \xf0\x9f", TWICE, TWICE, b""]
"""The bytes of each token. The last one ends a text; bytes come first, so that every text has tokens."""
EOS = len(VOCABULARY) - 1
IDS = {piece: token_id for token_id, piece in reversed(list(enumerate(VOCABULARY)))}
WORD_IDS = range(256, 256 + len(WORDS))
TWICE_IDS = (EOS - 2, EOS - 1)


@lru_cache(maxsize=2 * PERIOD)
def log_probabilities(seed: int, place: int, twice: bool) -> tuple[float, ...]:
    """Of each token, summing to one: a word is likely, a byte is not. `twice`: so are the two tokens of one text."""
    draw = random.Random(f"{seed} {place}")
    scores = [draw.gauss(4, 2) if token_id in WORD_IDS else draw.gauss(-3, 1) for token_id in range(len(VOCABULARY))]
    scores[TWICE_IDS[0]] = max(scores) - 1 if twice else -8
    scores[TWICE_IDS[1]] = scores[TWICE_IDS[0]] - 0.25
    scores[EOS] = -8
    total = math.log(sum(map(math.exp, scores)))
    return tuple(score - total for score in scores)


@lru_cache(maxsize=2 * PERIOD)
def ranked(seed: int, place: int, twice: bool, temperature: float) -> tuple[tuple[int, float], ...]:
    """(id, log-probability) of every token, most likely first; temperature 1 is the model's own distribution."""
    logits = [value / temperature for value in log_probabilities(seed, place, twice)]
    total = math.log(sum(map(math.exp, logits)))
    return tuple(sorted(((i, value - total) for i, value in enumerate(logits)), key=lambda each: -each[1]))


@dataclass
class FakeModel:
    """What the server believes at a position, counted from the first token of the prompt, and what it takes there."""

    seed: int = 0
    split_every: int = 0
    """Before every so many written tokens it writes a character that is split over several."""
    outside_every: int = 0
    """Every so many tokens it takes one that is not among the likeliest twenty."""
    twice: bool = False
    """Two tokens of the same text are among the likeliest."""
    chosen: list[int] = field(default_factory=list)
    """Ids to be written first, whatever the distribution says."""

    def ranked(self, position: int, temperature: float = 1.0) -> tuple[tuple[int, float], ...]:
        return ranked(self.seed, position % PERIOD, self.twice, temperature)

    def logprob(self, position: int, token_id: int) -> float:
        """What the model says, before any temperature."""
        return log_probabilities(self.seed, position % PERIOD, self.twice)[token_id]

    def take(self, position: int, index: int, temperature: float, seed: int, bias: dict[int, float]) -> int:
        """The token written at a position, which is the index-th after the prompt."""
        if bias:
            return max(self.ranked(position), key=lambda each: each[1] + bias.get(each[0], 0.0))[0]
        if index < len(self.chosen):
            return self.chosen[index]
        if self.split_every and (place := index % (self.split_every + len(self.pieces))) >= self.split_every:
            return self.pieces[place - self.split_every]
        likely = self.ranked(position)
        if self.outside_every and index % self.outside_every == self.outside_every - 1:
            return likely[25][0]
        if temperature <= 0:
            return likely[0][0]
        noise = random.Random(f"{seed} {position}").random()
        for token_id, logprob in self.ranked(position, temperature):
            noise -= math.exp(logprob)
            if noise < 0 and token_id != EOS:
                return token_id
        return likely[0][0]

    @cached_property
    def pieces(self) -> list[int]:
        return [IDS[piece] for piece in SPLIT]


def tokenize(text: str) -> list[int]:
    """The longest tokens that fit, from the left."""
    data, ids, at = text.encode(errors="replace"), [], 0
    while at < len(data):
        length = next(n for n in range(min(12, len(data) - at), 0, -1) if data[at : at + n] in IDS)
        ids.append(IDS[data[at : at + length]])
        at += length
    return ids


def bytes_of(ids: list[int]) -> bytes:
    return b"".join(VOCABULARY[token_id] for token_id in ids)


def is_inside_character(data: bytes) -> bool:
    """Whether it ends with the beginning of a character."""
    for back in range(1, min(4, len(data)) + 1):
        lead = data[-back]
        if lead >= 0xC0:
            return back < (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4)
        if lead < 0x80:
            return False
    return False


def prompt_scores(model: FakeModel, ids: list[int], k: int) -> list[dict[str, dict[str, object]] | None]:
    """vLLM's `prompt_logprobs`: None for the first, then the prompt's own token before the k likeliest, by id."""
    scores: list[dict[str, dict[str, object]] | None] = [None]
    for position, token_id in enumerate(ids[1:], start=1):
        listed = model.ranked(position)
        rank = next(at for at, (each, _) in enumerate(listed, start=1) if each == token_id)
        told = [(token_id, listed[rank - 1][1], rank)]
        told += [(each, value, at) for at, (each, value) in enumerate(listed[:k], start=1) if each != token_id]
        scores.append(
            {
                str(i): {"logprob": value, "rank": at, "decoded_token": VOCABULARY[i].decode(errors="replace")}
                for i, value, at in told
            }
        )
    return scores
