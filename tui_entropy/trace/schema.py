"""The form of a trace file: its tables, and a step as columns and blobs and back. docs/trace.md explains each."""

from __future__ import annotations

from tui_entropy.metrics.comparison import COMPARISON
from tui_entropy.metrics.lens import LENS
from tui_entropy.metrics.registry import BY_NAME, METRICS, SCORE_COLUMNS
from tui_entropy.records.lens_rows import PACKED
from tui_entropy.records.quantised_rows import FORM

APPLICATION = 0x74756965
"""What `PRAGMA application_id` says: the letters 'tuie'."""
VERSION = 1
"""What `PRAGMA user_version` says. Within a version nothing is renamed; readers pass over what they do not know."""
SUFFIX = ".tui"
PAGE = 2**10
"""Bytes of a page. A row of three kilobytes fills small pages, and leaves large ones half empty."""
MAGIC = b"SQLite format 3\0"
"""The first bytes of every SQLite file."""

FIELDS = {
    "perplexity": "perplexity",
    "window_perplexity": "window perplexity",
    "final_entropy": "final entropy",
    "entropy_z": "entropy z",
    "attention_z": "attention z",
    "forward_seconds": "forward pass",
    "sample_seconds": "sampling",
}
"""A field of Step that is one number -> the metric that it is."""
SCALARS = {field: BY_NAME[name].column for field, name in FIELDS.items()} | {
    "final_prob": "final_prob",
    "at": "at_seconds",
    "mirostat_mu": "mirostat_mu_bits",
}
"""The same, and those that are no metric -> its column."""
OPTIONAL = {"entropy_z", "attention_z", "mirostat_mu"}
"""Of these fields unknown is None, of the others NaN."""

FIRST = tuple(metric.column for metric in METRICS if metric not in (*COMPARISON, *LENS))
ADDED = tuple(metric.column for metric in COMPARISON)
OF_LENS = tuple(metric.column for metric in LENS)
"""Columns that the first traces did not have: readers go by names, and `recovery` by the order where a file's own
names are damaged."""

STEP = {
    "seq": "INTEGER PRIMARY KEY",
    "run": "INTEGER",
    "step": "INTEGER",
    "wall": "REAL",
    "position": "INTEGER",
    "token_id": "INTEGER",
    "text": "TEXT",
    "bytes": "BLOB",
    **{one.column: "INTEGER" if one.kind == "count" else "REAL" for one in METRICS if one.column in FIRST},
    "final_prob": "REAL",
    "at_seconds": "REAL",
    "mirostat_mu_bits": "REAL",
    "state": "TEXT",
    "stages": "TEXT",
    "stray_blocks": "TEXT",
    "decision": "TEXT",
    **dict.fromkeys(ADDED, "REAL"),
    "bounds": "TEXT",
    **dict.fromkeys(OF_LENS, "REAL"),
}
LENS_FORM = PACKED.format
"""As the module struct of Python says it: layer, token id, rank, p, entropy, KL."""
BLOBS = {
    "blocks": "<f4",
    "attention": "<f4",
    "head_entropy_nats": "<f4",
    "head_varentropy_nats2": "<f4",
    "visible_keys": "<i4",
    "candidate_ids": "<i4",
    "candidate_logprobs_nats": "<f4",
    "candidate_cut": "<i1",
    "candidate_final_probs": "<f8",
    "stage_results": "<f4",
    "stage_probs": "<f4",
    "watched": "<f4",
    "shadow": "<f4",
    "attention_rows": FORM,
    "lens_rows": LENS_FORM,
}
"""A column of `arrays` -> what its numbers are: a numpy dtype, or the name of a quantisation. What is read along the
text comes first, where SQLite need not follow a chain of pages."""
LATER = {"steps": len(ADDED) + 1 + len(OF_LENS), "arrays": 4}
"""How many columns at the end of a table the first traces did not have."""
CODES = {"<f4": "f", "<f8": "d", "<i4": "i", "<i1": "b"}

TABLES = {
    "header": {"key": "TEXT PRIMARY KEY", "value": "TEXT"},
    "events": {
        "seq": "INTEGER PRIMARY KEY",
        "run": "INTEGER",
        "step": "INTEGER",
        "kind": "TEXT",
        "wall": "REAL",
        "json": "TEXT",
    },
    "branches": {
        "run": "INTEGER PRIMARY KEY",
        "parent_run": "INTEGER",
        "parent_step": "INTEGER",
        "name": "TEXT",
        "starred": "INTEGER",
        "prompt": "TEXT",
        "system": "TEXT",
        "chat": "INTEGER",
        "began": "REAL",
        "deleted": "INTEGER",
    },
    "steps": STEP,
    "arrays": {"seq": "INTEGER PRIMARY KEY"} | dict.fromkeys(BLOBS, "BLOB"),
    "vocabulary": {"token_id": "INTEGER PRIMARY KEY", "bytes": "BLOB", "text": "TEXT"},
    "prompt_tokens": {
        "run": "INTEGER",
        "position": "INTEGER",
        "token_id": "INTEGER",
        "text": "TEXT",
        "bytes": "BLOB",
    }
    | dict.fromkeys(SCORE_COLUMNS.values(), "REAL"),
}
RULES = {"steps": ["UNIQUE(run, step)"], "prompt_tokens": ["PRIMARY KEY(run, position)"]}


def statements() -> list[str]:
    """The SQL that makes an empty trace."""
    made = []
    for table, columns in TABLES.items():
        parts = [f"{name} {kind}" for name, kind in columns.items()] + RULES.get(table, [])
        made.append(f"CREATE TABLE {table} ({', '.join(parts)})")
    readable = ", ".join("step + 1 AS step" if name == "step" else name for name in STEP)
    return [*made, f"CREATE VIEW tokens AS SELECT {readable} FROM steps"]


def insertion(table: str) -> str:
    names = TABLES[table]
    return f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


NUMBERS = (*FIRST, "final_prob", "at_seconds", "mirostat_mu_bits")
"""Columns of `steps` that stand together."""
