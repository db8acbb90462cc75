"""Two models over the same texts, from files to a report and results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tui_entropy.analysis.comparison.report import ComparisonReport, report_of
from tui_entropy.analysis.comparison.results import results_of
from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.text_windows import WINDOW, TextWindow, text_windows
from tui_entropy.core.errors import UserError
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.comparison import Apart, Side, compare
from tui_entropy.engine.scoring.scorer import OffsetsOf
from tui_entropy.engine.scoring.texts import Bos, encoded
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.engine.steering.fixed import fixed_offsets
from tui_entropy.records.corpus.results import Results, SteeredModel
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.settings import Vector


@dataclass(frozen=True)
class Setting:
    """One side of a comparison."""

    spec: ModelSpec
    vectors: tuple[Vector, ...] = ()
    prompt: str = ""
    """What stands before every window of a text, and is read and not compared."""


class Comparison(NamedTuple):
    report: ComparisonReport
    windows: list[TextWindow]
    found: list[Apart]


def compare_texts(
    a: Loaded,
    b: Loaded,
    settings: tuple[Setting, Setting],
    texts: Sequence[str],
    bos: Bos = "tokenizer",
    max_tokens: int | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Comparison:
    """Raises UserError for vocabularies that differ, and where there is nothing to compare."""
    check_vocabularies(a, b)
    sides = [
        _side(loaded, setting, loaded.tokenizer.encode_as_it_is(setting.prompt) if setting.prompt else [])
        for loaded, setting in zip((a, b), settings, strict=True)
    ]
    before = max(len(side.prefix) for side in sides)
    width = min(WINDOW, min(a.card.context, b.card.context) - before)
    if width < 2:
        raise UserError(f"a prompt of {before} tokens leaves no room for a text: give a shorter one")
    found_windows = list(text_windows([encoded(a.tokenizer, text, bos) for text in texts], width, max_tokens))
    n_all = sum(one.n_scored for one in found_windows)
    if not n_all:
        raise UserError(
            "no token of these texts has another before it, so nothing can be compared: give a longer text"
        )
    exact = [together_of(loaded) for loaded in (a, b)]
    together = next((way for way in ("alone", "equal", "padded") if way in exact), "padded")
    found: list[Apart] = []
    n_done = 0
    for one in compare(sides[0].of(found_windows), sides[1].of(found_windows), together):  # type: ignore[arg-type]
        found.append(one)
        n_done += len(one.ids)
        progress(Progress("comparing", n_done, n_all, "tokens"))
    numbers = np.concatenate([one.numbers.double().numpy() for one in found])
    ids = np.concatenate([one.ids.numpy() for one in found])
    names = tuple(_name(loaded, setting) for loaded, setting in zip((a, b), settings, strict=True))
    return Comparison(report_of(names, numbers, ids), found_windows, found)  # type: ignore[arg-type]


class _Side(NamedTuple):
    loaded: Loaded
    prefix: Sequence[int]
    offsets: OffsetsOf | None

    def of(self, found: Sequence[TextWindow]) -> Side:
        passages = [one.behind(self.prefix) for one in found]
        return Side(self.loaded, passages, self.offsets)


def _side(loaded: Loaded, setting: Setting, prefix: Sequence[int]) -> _Side:
    if not setting.vectors:
        return _Side(loaded, prefix, None)
    offsets = fixed_offsets(loaded, setting.vectors)
    return _Side(loaded, prefix, lambda passage: offsets)


def check_vocabularies(a: Loaded, b: Loaded) -> None:
    """Raise UserError, with what differs, where a token of one is not the same token of the other."""
    if a is b:
        return
    one, other = (loaded.tokenizer.hf_tokenizer.get_vocab() for loaded in (a, b))
    if one == other:
        return
    differs = next(
        (token for token, at in sorted(one.items(), key=lambda pair: pair[1]) if other.get(token) != at), None
    )
    what = f"they have {len(one)} and {len(other)} tokens"
    if differs is not None:
        there = "is not there" if differs not in other else f"is {other[differs]}"
        what += f", and {differs!r}, {one[differs]} of the first, {there} in the second"
    raise UserError(
        f"{a.card.name} and {b.card.name} have vocabularies that differ ({what}), so what they say of a token cannot "
        "be compared: give two models of one tokenizer"
    )


def _name(loaded: Loaded, setting: Setting) -> str:
    parts = [
        loaded.card.name,
        loaded.card.dtype,
        *(f"{vector.name} {vector.strength:+g}" for vector in setting.vectors),
    ]
    if setting.prompt:
        parts.append("behind a prompt")
    return ", ".join(parts)


def compare_models(
    one: Setting, other: Setting, names: Sequence[str], texts: Sequence[str], limit: int | None, bos: Bos
) -> tuple[Any, Results]:
    """names: of the texts. A model that is on both sides is loaded once. Raises UserError."""
    narrator = Narrator()
    a = load(one.spec, narrator.progress)
    b = a if one.spec == other.spec else load(other.spec, narrator.progress)
    found = compare_texts(a, b, (one, other), texts, bos, limit, narrator.progress)
    narrator.done(f"{found.report.n} tokens compared")
    stems = ["stdin" if name == "-" else Path(name).name for name in names]
    models = SteeredModel(one.spec, one.vectors), SteeredModel(other.spec, other.vectors)
    return found.report, results_of(found.report, found.windows, found.found, stems, models, a.tokenizer)
