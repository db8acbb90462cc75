"""The model as it is asked for and as it was loaded."""

from __future__ import annotations

from msgspec import Struct

from tui_entropy.records.bounds import Words

# --- What is known of a model --------------------------------------------------------------------------------


TRUSTED = ("logits", "sampling", "heads", "attention", "residual")
"""Groups of numbers that are shown, and that `doctor` can prove."""


class Trust(Struct, frozen=True, array_like=True):
    level: str
    """'exact', 'approximate', 'unchecked' (doctor has no second way to it here) or 'unavailable'."""
    reason: str
    """Half a sentence: what was compared and how far it was off, or why it is not exact."""


COLUMNS, ROWS = "columns", "rows"
"""The same row doubled and taken as columns, or each as the library takes it."""


DTYPES = "float32", "bfloat16", "float16"
"""What weights can be held in."""


class ModelSpec(Struct, frozen=True):
    """A model to load. `name` is a hub id, a folder, a GGUF file, or a name of the catalogue."""

    name: Words
    revision: Words | None = None
    device: Words = "auto"
    dtype: Words = "auto"
    trust_remote_code: bool = False
    graph: bool = False
    """Run decode steps as a CUDA graph where there is a device and a model for it."""
    products: Words = "auto"
    """How products of one row or two are taken: COLUMNS, ROWS, or whichever is faster here."""
    chat_template: Words | None = None
    """The name of the one that is meant, of a model that has several."""


class ModelCard(Struct, frozen=True):
    name: str
    revision: str | None
    source: str
    """Folder or file that the weights came from."""
    note: str
    """What a person must know of these weights, such as 'Q4_1, dequantised'. May be empty."""
    device: str
    dtype: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    vocab: int
    context: int
    layer_kinds: tuple[str, ...]
    """Per block: 'full', 'sliding', 'chunked', or the name of a kind without softmax attention ('linear', ...)."""
    windows: tuple[int | None, ...]
    """Per block: attention window in tokens, None for none."""
    attention: tuple[bool, ...]
    """Per block: whether it has attention rows to show."""
    has_chat_template: bool
    versions: dict[str, str]
    trust: dict[str, Trust] = {}
    """Of each group of numbers (TRUSTED): how far it can be believed on this model and machine. Beside them each
    'series NAME' and 'stage NAME' of which something else is known than of its group."""
    products: str = ""
    """How the products of one row or two are taken, COLUMNS or ROWS: the two round differently. Empty where nobody
    said."""
    requested: str = ""
    """ModelSpec.name that it was loaded by, which loads it again; a path is absolute. Empty where nobody said."""
    config_hash: str = ""
    """Of its configuration, as a file has it: see engine/sources/hashes.py. Empty where nobody said."""
    tokenizer_hash: str = ""
    """Of the files of its tokenizer, with the chat template. The same."""
