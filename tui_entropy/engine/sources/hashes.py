"""Hashes of what a model is made of beside its weights, by which another one under the same name is told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tui_entropy.core.files import text_of

PASSING = ("transformers_version", "_name_or_path")
"""Keys of a configuration that say who wrote the file and where it lay, and nothing of the model."""
TOKENIZER = (
    "token*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "*.tiktoken",
    "*.model",
)
"""Names of the files that a tokenizer is read from."""


def config_hash(folder: Path) -> str:
    """Of `config.json`, in whatever order and space its entries stand. Raises OSError or ValueError."""
    config = json.loads(text_of(folder / "config.json"))
    known = {name: value for name, value in config.items() if name not in PASSING}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def tokenizer_hash(folder: Path) -> str:
    """Of the files of the tokenizer in a folder, names and bytes. Raises OSError."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in TOKENIZER for path in folder.glob(pattern) if path.is_file()}):
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
