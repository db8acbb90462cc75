"""A control vector from pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tui_entropy.engine.architecture.sites import first_of
from tui_entropy.engine.steering.control_vector import ControlVector

if TYPE_CHECKING:
    from tui_entropy.engine.models.loaded import Loaded


# --- Making one ----------------------------------------------------------------------------------------------------


def train(
    loaded: Loaded, name: str, pairs: Sequence[tuple[str, str]], blocks: Sequence[int], push: float
) -> ControlVector:
    """A vector that leads from the second answer of each pair to the first.

    Each answer is put into the model's mouth, as its turn of a chat where it has a template; a block's output is
    averaged over the answer's tokens, and the direction is the mean over pairs of the difference of the two. Its
    length is `push` times the mean norm of those averages, so that strength 1 does about as much in every block,
    however large the contrast is there. Source: Rimsky et al. 2024, contrastive activation addition, with all tokens
    of the answer in place of its letter.

    blocks: 1-based. Reads the blocks themselves, since hidden_states[-1] has been through the final norm.
    """
    opening = loaded.tokenizer.encode("Say something.", None, chat=loaded.card.has_chat_template)
    means = torch.stack([torch.stack([_answer_states(loaded, opening, text, blocks) for text in p]) for p in pairs])
    difference = (means[:, 0] - means[:, 1]).mean(0)  # (blocks, d_model)
    length = push * means.norm(dim=-1).mean((0, 1))
    directions = difference * (length / difference.norm(dim=-1)).unsqueeze(-1)
    return ControlVector(name, {block: row.numpy() for block, row in zip(blocks, directions, strict=True)})


@torch.inference_mode()
def _answer_states(loaded: Loaded, opening: list[int], answer: str, blocks: Sequence[int]) -> Tensor:
    """(blocks, d_model) float32 mean output of each block over the answer's tokens."""
    ids = opening + loaded.tokenizer.hf_tokenizer(answer, add_special_tokens=False)["input_ids"]
    outputs: list[Tensor] = []

    def keep(block: torch.nn.Module, inputs: object, output: Tensor | Sequence[Tensor]) -> None:
        hidden = first_of(output)
        outputs.append(hidden[0, len(opening) :].float().mean(0).cpu())

    hooks = [loaded.architecture.blocks[block - 1].register_forward_hook(keep) for block in blocks]
    try:
        loaded.model(input_ids=torch.tensor([ids], device=loaded.model.device), use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(outputs)
