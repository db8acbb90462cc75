"""The card of a model that does not exist."""

from tui_entropy.records.model import ModelCard

CARD = ModelCard(
    name="tiny",
    revision=None,
    source="/models/tiny",
    note="",
    device="cpu",
    dtype="float32",
    n_layers=3,
    n_heads=2,
    n_kv_heads=1,
    d_model=8,
    vocab=200,
    context=64,
    layer_kinds=("full", "sliding", "linear"),
    windows=(None, 8, None),
    attention=(True, True, False),
    has_chat_template=False,
    versions={"torch": "2"},
)
