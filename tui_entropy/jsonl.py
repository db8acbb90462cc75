"""Events as JSON lines: one header, then one object per step. The unit stands in the name of a field."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from tui_entropy.records import ModelCard, Started, Step


def header(card: ModelCard, started: Started) -> bytes:
    """The first line: {"header": {...}}."""
    return msgspec.json.encode(
        {
            "header": {
                "model": card.name,
                "revision": card.revision,
                "source": card.source,
                "note": card.note,
                "device": card.device,
                "dtype": card.dtype,
                "seed": started.knobs.seed,
                "knobs": started.knobs,
                "vectors": [vector for vector in started.vectors if vector.on],
                "units": {
                    "entropy": "nats",
                    "varentropy": "nats^2",
                    "surprisal": "nats",
                    "logprob": "nats, model distribution",
                    "final_prob": "probability, final distribution",
                    "block_norm": "L2",
                },
                "n_layers": card.n_layers,
                "n_heads": card.n_heads,
                "layer_kinds": card.layer_kinds,
                "chat": started.chat,
                "system": started.system,
                "prompt": started.prompt,
                "prompt_ids": [piece.token_id for piece in started.pieces],
                "versions": card.versions,
            }
        }
    )


def step(record: Step) -> bytes:
    """One line for one written token."""
    return msgspec.json.encode(
        {
            "index": record.index,
            "position": record.position,
            "token_id": record.token_id,
            "text": record.text,
            "bytes": record.data.hex(),
            "entropy_nats": record.entropy,
            "varentropy_nats2": record.varentropy,
            "surprisal_nats": record.surprisal,
            "rank": record.rank,
            "candidates": [
                {
                    "id": candidate.token_id,
                    "text": candidate.data.decode("utf-8", "replace"),
                    "bytes": candidate.data.hex(),
                    "logprob": _finite(candidate.logprob),
                    "final_prob": candidate.final_prob,
                    "cut": candidate.cut,
                }
                for candidate in record.candidates
            ],
            "final_entropy_nats": record.final_entropy,
            "final_prob": record.final_prob,
            "survivors": dict(record.survivors),
            "head_entropy_nats": [[_finite(h) for h in row] for row in record.head_entropy.rows()],
            "visible_keys": record.visible_keys,
            "block_mean": record.block_mean,
            "block_std": record.block_std,
            "block_norm": record.block_norm,
            "seconds": {"forward": record.forward_seconds, "sample": record.sample_seconds, "at": record.at},
        }
    )


def _finite(value: float) -> Any:
    """JSON has no NaN and no infinity: unknown and impossible are null."""
    return value if math.isfinite(value) else None
