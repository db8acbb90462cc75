"""What is written of a run that is measured, from its journal alone: tables, pictures, predictions and a summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.corpus import plots, tables
from tui_entropy.analysis.corpus.layer_metrics import METRICS, LayerMetric, rounded
from tui_entropy.analysis.corpus.run_folder import Measured, RunFolder
from tui_entropy.core.errors import UserError
from tui_entropy.records.corpus.uncertainty import BY_NAME, ScoreSettings
from tui_entropy.records.events import Progress

Floats = npt.NDArray[np.float64]
Found = Mapping[int, Measured]
SCORES_TABLE = "scores.csv"


def write(folder: RunFolder, narrator: Narrator) -> dict[str, Any]:
    """Write everything but the summary, which is returned. Raises UserError where no sentence could be measured."""
    draws = plots.can_plot()
    if not draws:
        narrator.done(plots.MISSING)
    models = {name: _of_model(folder, name, draws, narrator) for name in folder.settings.models}
    if not any(one["sentences"] for one in models.values()):
        place, reason = next(why for one in models.values() for why in one["left_out"])
        raise UserError(f"no sentence could be measured by any model ({place}: {reason}): give others")
    settings = folder.settings
    scores = {} if settings.scores is None else {"scores": _scores(folder, settings.scores, narrator)}
    return {
        "run_id": settings.run_id,
        "mode": settings.mode,
        "temperature": settings.temperature,
        "use_sampling": settings.use_sampling,
        "seed": settings.seed if settings.use_sampling else None,
        "layer_weights": settings.layer_weights,
        "token_weights": settings.token_weights,
        "control_pattern": settings.pattern,
        "units": {metric.name: metric.title for metric in METRICS},
        "models": models,
        **scores,
        "left_out": [[one.place, one.reason] for one in settings.sentences if one.reason],
    }


def _scores(folder: RunFolder, wanted: ScoreSettings, narrator: Narrator) -> dict[str, Any]:
    """Write scores.csv, and tell the same: a row for each sentence under each model and analysis. Scores that a model
    has of no sentence are named."""
    settings, rows, missing = folder.settings, [], {}
    for name in settings.models:
        for analysis in settings.analyses:
            found = sorted((at, one.scores) for at, one in folder.measured(name, analysis).items() if one.scores)
            rows += [(name, analysis, settings.sentences[at].text, its) for at, its in found]
            without = [score for score in wanted.names if all(its.get(score) is None for _, its in found)]
            if without and found:
                missing[f"{name} {analysis}"] = without
                narrator.done(f"{name} {analysis} has no {', '.join(without)}: docs/analyze.md tells what each needs")
    table = ((name, analysis, text, [its.get(one) for one in wanted.names]) for name, analysis, text, its in rows)
    tables.write_scores(folder.path / SCORES_TABLE, wanted.names, table)
    return {
        "units": {name: BY_NAME[name].unit or "none" for name in wanted.names},
        "samples": wanted.samples,
        "sample_tokens": wanted.sample_tokens,
        "members": wanted.members,
        "noise": wanted.noise,
        "seed": wanted.seed,
        "without_value": missing,
        "sentences": [
            {"model": name, "analysis": analysis, "sentence": text, **its} for name, analysis, text, its in rows
        ],
    }


def _of_model(folder: RunFolder, name: str, draws: bool, narrator: Narrator) -> dict[str, Any]:
    settings = folder.settings
    found = {analysis: folder.measured(name, analysis) for analysis in settings.analyses}
    # A sentence is told where every analysis could measure it, so that all tables have the same.
    every = sorted(set.intersection(*({at for at, one in its.items() if one.values} for its in found.values())))
    for analysis, its in found.items():
        _analysis(folder, name, analysis, its, every, draws, narrator)
    if settings.mode == "comparative":
        _comparison(folder, name, found, every, draws, narrator)
    some = next(iter(found.values()))
    return {
        "model": settings.models[name].name,
        "sentences": len(every),
        "left_out": [[settings.sentences[at].place, one.reason] for at, one in sorted(some.items()) if one.reason],
        **{analysis: _means(its, every) for analysis, its in found.items()},
    }


def _analysis(
    folder: RunFolder, name: str, analysis: str, its: Found, every: list[int], draws: bool, narrator: Narrator
) -> None:
    path, sentences = folder.path / analysis, folder.settings.sentences
    for done, metric in enumerate(METRICS):
        rows = [(sentences[at].text, its[at].values[metric.name]) for at in every]
        tables.write_values(path / "data" / f"{name}_{metric.name}.csv", rows)
        narrator.progress(Progress(f"writing the {analysis} analysis of {name}", done + 1, len(METRICS)))
        if draws and (table := _table(its, every, metric)) is not None:
            plots.trajectories(path / "plots" / f"{name}_{metric.name}.png", f"{name} {analysis}", metric, table)
    tables.write_predictions(
        path / "predictions" / f"{name}_predictions.csv",
        ((sentences[at].text, token, p, analysis) for at in every for token, p in its[at].predictions),
    )


def _comparison(
    folder: RunFolder, name: str, found: Mapping[str, Found], every: list[int], draws: bool, narrator: Narrator
) -> None:
    path, sentences = folder.path / "comparative", folder.settings.sentences
    standard, control = found["standard"], found["control"]
    for done, metric in enumerate(METRICS):
        rows = [
            row
            for at in every
            for row in tables.compared(
                sentences[at].text, standard[at].values[metric.name], control[at].values[metric.name]
            )
        ]
        tables.write_values(path / "data" / f"{name}_{metric.name}_comparative.csv", rows)
        narrator.progress(Progress(f"writing the comparison of {name}", done + 1, len(METRICS)))
        both = [_table(its, every, metric) for its in (standard, control)]
        if draws and both[0] is not None and both[1] is not None:
            plots.comparison(path / "plots" / f"{name}_{metric.name}_comparison.png", name, metric, both[0], both[1])
            plots.differences(
                path / "plots" / f"{name}_{metric.name}_differences.png", name, metric, both[0], both[1]
            )
    tables.write_predictions(
        path / "predictions" / f"{name}_comparative_predictions.csv",
        (
            (sentences[at].text, token, p, analysis)
            for at in every
            for analysis, its in found.items()
            for token, p in its[at].predictions
        ),
    )


def _table(its: Found, every: list[int], metric: LayerMetric) -> Floats | None:
    """(sentences, layers); None where nothing is known, as of attention in models without it."""
    table = np.array([its[at].values[metric.name] for at in every], dtype=np.float64)
    return table if table.size and np.isfinite(table).any() else None


def _means(its: Found, every: list[int]) -> dict[str, Any]:
    """Metric -> the mean and the standard deviation over the sentences, for each layer; null is unknown."""
    told: dict[str, Any] = {}
    for metric in METRICS:
        table = _table(its, every, metric)
        if table is not None:
            told[metric.name] = {
                "mean": list(map(rounded, table.mean(0).tolist())),
                "std": list(map(rounded, table.std(0).tolist())),
            }
    return told
