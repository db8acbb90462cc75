"""Confidence over the tokens of texts that are there: what the model held for most probable, against what came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from tui_entropy.analysis.calibration.pairs import Pairs, Place
from tui_entropy.analysis.calibration.summary import (
    TRUE_LABEL,
    Calibration,
    CalibrationReport,
    TemperatureSummary,
    calibration,
)
from tui_entropy.analysis.text_windows import WINDOW, TextWindow, text_windows
from tui_entropy.core.errors import UserError
from tui_entropy.engine.calibration.confidence import CONFIDENCE, Confidences, confidences, logit_rows
from tui_entropy.engine.calibration.temperature import fit_temperature
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.scoring.scorer import Wanted, score
from tui_entropy.engine.scoring.texts import Bos, encoded
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.records.events import Progress

MAX_FITTED = 1 << 15
"""Tokens that a temperature is fitted on at most: what is kept of each is a vector."""


class JudgedTexts(NamedTuple):
    report: CalibrationReport
    pairs: dict[str, Pairs]
    """Of each set of the report, by its name."""
    windows: list[TextWindow]
    """A place is one in these: what the model had read is what can be opened."""


def judge_texts(
    loaded: Loaded,
    texts: Sequence[str],
    n_bins: int,
    bos: Bos = "tokenizer",
    max_tokens: int | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> JudgedTexts:
    """Read texts and judge every token of them. max_tokens: of all texts together, from their beginnings.

    Every other window is what a temperature is fitted on, and the rest what it is tried on. Raises UserError where
    there is nothing to judge.
    """
    ids = [encoded(loaded.tokenizer, text, bos) for text in texts]
    wins = list(text_windows(ids, min(WINDOW, loaded.card.context), max_tokens))
    n_all = sum(win.n_scored for win in wins)
    if not n_all:
        raise UserError(
            "no token of these texts has another before it, so there is nothing to judge: give a longer text"
        )
    parts: list[Pairs] = []
    kept: list[Tensor] = []
    fitted_on: list[Passage] = []
    tried: list[tuple[int, Tensor]] = []
    n_done = 0
    found = score(
        loaded, [win.passage for win in wins], Wanted(CONFIDENCE, residual=True), together=together_of(loaded)
    )
    for at, (win, its) in enumerate(zip(wins, found, strict=True)):
        parts.append(_pairs(at, win, Confidences.of(its.scores)))
        assert its.residual is not None
        if at % 2 == 0 and sum(map(len, kept)) < MAX_FITTED:
            kept.append(its.residual.clone())
            fitted_on.append(win.passage)
        elif at % 2 and sum(len(one) for _, one in tried) < MAX_FITTED:
            tried.append((at, its.residual.clone()))
        n_done += len(its.scores)
        progress(Progress("reading", n_done, n_all, "tokens"))
    every = Pairs.together(parts)
    sets = [calibration("as it is", every, n_bins, "token")]
    pairs = {"as it is": every}
    temperatures = []
    if tried:
        progress(Progress("fitting a temperature"))
        fit = fit_temperature(logit_rows(loaded, kept, [one.targets for one in fitted_on]))
        before = Pairs.together(parts[at] for at, _ in tried)
        after = Pairs.together(
            _pairs(at, wins[at], confidences(loaded, residual, wins[at].passage.targets, fit.temperature))
            for at, residual in tried
        )
        for name, half in (("other half, as it is", before), (f"other half, T {fit.temperature:.3f}", after)):
            sets.append(calibration(name, half, n_bins, "token"))
            pairs[name] = half
        temperatures.append(
            TemperatureSummary(
                fit.temperature,
                sum(map(len, kept)),
                len(after),
                float(before.surprisal.mean()),
                float(after.surprisal.mean()),
            )
        )
    true = every.of_true_label
    sets.append(calibration("true token", true, n_bins, "token", TRUE_LABEL))
    pairs["true token"] = true
    report = CalibrationReport(loaded.card.name, "tokens", n_bins, tuple[Calibration, ...](sets), tuple(temperatures))
    return JudgedTexts(report, pairs, wins)


def _pairs(at: int, win: TextWindow, found: Confidences) -> Pairs:
    targets = np.asarray(win.ids[win.first :])
    said = found.said.numpy()
    places = [Place(at, win.first + n, int(one)) for n, one in enumerate(said)]
    groups = np.full(len(targets), win.text)
    return Pairs(
        found.confidence.numpy(), said == targets, found.surprisal.numpy(), found.brier.numpy(), groups, places
    )
