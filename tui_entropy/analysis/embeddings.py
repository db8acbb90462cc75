"""What a model's embeddings know of meanings and of what follows what, told without a screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.core import text_table
from tui_entropy.core.errors import UserError
from tui_entropy.core.escape import visible
from tui_entropy.engine.embeddings.analogies import KS, Analogy, Pair, accuracy, analogies
from tui_entropy.engine.embeddings.markov import Follower, MarkovReading, markov_reading, weighted
from tui_entropy.engine.embeddings.nearest import Similarity
from tui_entropy.engine.lenses.decoding import Decoding, NormName, Undecodable
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.metrics.metric import LN2
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelSpec

Report = dict[str, Any]
EmbeddingName = Literal["input", "output"]
MAX_TOLD = 20
"""Rows that a report for people has."""


class ReadPairs(NamedTuple):
    pairs: list[Pair]
    left_out: list[str]
    """Lines of which a word is no single token."""


def analogies_of(spec: ModelSpec, text: str, similarity: Similarity) -> Report:
    """Each pair of a file, by the mean step of all others, in each embedding that the model has. Raises UserError."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    words = [re.split(r"[\t,;]\s*|\s+", line.strip()) for line in lines]
    if wrong := next((line for line, pair in zip(lines, words, strict=True) if len(pair) != 2), None):
        raise UserError(f"{wrong.strip()[:60]!r} is no pair: write two words in each line, such as France Paris")
    loaded = _loaded(spec)
    read = _read(loaded, words)
    if len(read.pairs) < 2:
        raise UserError(
            f"of {len(lines)} pairs {len(read.pairs)} have words that are single tokens of this model, and two are "
            "needed: give more, and words that are more common"
        )
    of = {name: analogies(matrix, read.pairs, similarity) for name, matrix in _matrices(loaded).items()}
    return {
        "model": loaded.card.name,
        "similarity": similarity,
        "pairs": len(read.pairs),
        "left_out": read.left_out,
        "embeddings": {name: _as_fields(loaded, found) for name, found in of.items()},
    }


def _read(loaded: Loaded, words: Sequence[Sequence[str]]) -> ReadPairs:
    """A word in the middle of a text has a space before it, where the tokenizer knows it so."""
    read = ReadPairs([], [])
    for one, other in words:
        ids = [_token(loaded, word) for word in (one, other)]
        if ids[0] is None or ids[1] is None:
            read.left_out.append(f"{one} {other}")
        else:
            read.pairs.append(Pair(ids[0], ids[1]))
    return read


def _token(loaded: Loaded, word: str) -> int | None:
    single = loaded.tokenizer.encode_single_token
    return found if (found := single(f" {word}")) is not None else single(word)


def _matrices(loaded: Loaded) -> dict[str, Tensor]:
    """Name -> (vocab, d_model); of an embedding that is both, one."""
    architecture = loaded.architecture
    into, out = (part.get_parameter("weight").detach() for part in (architecture.embedding, architecture.unembedding))
    return {"input and output": into} if into.data_ptr() == out.data_ptr() else {"input": into, "output": out}


def _as_fields(loaded: Loaded, found: Sequence[Analogy]) -> Report:
    return {
        "accuracy": {f"top {k}": dict(zip(("with", "without"), accuracy(found, k), strict=True)) for k in KS},
        "pairs": [
            {
                "first": _text(loaded, one.pair.first),
                "second": _text(loaded, one.pair.second),
                "rank": one.rank,
                "rank_without": one.rank_without,
                "nearest": [_text(loaded, token) for token in one.top],
            }
            for one in found
        ],
    }


def analogies_report(found: Report) -> str:
    """For people: the accuracies, and the pairs one by one."""
    out: list[str] = []
    for name, its in found["embeddings"].items():
        out.append(f"{name} embedding, {found['pairs']} pairs, nearest by {found['similarity']}")
        head = "second word among", "with the mean step of the others", "with no step"
        rows = [
            (k, f"{100 * share['with']:.1f} %", f"{100 * share['without']:.1f} %")
            for k, share in its["accuracy"].items()
        ]
        out += [*text_table.lines([head, *rows]), ""]
        words = [
            (
                *map(_shown, (pair["first"], pair["second"])),
                str(pair["rank"]),
                str(pair["rank_without"]),
                "  ".join(map(_shown, pair["nearest"])),
            )
            for pair in its["pairs"][:MAX_TOLD]
        ]
        out += [*text_table.lines([("from", "to", "rank", "with no step", "nearest"), *words]), ""]
    if found["left_out"]:
        out.append(
            f"left out, since a word is no single token: {', '.join(map(_shown, found['left_out'][:MAX_TOLD]))}"
        )
    return "\n".join(out).rstrip() + "\n"


# --- What follows what --------------------------------------------------------------------------------------


def markov_of(spec: ModelSpec, text: str, norm: NormName, n_tokens: int, least: int) -> Report:
    """The direct path from embedding to head against the bigrams of a text. In nats. Raises UserError."""
    narrator = Narrator()
    loaded = _loaded(spec, narrator)
    ids = loaded.tokenizer.encode(text, None, chat=False)[:n_tokens]
    decoding = Decoding(loaded.model, loaded.architecture, norm=norm)

    def logits(some: Tensor) -> Tensor:
        vectors = loaded.architecture.embedding(some.to(loaded.model.device)[None])[0]
        return decoding.logits(vectors, torch.zeros(len(vectors), device=vectors.device))

    def progress(done: float, total: float) -> None:
        narrator.progress(Progress("reading the direct path", done, total, "tokens"))

    with torch.inference_mode():
        try:
            found = markov_reading(ids, logits, least, progress)
        except Undecodable as reason:
            raise UserError(f"the direct path of this model cannot be read: {reason}") from None
    narrator.done(f"{len(ids)} tokens")
    if not found.followers:
        raise UserError(
            f"no token of the text has another one behind it {least} times: give a longer text than {len(ids)} "
            "tokens, or a lower --least"
        )
    return _markov_fields(loaded, ids, found, decoding.tied, norm)


def _markov_fields(loaded: Loaded, ids: Sequence[int], found: MarkovReading, tied: bool, norm: str) -> Report:
    of = found.followers

    def means(value: Any) -> Report:
        return {"by_token": sum(map(value, of)) / len(of), "by_occurrence": weighted(of, value)}

    return {
        "model": loaded.card.name,
        "tokens": len(ids),
        "different_tokens": len(of),
        "tied": tied,
        "norm": norm,
        "accuracy": means(lambda one: float(one.hit)),
        "accuracy_of_the_most_frequent": means(lambda one: float(one.most_frequent == found.most_frequent_token)),
        "says_the_same_token": found.identity,
        "kl_nats": means(lambda one: one.kl),
        "kl_of_frequencies_nats": means(lambda one: one.kl_of_frequencies),
        "most_frequent": [_follower(loaded, one) for one in of[:MAX_TOLD]],
    }


def _follower(loaded: Loaded, one: Follower) -> Report:
    return {
        "token": _text(loaded, one.token),
        "n": one.n,
        "direct_path": _text(loaded, one.said),
        "bigram": _text(loaded, one.most_frequent),
        "kl_nats": one.kl,
        "kl_of_frequencies_nats": one.kl_of_frequencies,
    }


def markov_report(found: Report, bits: bool) -> str:
    """For people: how often the direct path says what a bigram says, and the most frequent tokens one by one."""
    unit, name = (LN2, "bits") if bits else (1.0, "nats")

    def row(what: str, mean: Report, scale: float, form: str) -> tuple[str, str, str]:
        return what, form.format(mean["by_token"] * scale), form.format(mean["by_occurrence"] * scale)

    share, spread = "{:.1f} %", "{:.2f}"
    rows = [
        ("of tokens that the text has", "each counts once", "as often as it is there"),
        row("the direct path says what most often follows", found["accuracy"], 100, share),
        row("the most frequent token of all would be right", found["accuracy_of_the_most_frequent"], 100, share),
        row(f"KL of bigrams to the direct path, {name}", found["kl_nats"], 1 / unit, spread),
        row(f"KL of bigrams to plain frequencies, {name}", found["kl_of_frequencies_nats"], 1 / unit, spread),
    ]
    tokens = [("token", "times", "direct path says", "text says", f"KL {name}")] + [
        (
            _shown(one["token"]),
            str(one["n"]),
            _shown(one["direct_path"]),
            _shown(one["bigram"]),
            f"{one['kl_nats'] / unit:.2f}",
        )
        for one in found["most_frequent"]
    ]
    same = (
        f"of {100 * found['says_the_same_token']:.0f} % of {found['different_tokens']} tokens it says the same again"
        + (": one matrix is both embeddings, so nothing else is near" if found["tied"] else "")
    )
    return "\n".join([*text_table.lines(rows), same, "", *text_table.lines(tokens)]) + "\n"


def _loaded(spec: ModelSpec, narrator: Narrator | None = None) -> Loaded:
    narrator = narrator or Narrator()
    loaded = load(spec, narrator.progress)
    narrator.done(f"{loaded.card.name} · {loaded.card.device} {loaded.card.dtype}")
    return loaded


def _text(loaded: Loaded, token: int) -> str:
    return loaded.tokenizer.token_bytes(token).decode("utf-8", "replace")


def _shown(text: str) -> str:
    """As it is drawn in a table."""
    return visible(text, in_table=True)
