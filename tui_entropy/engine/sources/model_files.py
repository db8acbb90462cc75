"""The files of a model's folder that say what it is, looked at before a library believes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tui_entropy.core.errors import UserError

OBJECTS = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "processor_config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json",
)  # fmt: skip
"""Files that hold one JSON object each."""
MAX_FILE_BYTES = 2**26
"""Bytes of one of them."""
MAX_NESTING = 50
"""Levels of one within another."""
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings")
"""What a configuration counts, where it does, whatever a family calls it."""
PARTS = ("layers", "heads", "experts", "blocks", "groups")
"""In the names of numbers that count what is built one by one."""
MAX_PARTS = 2**16
"""Of them."""


def checked_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> object, of OBJECTS those that are there. Raises UserError for one that is something else."""
    return {name: _object(folder / name) for name in OBJECTS if (folder / name).is_file()}


def _object(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB, too much for what it is to hold: {AGAIN}")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be read: {AGAIN}") from None
    except ValueError as garbled:
        raise UserError(f"{path} is no JSON ({garbled}): {AGAIN}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {_kind(content)} where a JSON object was wanted: {AGAIN}")
    if any(depth > MAX_NESTING for depth in _depths(content)):
        raise UserError(f"{path} is nested more than {MAX_NESTING} levels deep: {AGAIN}")
    return content


AGAIN = "if it is damaged, fetch the model again"


def _depths(node: Any) -> Iterator[int]:
    waiting = [(node, 0)]
    while waiting:
        value, depth = waiting.pop()
        yield depth
        if isinstance(value, dict | list):
            inside = value.values() if isinstance(value, dict) else value
            waiting += [(one, depth + 1) for one in inside if isinstance(one, dict | list)]


def _kind(value: object) -> str:
    return {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")


def own_code(files: dict[str, dict[str, Any]], config_known: bool, tokenizer_known: bool) -> bool:
    """Whether it wants to be read by Python code that comes with it. known: whether transformers has code for it."""
    config, tokenizer = (bool(files.get(f"{name}config.json", {}).get("auto_map")) for name in ("", "tokenizer_"))
    return (config and not config_known) or (tokenizer and not tokenizer_known)


def check_sizes(config: Any, n_tensors: int, name: str) -> None:
    """Raise UserError for a configuration that no model can have. config: as transformers read it. n_tensors: of the
    weights, 0 where that is not known."""
    text = config.get_text_config(decoder=True)
    if isinstance(text, Mapping) or not hasattr(text, "to_dict"):
        raise UserError(_damaged(name, "the part that is of text is no configuration"))
    for what in SIZES:
        value: Any = getattr(text, what, None)
        whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
        if (what, value) == ("max_position_embeddings", -1):  # how XLNet says that it has no limit
            continue
        if isinstance(value, int | float | str) and not whole:
            raise UserError(_damaged(name, f"{what} is {str(value)[:40]}"))
    layers = getattr(text, "num_hidden_layers", None) or 0
    if n_tensors and layers > n_tensors:
        raise UserError(_damaged(name, f"it has {layers} blocks, and {n_tensors} tensors of weights"))
    for what, value in text.to_dict().items():
        if isinstance(value, int) and value > MAX_PARTS and any(part in what for part in PARTS):
            raise UserError(_damaged(name, f"{what} is {str(value)[:40]}"))


def checked_ids(value: Any, what: str, name: str) -> list[int]:
    """The ids of a setting that holds one, several or none. Raises UserError where they are no ids."""
    ids = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    for odd in (id for id in ids if not isinstance(id, int) or isinstance(id, bool)):
        raise UserError(_damaged(name, f"{what} is {str(odd)[:40]}, where the ids of tokens were wanted"))
    return ids


def _damaged(name: str, what: str) -> str:
    return f"the configuration of {name} is of no model ({what}); correct its config.json, or fetch the model again"
