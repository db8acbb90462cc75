"""The analysis of many sentences, layer by layer: standard, under a control vector, or both compared.

What it takes and writes is what llm_entropy (FinchMF, 2025) takes and writes; docs/analyze.md tells each number, and
where it differs from that program's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from safetensors.torch import load_file, save_file

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.analysis.corpus import results
from tui_entropy.analysis.corpus.entries import Entry
from tui_entropy.analysis.corpus.layer_metrics import LENS, rounded, values_of
from tui_entropy.analysis.corpus.run_folder import Measured, RunFolder, RunSettings, Sentence, label, new_run_id
from tui_entropy.core.errors import UserError
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring import control
from tui_entropy.engine.scoring.passage import Passage
from tui_entropy.engine.scoring.predictions import drawn, likeliest
from tui_entropy.engine.scoring.scorer import OffsetsOf, Wanted
from tui_entropy.engine.scoring.texts import passage_of, score_passages, text_scores
from tui_entropy.engine.steering.control_vector import ControlVector, save_safetensors
from tui_entropy.engine.uncertainty.sentences import ScoredSentence, uncertainty_scores
from tui_entropy.metrics.registry import BY_FIELD
from tui_entropy.records.corpus.scores import TextScores
from tui_entropy.records.corpus.uncertainty import ScoreSettings, score_names
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelSpec

OUTPUT = "analysis_outputs"
POOL = 32
"""Sentences that are batched together. What a run comes to follows from it: a pool of which one is missing is read as
a whole again."""
N_PREDICTIONS = 5
N_SAMPLE = 10
"""Sentences of the sample that are taken where nobody says how many."""
SAMPLE = Path(__file__).with_name("sample_sentences.txt")


@dataclass(frozen=True)
class AnalysisRun:
    """What an analysis came to."""

    run_id: str
    mode: str
    """'standard', 'control' or 'comparative'."""
    output_dir: Path
    """The folder run_{timestamp}_{id}."""
    summary: Mapping[str, Any]
    """What summary.json has."""


def run_analysis(
    num_sentences: int | None = None,
    temperature: float = 1.0,
    use_sampling: bool = False,
    control_vector: Any = None,
    layer_weights: Iterable[float] | None = None,
    token_weights: Iterable[float] | None = None,
    compare_control: bool = False,
    *,
    sentences: Iterable[str] | None = None,
    models: str | ModelSpec | Sequence[str | ModelSpec] | Mapping[str, str | ModelSpec] = "smollm2",
    output_dir: str | Path = OUTPUT,
    seed: int = 0,
    scores: str | ScoreSettings | None = None,
    narrator: Narrator | None = None,
) -> AnalysisRun:
    """Measure sentences layer by layer, and write tables, plots and predictions.

    num_sentences: how many of the sentences, 10 of the sample by default and all of those that are given;
    temperature: what logits are divided by, those of layers too; use_sampling: draw the predicted token instead of
    telling the likeliest five. control_vector: (d_model,) or (n_layers, d_model) numbers of any library, a path of a
    .pt, .gguf or .safetensors file, or a ControlVector; layer_weights, token_weights: factors of it by block and by
    token, stretched to as many as there are. compare_control: measure with it and without. models: names as of
    `--model`, perhaps by the name that files shall have. scores: of uncertainty, such as 'all' or
    'Perplexity,SemanticEntropy'. Raises UserError.
    """
    given = SAMPLE.read_text(encoding="utf-8").splitlines() if sentences is None else list(sentences)
    n = N_SAMPLE if sentences is None and num_sentences is None else num_sentences
    entries = [Entry(f"sentence {number}", str(text)) for number, text in enumerate(given[:n], 1)]
    vector: control.Given | None = None
    if isinstance(control_vector, str | Path):
        vector = control.read_vector(Path(control_vector))
    elif control_vector is not None:
        vector = control.as_vector(control_vector, "given")
    settings = settings_of(
        entries, temperature, use_sampling, vector is not None, compare_control, models, seed,
        layer_weights=layer_weights, token_weights=token_weights,
        scores=ScoreSettings(score_names(scores), seed=seed) if isinstance(scores, str) else scores,
    )  # fmt: skip
    return start(settings, vector, Path(output_dir), narrator)


def settings_of(
    entries: Sequence[Entry],
    temperature: float,
    use_sampling: bool,
    controlled: bool,
    compare_control: bool,
    models: str | ModelSpec | Sequence[str | ModelSpec] | Mapping[str, str | ModelSpec],
    seed: int,
    *,
    layer_weights: Iterable[float] | None = None,
    token_weights: Iterable[float] | None = None,
    pattern: tuple[float, ...] | None = None,
    scores: ScoreSettings | None = None,
) -> RunSettings:
    """Raises UserError for what cannot be analysed."""
    if compare_control and not (controlled or pattern):
        raise UserError("there is nothing to compare with: give a control vector, or leave the comparison out")
    if not 0 < temperature < float("inf"):
        raise UserError(f"the temperature is {temperature}, and a number above 0 was wanted")
    if all(entry.reason for entry in entries):
        why = f" ({entries[0].place}: {entries[0].reason})" if entries else ""
        raise UserError(f"there is no sentence to analyse{why}: give a file with one in each line")
    weights = [None if one is None else tuple(map(float, one)) for one in (layer_weights, token_weights)]
    for name, its in zip(("layer_weights", "token_weights"), weights, strict=True):
        if its is not None and not (its and np.isfinite(its).all()):
            raise UserError(f"{name} are no numbers: give at least one, all of them finite")
    mode = "comparative" if compare_control else "control" if controlled or pattern else "standard"
    return RunSettings(
        new_run_id(), mode, _named(models), temperature, use_sampling, seed, weights[0], weights[1], pattern,
        tuple(Sentence(entry.place, entry.text, entry.reason) for entry in entries), scores,
    )  # fmt: skip


def _named(models: Any) -> dict[str, ModelSpec]:
    """By the names that files have of them."""
    if isinstance(models, str | ModelSpec):
        models = [models]
    if not isinstance(models, Mapping):
        found: dict[str, Any] = {}
        for one in models:
            found[label(one.name if isinstance(one, ModelSpec) else one, list(found))] = one
        models = found
    named: dict[str, ModelSpec] = {}
    for name, one in models.items():
        named[label(str(name), list(named))] = one if isinstance(one, ModelSpec) else ModelSpec(one)
    if not named:
        raise UserError("no model is named: give at least one")
    return named


def start(
    settings: RunSettings, vector: control.Given | None, parent: Path, narrator: Narrator | None = None
) -> AnalysisRun:
    """Make the folder of a run, and run it. Raises UserError."""
    folder = RunFolder.create(parent, settings)
    if isinstance(vector, ControlVector):
        save_safetensors(vector, folder.vector)
    elif vector is not None:
        import torch

        save_file({"vector": torch.from_numpy(np.ascontiguousarray(vector))}, folder.vector)
    try:
        return go_on(folder, narrator)
    except BaseException:
        folder.remove_if_empty()
        raise


def go_on(folder: RunFolder, narrator: Narrator | None = None) -> AnalysisRun:
    """Measure what is missing, and write all that is wanted. Raises UserError."""
    narrator = narrator or Narrator()
    settings = folder.settings
    for sentence in settings.sentences:
        if sentence.reason:
            narrator.done(f"{sentence.place} is left out: {sentence.reason}")
    for name, spec in settings.models.items():
        if any(_missing(folder, name, analysis) for analysis in settings.analyses):
            _measure(folder, name, spec, narrator)
    summary = results.write(folder, narrator)
    folder.finish(summary)
    narrator.done(f"written to {folder.path}")
    return AnalysisRun(settings.run_id, settings.mode, folder.path, summary)


def _missing(folder: RunFolder, name: str, analysis: str) -> list[int]:
    """Indices of the sentences that are not in the journal."""
    have = folder.measured(name, analysis)
    return [at for at, one in enumerate(folder.settings.sentences) if not one.reason and at not in have]


def _measure(folder: RunFolder, name: str, spec: ModelSpec, narrator: Narrator) -> None:
    """All analyses of a model, pool by pool."""
    settings = folder.settings
    loaded = load(spec, narrator.progress, masked=True)
    narrator.done(f"{name} is {loaded.card.name} · {loaded.card.device} {loaded.card.dtype}")
    controlled = _offsets(folder, loaded) if "control" in settings.analyses else None
    indices = [at for at, one in enumerate(settings.sentences) if not one.reason]
    pools = [indices[at : at + POOL] for at in range(0, len(indices), POOL)]
    for analysis in settings.analyses:
        missing = set(_missing(folder, name, analysis))
        done = len(indices) - len(missing)
        for pool in pools:
            if missing.isdisjoint(pool):
                continue
            narrator.progress(Progress(f"{analysis} analysis of {name}", done, len(indices), "sentences"))
            lines = _pool(loaded, settings, pool, controlled, analysis)
            folder.keep(name, analysis, [line for line in lines if line.index in missing])
            done += len(missing.intersection(pool))
            for line in lines:
                if line.reason and analysis == settings.analyses[0]:
                    narrator.done(f"{settings.sentences[line.index].place} is left out: {line.reason}")
        narrator.progress(Progress(f"{analysis} analysis of {name}", len(indices), len(indices), "sentences"))


def _pool(
    loaded: Loaded, settings: RunSettings, pool: Sequence[int], controlled: OffsetsOf | None, analysis: str
) -> list[Measured]:
    """What is found of some sentences, in their order. controlled: what the vector adds, in any analysis."""
    offsets = controlled if analysis == "control" else None
    predict = drawn(settings.seed) if settings.use_sampling else likeliest(N_PREDICTIONS)
    wanted = Wanted(
        scores=(BY_FIELD["surprisal"],), lens=tuple(BY_FIELD[name] for name in LENS), attention=True, hidden=True,
        predict=predict, temperature=settings.temperature,
    )  # fmt: skip
    passages: dict[int, Passage] = {}
    refused: list[Measured] = []
    for at in pool:
        try:
            passages[at] = passage_of(loaded, settings.sentences[at].text)
        except UserError as reason:
            refused.append(Measured(at, reason=str(reason)))
    found = score_passages(loaded, passages.values(), wanted, offsets)
    lines = [
        _line(at, text_scores(loaded, passage, its, wanted))
        for (at, passage), its in zip(passages.items(), found, strict=True)
    ]
    if settings.scores is not None:
        asked = [ScoredSentence(passage) for passage in passages.values()]
        members = [] if controlled is None else [None, controlled]
        values = uncertainty_scores(loaded, asked, settings.scores, offsets, members, settings.temperature)
        lines = [replace(line, scores=_rounded(its)) for line, its in zip(lines, values, strict=True)]
    return sorted([*lines, *refused], key=lambda line: line.index)


def _rounded(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else rounded(value) for name, value in scores.items()}


def _line(index: int, scores: TextScores) -> Measured:
    assert scores.layers is not None
    told = [
        (one.token_bytes.decode("utf-8", "replace"), rounded(one.probability) or 0.0) for one in scores.predictions
    ]
    return Measured(index, values_of(scores.layers), told)


def _offsets(folder: RunFolder, loaded: Loaded) -> OffsetsOf:
    settings = folder.settings
    vector: control.Given
    if settings.pattern is not None:
        vector = control.tiled(settings.pattern, loaded.card.d_model)
    else:
        plain = load_file(folder.vector).get("vector")
        vector = control.read_vector(folder.vector) if plain is None else plain.numpy()
    return control.weighted(loaded, vector, settings.layer_weights, settings.token_weights)


def changed_models(settings: RunSettings, **fields: Any) -> RunSettings:
    """The same with other fields in the names of its models, such as their device."""
    return replace(settings, models={name: replace(spec, **fields) for name, spec in settings.models.items()})
