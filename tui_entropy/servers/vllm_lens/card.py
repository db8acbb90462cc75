"""The card of a model whose inside is told, and what is known of its steps then."""

from __future__ import annotations

from msgspec.structs import replace

from tui_entropy.records.model import ModelCard, Trust
from tui_entropy.servers.vllm_lens.described import blocks_of
from tui_entropy.servers.vllm_lens.hook_plan import ModelInside

NOT_ASKED = "not read"
"""The kind of a block whose heads are not measured."""
MEASURED_THERE = "measured inside vLLM by a hook of this program"


KNOWN_OF_BLOCKS = ("residual norm", "residual mean", "residual std")
KNOWN_OF_HEADS = (
    "head entropy", "head varentropy", "entropy spread", "head disagreement", "interaction strength",
)  # fmt: skip
KNOWN_OF_LENS = ("commitment layer", "lens entropy", "lens kl")


def known_inside(model: ModelInside) -> tuple[str, ...]:
    """Metrics that a step has then."""
    heads, lens = KNOWN_OF_HEADS if model.has_heads else (), KNOWN_OF_LENS if model.norm else ()
    return (*KNOWN_OF_BLOCKS, *heads, *lens)


def card_with_inside(card: ModelCard, model: ModelInside, said: str) -> ModelCard:
    """said: `ServerSpec.lens`."""
    blocks = blocks_of(said, model)
    is_told = tuple(b in blocks for b in range(1, model.n_layers + 1))
    told = Trust("unchecked", MEASURED_THERE)
    heads = Trust("unchecked", f"{MEASURED_THERE}, of blocks {', '.join(map(str, blocks))}")
    return replace(
        card, dtype=model.dtype, n_layers=model.n_layers, n_heads=model.n_heads, n_kv_heads=model.n_kv_heads,
        d_model=model.d_model, vocab=card.vocab or model.vocab, 
        layer_kinds=tuple("full" if told else NOT_ASKED for told in is_told),
        windows=(None,) * model.n_layers, attention=is_told,
        trust={**card.trust, "residual": told, **({"heads": heads} if blocks else {})},
    )  # fmt: skip
