"""INIF 0.0.1, the INterpretability Interchange Format of NDIF: one JSON document, one sample.

Tokens carry the columns of the CSV and their candidates as extra fields; prompt, text, what each run of a lineage of
branches wrote and everything that was changed are spans. The heads are left out: one document is read whole. Unknown
is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from tui_entropy import __version__
from tui_entropy.core.dates import moment
from tui_entropy.core.escape import plain_json
from tui_entropy.export.columns import COLUMNS, rows
from tui_entropy.export.recorded_run import Recording
from tui_entropy.records.step import Candidate


def write(recording: Recording, file: BinaryIO) -> None:
    document = {"metadata": _metadata(recording), "samples": [_sample(recording)]}
    file.write(plain_json(msgspec.json.encode(document)))


def _metadata(recording: Recording) -> dict[str, Any]:
    card, started = recording.card, recording.started
    return {
        "model": _present(
            name=card.name,
            revision=card.revision,
            generation_config=started.knobs,
            loading_config={"dtype": card.dtype, "device": card.device, "note": card.note},
        ),
        "inif_version": "0.1",
        "packages": {**card.versions, "tui_entropy": __version__},
        "created_at": began.isoformat() if (began := moment(recording.began)) else None,
        "total_samples": 1,
        "extra": {"vectors": [vector for vector in started.vectors if vector.on], "units": "nats"},
    }


def _sample(recording: Recording) -> dict[str, Any]:
    started, log = recording.started, recording.log
    prompt, written = len(started.prompt_tokens), len(log.steps)
    tokens = list(_tokens(recording))
    return {
        "id": f"run {started.run}",
        "tokens": tokens,
        "texts": [started.prompt, "".join(log.steps.texts)],
        "spans": [
            {"name": "prompt", "positions": list(range(prompt))},
            {"name": "written", "positions": list(range(prompt, prompt + written))},
            *_runs(recording),
            *_changes(recording),
        ],
        "metadata": _present(system=started.system, chat=started.chat, end=log.note),
        "total_time": log.steps.at[-1] if written else 0.0,
        "input_tokens": prompt,
        "output_tokens": written,
    }


def _tokens(recording: Recording) -> Iterator[dict[str, Any]]:
    for step, row in rows(recording):
        token = dict(zip(COLUMNS, row, strict=True))
        token |= {"id": token.pop("token_id"), "token": token.pop("text"), "bytes": token["bytes"].hex()}
        if step is not None:
            token |= {"role": "assistant", "candidates": list(map(_candidate, step.candidates))}
        yield _present(**token)


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return _present(
        id=candidate.token_id,
        token=candidate.token_bytes.decode("utf-8", "replace"),
        logprob=candidate.logprob,
        final_prob=candidate.final_prob,
        cut=candidate.cut,
    )


def _runs(recording: Recording) -> Iterator[dict[str, Any]]:
    """A span for what each run wrote, where there are several."""
    prompt = len(recording.started.prompt_tokens)
    if len(recording.lineage) > 1:
        for run, first, last in recording.lineage:
            yield {"name": f"run {run}", "positions": list(range(prompt + first, prompt + last)), "tags": ["branch"]}


def _changes(recording: Recording) -> Iterator[dict[str, Any]]:
    """A span at the first token that something acts on."""
    prompt = len(recording.started.prompt_tokens)
    for index, label in recording.labels.items():
        if index < len(recording.log.steps):
            yield {"name": label, "positions": [prompt + index], "tags": ["changed"]}


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
