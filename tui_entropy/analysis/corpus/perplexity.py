"""The perplexity of documents under a model: sums of ln p over windows, and what people call the numbers of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.corpus.entries import Entry
from tui_entropy.core import text_table
from tui_entropy.core.errors import UserError
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.passage import Passage, left_to_right, windows
from tui_entropy.engine.scoring.scorer import Wanted, score
from tui_entropy.engine.scoring.texts import Bos, encoded
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.metrics.metric import LN2
from tui_entropy.metrics.registry import BY_FIELD
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelSpec

SURPRISAL = Wanted((BY_FIELD["surprisal"],))


@dataclass
class Document:
    """A text with what was summed up over its tokens."""

    place: str
    n_bytes: int
    """Of its UTF-8."""
    n_words: int
    """Stretches between white space, as lm-evaluation-harness counts them."""
    n_tokens: int
    """Those that the tokenizer makes, what it puts before a text included."""
    n_scored: int = 0
    log_likelihood: float = 0.0
    """Nats: the sum of ln p of the tokens that are scored."""
    text: str = ""

    @property
    def nats_per_token(self) -> float:
        """The mean surprisal of the tokens that are scored."""
        return -self.log_likelihood / self.n_scored

    def rates(self) -> dict[str, float]:
        """What the sum comes to by token, word and byte. Source of the last three: lm-evaluation-harness."""
        nats = -self.log_likelihood
        return {
            "token_perplexity": _exp(self.nats_per_token),
            "word_perplexity": _exp(nats / self.n_words),
            "byte_perplexity": _exp(nats / self.n_bytes),
            "bits_per_byte": nats / self.n_bytes / LN2,
        }


@dataclass(frozen=True)
class Perplexity:
    """What was found of all documents."""

    model: str
    bos: Bos
    window: int
    stride: int
    documents: list[Document]
    left_out: list[Entry]

    @property
    def total(self) -> Document:
        """All of them together, as one."""
        of = self.documents
        return Document(
            "all", sum(one.n_bytes for one in of), sum(one.n_words for one in of), sum(one.n_tokens for one in of),
            sum(one.n_scored for one in of), math.fsum(one.log_likelihood for one in of),
        )  # fmt: skip


def perplexity(
    spec: ModelSpec, entries: Iterator[Entry], window: int | None, stride: int | None, bos: Bos = "tokenizer"
) -> Perplexity:
    """Score every document in windows. What is no text, or too short, is named on stderr and left out.

    window: tokens that are read at a time, the model's context by default; stride: how far apart windows are, half of
    a window by default. Raises UserError where there is nothing to score, and for a window that does not fit.
    """
    narrator = Narrator()
    loaded = load(spec, narrator.progress)
    narrator.done(f"{loaded.card.name} · {loaded.card.device} {loaded.card.dtype}")
    return perplexity_of(loaded, entries, window, stride, bos, narrator)


def perplexity_of(
    loaded: Loaded,
    entries: Iterator[Entry],
    window: int | None = None,
    stride: int | None = None,
    bos: Bos = "tokenizer",
    narrator: Narrator | None = None,
) -> Perplexity:
    """The same by a model that is loaded."""
    narrator = narrator or Narrator()
    width, stride = _window(loaded, window, stride)
    found = Perplexity(loaded.card.name, bos, width, stride, [], [])
    of_passages: list[Document] = []

    def passages() -> Iterator[Passage]:
        for entry in entries:
            ids = _ids(loaded, entry, bos, found, narrator)
            if ids is None:
                continue
            document = Document(
                entry.place, len(entry.text.encode()), len(re.split(r"\s+", entry.text)), len(ids), text=entry.text
            )
            found.documents.append(document)
            for begin, first, end in windows(len(ids), width, stride):
                of_passages.append(document)
                yield left_to_right(ids[begin:end], first - begin)

    total = 0
    for nth, scored in enumerate(score(loaded, passages(), SURPRISAL, together=together_of(loaded))):
        document = of_passages[nth]
        document.log_likelihood -= float(scored.scores.double().sum())
        document.n_scored += len(scored.scores)
        total += len(scored.scores)
        narrator.progress(Progress("scoring", total, sum(one.n_tokens for one in found.documents), "tokens"))
    if not found.documents:
        raise UserError("there is no text to score: name a file with texts of two tokens and more")
    narrator.done(f"{total} tokens of {len(found.documents)} documents scored")
    return found


def _window(loaded: Loaded, window: int | None, stride: int | None) -> tuple[int, int]:
    context = loaded.card.context
    width = min(window or context, context)
    if window is not None and window > context:
        raise UserError(f"--window {window} is more than {loaded.card.name} reads, which is {context} tokens")
    step = max(width // 2, 1) if stride is None else stride
    if step >= width:
        raise UserError(
            f"--stride {step} leaves no token before those that are scored in a window of {width}: give a stride "
            "below the window"
        )
    return width, step


def _ids(loaded: Loaded, entry: Entry, bos: Bos, found: Perplexity, narrator: Narrator) -> list[int] | None:
    """Those of a document; None where it is left out."""
    reason = entry.reason
    if not reason:
        try:
            ids = encoded(loaded.tokenizer, entry.text, bos)
            if len(ids) > 1:
                return ids
            reason = "it has one token at most, and nothing comes before the first"
        except UserError as refused:
            if bos == "with" and loaded.tokenizer.hf_tokenizer.bos_token_id is None:
                raise
            reason = str(refused)
    found.left_out.append(Entry(entry.place, "", reason))
    narrator.done(f"{entry.place} is left out: {reason}")
    return None


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


# --- Told ----------------------------------------------------------------------------------------------------

WORDS = {
    "tokenizer": "what the tokenizer puts before a text, if anything",
    "with": "the token for the beginning of a text",
    "without": "nothing",
}


def as_fields(found: Perplexity) -> dict[str, Any]:
    """For JSON. Information is in the unit that its name ends with."""
    return {
        "model": found.model,
        "begins_with": found.bos,
        "window_tokens": found.window,
        "stride_tokens": found.stride,
        **_fields(found.total),
        "documents": [{"document": one.place, **_fields(one)} for one in found.documents],
        "left_out": [{"document": one.place, "reason": one.reason} for one in found.left_out],
    }


def _fields(document: Document) -> dict[str, Any]:
    rates = {name: None if math.isinf(rate) else rate for name, rate in document.rates().items()}
    return {
        "tokens": document.n_tokens,
        "scored_tokens": document.n_scored,
        "words": document.n_words,
        "bytes": document.n_bytes,
        "log_likelihood_nats": document.log_likelihood,
        **rates,
    }


def report(found: Perplexity) -> str:
    """For people: the numbers of all documents, how they were had, and a table."""
    total = found.total
    rates = total.rates()
    rows: Sequence[tuple[str, str]] = [
        ("token perplexity", _number(rates["token_perplexity"])),
        ("word perplexity", _number(rates["word_perplexity"])),
        ("byte perplexity", _number(rates["byte_perplexity"])),
        ("bits per byte", _number(rates["bits_per_byte"])),
        ("log-likelihood", f"{total.log_likelihood:.6g} nats"),
    ]
    unscored = total.n_tokens - total.n_scored
    out = [*text_table.lines(rows), "", f"{total.n_scored} of {total.n_tokens} tokens scored"]
    if unscored:
        out[-1] += f": nothing comes before the first of {'each' if unscored > 1 else 'the'} document"
        out.append("words and bytes are counted in the whole text, that of the first token too")
    out += [
        f"each document begins with {WORDS[found.bos]}",
        f"read in windows of {found.window} tokens, {found.stride} apart: a token is scored behind "
        f"{found.window - found.stride} tokens at least, or all that there are",
    ]
    if len(found.documents) > 1:
        head = ("document", "tokens", "log-likelihood", "token perplexity", "word perplexity", "bits per byte")
        each = [(head), *(_row(one) for one in found.documents)]
        out += ["", *text_table.lines(each)]
    return "\n".join(out) + "\n"


def _row(document: Document) -> tuple[str, ...]:
    rates = document.rates()
    numbers = (rates[name] for name in ("token_perplexity", "word_perplexity", "bits_per_byte"))
    return (
        document.place, str(document.n_scored), f"{document.log_likelihood:.6g}", *map(_number, numbers)
    )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.5g}"
