"""Steering: a push shows where it should and nowhere else, in one row of a pass and in one of two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from msgspec.structs import replace
from torch import Tensor

from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.steering.control_vector import ControlVector, offsets, setting
from tui_entropy.engine.verify.evidence.compare import allowed, forward_logits, same_again, worst

STRENGTH = 0.5
N_BESIDE = 3
"""Tokens that two rows read one by one."""


def steering(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """A push after the middle block shows where it should, and nowhere once it is taken away."""
    block = (loaded.architecture.n_layers + 1) // 2
    with open_instruments(loaded, keep=0) as instruments:

        def passed(push: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
            """(n, vocab) logits, and (n_layers, d_model) residual stream of the newest token."""
            instruments.steering.set(push)
            logits = forward_logits(loaded.model, ids, new_cache(loaded.model, loaded.architecture))
            return logits, instruments.residual.stream()

        logits, plain = passed({})
        # As long as what it is added to, so that it is felt in every later block.
        length = plain[block - 1].float().square().mean().sqrt().cpu()
        direction = torch.randn(plain.shape[-1], generator=torch.Generator().manual_seed(0)) * length
        vector = ControlVector("doctor", {block: direction.numpy()})
        on = replace(setting(vector, ""), on=True, strength=STRENGTH)
        _, steered = passed(offsets([on], {vector.name: vector}))
        after, _ = passed({})
    pushed = plain[block - 1] + (STRENGTH * direction).to(plain)
    moved = (steered[block:] != plain[block:]).any(-1)
    bound = same_again(loaded, ids, plain[:block].abs().max())
    check = partial(Check, group="residual", unit="residual", bound=bound)
    yield check(
        "steered block",
        compared="output against plain + strength x direction",
        worst=worst(steered[block - 1], pushed),
    )
    if block > 1:
        yield check(
            "blocks below", compared="steered against plain", worst=worst(steered[: block - 1], plain[: block - 1])
        )
    if block < loaded.architecture.n_layers:
        unmoved = float((~moved).sum())
        yield Check("blocks above", "residual", "those that steering left unchanged, of all", "blocks", unmoved, 0.0)
    bound = same_again(loaded, ids, logits.abs().max())
    yield Check("steering taken away", "logits", "logits against before", "logits", worst(after, logits), bound)


def rows(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Two texts in one pass are each what they are alone, and what is pushed in one stays in it."""
    alone = partial(Check, "row of two", "logits", "each row of one pass against a pass of its own", "logits")
    apart = partial(Check, "steered row", "logits", "the row beside one that is steered against before", "logits")
    if not loaded.architecture.croppable:
        kinds = ", ".join(sorted(set(loaded.architecture.layer_kinds)))
        yield from (check(skipped=f"a cache of {kinds} layers is not shared") for check in (alone, apart))
        return
    texts = ids, ids.flip(0)
    pushed = torch.randn(loaded.architecture.d_model, generator=torch.Generator().manual_seed(0))
    push = {(loaded.architecture.n_layers + 1) // 2: pushed}
    with open_instruments(loaded, keep=0) as instruments:

        def written(*under: Mapping[int, Tensor], which: Sequence[Tensor] = texts) -> Tensor:
            """(rows, N_BESIDE, vocab) logits of the last tokens, read one by one."""
            instruments.steering.set(*under)
            cache = new_cache(loaded.model, loaded.architecture)
            beside = torch.stack(list(which))
            forward(loaded, cache, beside[:, :-N_BESIDE])
            return torch.stack([forward(loaded, cache, beside[:, [at]]) for at in range(-N_BESIDE, 0)], 1)

        both = written({})
        each = torch.cat([written({}, which=[text]) for text in texts])
        steered = written({}, push)
        single = written(push, which=texts[1:])
    bound = allowed(loaded.model.dtype, both.abs().max())
    yield alone(max(worst(both, each), worst(steered[1:], single)), bound)
    yield apart(worst(steered[0], both[0]), bound)  # experts are shared out among the tokens of a batch
