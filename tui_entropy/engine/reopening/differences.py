"""What differs between a recording and what is there to go on with it: the model, its tokenizer, its vectors."""

from __future__ import annotations

from collections.abc import Iterator

from tui_entropy.core.errors import UserError
from tui_entropy.records.model import ModelCard

SHAPE = {"n_layers": "blocks", "n_heads": "heads", "vocab": "tokens"}
"""Fields of a card that every step has its shape from, and what they count."""
ASKED = {
    "name": "model",
    "revision": "revision",
    "config_hash": "configuration hash",
    "tokenizer_hash": "tokenizer hash",
}
"""Fields of a card that a person is asked about where they differ, and what they are called."""
MAX_DIGITS = 8
"""Of a hash, as a person is shown it."""


def check_shape(then: ModelCard, now: ModelCard) -> None:
    """Raise UserError for a model in which the steps of a recording have no place."""
    for name, what in SHAPE.items():
        if (was := getattr(then, name)) != (there := getattr(now, name)):
            raise UserError(
                f"the recording was made with {then.name}, which has {was} {what}, and {now.name} has {there}: name "
                "the model that it was made with, by --model"
            )


def of_model(then: ModelCard, now: ModelCard) -> Iterator[str]:
    """Half a sentence for each way in which the model differs. What nobody said of one of them is passed over."""
    for name, what in ASKED.items():
        was, there = getattr(then, name), getattr(now, name)
        if was and there and was != there:
            digits = MAX_DIGITS if name.endswith("hash") or name == "revision" else None
            yield f"its {what} was {was[:digits]} and is {there[:digits]}"
