"""The command analyze: sentences measured layer by layer, with tables, plots and predictions."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.groups import with_shared_options
from tui_entropy.cli.options import number, prepare_engine
from tui_entropy.cli.texts.perplexity import Field
from tui_entropy.cli.texts.score_options import Members, Samples, SampleTokens, Scores, score_settings
from tui_entropy.cli.usage import option_check
from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import put
from tui_entropy.records.model import ModelSpec

if TYPE_CHECKING:
    from tui_entropy.analysis.corpus.config import Config
    from tui_entropy.analysis.corpus.entries import Entry


def _temperature(value: float) -> None:
    number(value)
    if not value > 0:
        raise UserError(f"--temperature {value} is not above 0: give a number that is")


@app.command(epilog=EXIT_CODES)
@with_shared_options
def analyze(
    *,
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="Sentences: each line of a text, of .jsonl or of a table (.csv, .tsv). - reads lines from stdin. "
            "[default: a sample]",
        ),
    ] = None,
    field: Field = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Settings in the format of llm_entropy: analysis, control, models. What is said here goes before.",
        ),
    ] = None,
    num_sentences: Annotated[
        int | None,
        typer.Option(min=1, max=10**9, help="Sentences at most. [default: 10 of the sample, all of a file]"),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            max=1e6, help="What logits are divided by, of every layer and of predictions. [default: 1]",
            callback=option_check(lambda value: value is None or _temperature(value)),
        ),
    ] = None,
    use_sampling: Annotated[
        bool | None,
        typer.Option("--use-sampling/--no-sampling", help="Predict a token that is drawn, not the likeliest five."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of what is drawn.")] = 0,
    control_vector: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Measure under this vector: .pt (a tensor; nothing of the file is run), .gguf or "
            ".safetensors.",
        ),
    ] = None,
    compare_control: Annotated[
        bool | None,
        typer.Option("--compare-control/--no-compare", help="Measure with the vector and without, and tell both."),
    ] = None,
    scores: Scores = None,
    samples: Samples = 10,
    sample_tokens: SampleTokens = 16,
    members: Members = 8,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where run_... is made. [default: analysis_outputs]"),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Go on with a run_... that was interrupted; nothing else is said then."),
    ] = None,
    spec: ModelSpec,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as one JSON object on stdout.")] = False,
) -> None:  # fmt: skip
    """Measure sentences layer by layer: entropy, surprisal, margin, KL, attention; standard, controlled, compared.

    Models that fill in masked tokens (BERT-like) are read too: each token is masked by itself, so that their numbers
    are of the pseudo-log-likelihood.
    """
    from tui_entropy.analysis.corpus.entries import check

    for name in files or []:
        check(name)
    prepare_engine()
    from tui_entropy.analysis.corpus import analyze as analysis
    from tui_entropy.analysis.corpus.config import Config, read_config
    from tui_entropy.analysis.corpus.run_folder import RunFolder
    from tui_entropy.engine.scoring.control import read_vector

    if resume is not None:
        folder = RunFolder.open(resume)
        _tell(lambda: analysis.go_on(folder), folder.path, as_json)
        return
    known = Config() if config is None else read_config(config)
    options, control = known.analysis, known.analysis.control
    vector = None if control_vector is None else read_vector(control_vector)
    pattern = control.control_vectors.pattern() if control.enabled and control.control_vectors else None
    settings = analysis.settings_of(
        _entries(files or [], field, num_sentences or options.num_sentences),
        options.temperature if temperature is None else temperature,
        options.use_sampling if use_sampling is None else use_sampling,
        vector is not None,
        options.compare_control if compare_control is None else compare_control,
        _models(context, known, spec),
        seed,
        layer_weights=control.layer_weights if control.enabled else None,
        token_weights=control.token_weights if control.enabled else None,
        pattern=pattern if vector is None else None,
        scores=None if scores is None else score_settings(scores, samples, sample_tokens, members, seed),
    )
    parent = output or Path(known.output_dir or analysis.OUTPUT)
    _tell(lambda: analysis.start(settings, vector, parent), parent / f"run_{settings.run_id}", as_json)


def _entries(files: list[str], field: str | None, n: int | None) -> list[Entry]:
    from tui_entropy.analysis.corpus.analyze import N_SAMPLE, SAMPLE
    from tui_entropy.analysis.corpus.entries import sentences

    if not files:
        files, n = [str(SAMPLE)], n or N_SAMPLE
    return list(itertools.islice((entry for name in files for entry in sentences(name, field)), n))


def _models(context: typer.Context, known: Config, spec: ModelSpec) -> dict[str, ModelSpec] | ModelSpec:
    """Those of the configuration, each as the options say, unless one is named on the command line."""
    from msgspec.structs import replace

    source = context.get_parameter_source("model")
    if not known.models or (source is not None and source.name == "COMMANDLINE"):
        return spec
    return {name: replace(spec, name=entry.name) for name, entry in known.models.items()}


def _tell(run: Any, folder: Path, as_json: bool) -> None:
    from tui_entropy.core.streams import say

    try:
        found = run()
    except BaseException:
        if (folder / ".journal").exists():
            say(f"what is measured is kept: go on with tui-entropy analyze --resume {folder}")
        raise
    if not as_json:
        say(f"tui-entropy results {found.output_dir} shows its curves and sentences on a screen")
    put(
        json.dumps(found.summary, ensure_ascii=False).encode() + b"\n"
        if as_json
        else f"{found.output_dir}\n".encode()
    )
