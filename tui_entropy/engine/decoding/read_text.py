"""A text that is there already, read in stretches: one pass for many tokens, and a step for each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tui_entropy.engine.decoding.choose import Chosen, believed, sample_token, step_of, whole
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.decoding.reader import PREFILL_CHUNK, read
from tui_entropy.engine.instruments.head_measures import HeadStatistics
from tui_entropy.engine.instruments.prompt_scores import SLICE_BYTES, final_residual
from tui_entropy.engine.instruments.unembed import unembed
from tui_entropy.engine.kernels.threads import one_thread
from tui_entropy.engine.measure.clock import Clock
from tui_entropy.engine.measure.step_record import choice_metrics, to_host
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.step import ATTENTION, Step


def reads_in_stretches(loaded: Loaded, sequence: TokenSequence) -> bool:
    """Whether the next tokens of a text can be read in one pass: the newest token is all that is to be read before
    them, and nothing is read beside them. Else they are read one by one, as what is written is."""
    alone = sequence.shadow is None and len(sequence.batch) == 1
    return len(sequence.given) > 1 and alone and not sequence.n_pending and loaded.architecture.in_stretches


@torch.inference_mode()
def read_stretch(
    loaded: Loaded,
    instruments: Instruments,
    sequence: TokenSequence,
    now: Controls,
    run: int,
    ends: Callable[[Step], bool] = lambda step: False,
) -> Iterator[Step]:
    """The steps of the next tokens of a text, PREFILL_CHUNK at most, each part of the sequence when it is yielded.

    ends: whether the stretch ends before a step. What is behind it is read and no part of the sequence then, so that
    the cache is to be cut.

    They have all that follows from logits. What hangs on the pass of a single token, such as measures of heads and
    norms, is unknown: visiting the token has it.
    """
    given, clock = sequence.given[:PREFILL_CHUNK], Clock(loaded.model.device, sequence.elapsed_seconds)
    first, last = sequence.n_read, sequence.n_tokens + len(given) - 1
    clock.start()
    sequence.place(given)
    with final_residual(loaded.architecture) as held:
        newest, _ = read(loaded, instruments, sequence, last, now.offsets, run, False)
    clock.forward_done()
    residual = held.residual[first - last : -1] if last - first > 1 else newest[:0]
    unknown = _unknown(loaded, newest.device)
    for token_id, logits in zip(given, _rows(loaded, residual, newest), strict=True):
        before = clock.sample_seconds
        chose = _judged(sequence, now, logits, token_id, unknown)
        clock.stop()
        step, mu = step_of(
            sequence, now, chose, (None,) * loaded.card.n_layers,
            run=run, forward_seconds=clock.forward_seconds / len(given),
            sample_seconds=clock.sample_seconds - before, at=clock.at,
        )  # fmt: skip
        if ends(step):
            return
        sequence.commit(step, mu)
        yield step


def _rows(loaded: Loaded, residual: Tensor, newest: Tensor) -> Iterator[Tensor]:
    """(vocab,) logits of each position, in slices: no matrix of all of them is built. newest: of the last one."""
    n_rows = max(SLICE_BYTES // (4 * loaded.architecture.vocab), 1)
    for part in torch.split(residual, n_rows) if len(residual) else ():
        yield from unembed(loaded.model, loaded.architecture, part)
    yield newest


@one_thread
def _judged(
    sequence: TokenSequence,
    now: Controls,
    logits: Tensor,
    token_id: int,
    unknown: tuple[HeadStatistics, Tensor],
) -> Chosen:
    """What the model believes, and what the chain makes of it, where a token is there."""
    logp, belief = believed(sequence, now, logits, *unknown)
    drawn = sample_token(logits, logp, now, sequence, sequence.prompt, None, given=token_id)
    numbers = belief | choice_metrics(logits, logp, belief["ids"], *drawn)
    return drawn[0].stages, whole(to_host(numbers), logits, sequence), None


def _unknown(loaded: Loaded, device: torch.device) -> tuple[HeadStatistics, Tensor]:
    """Measures of heads and a residual stream of which nothing is known."""
    card = loaded.card

    def nothing(*shape: int) -> Tensor:
        return torch.full(shape, math.nan, device=device)

    heads = nothing(card.n_layers, card.n_heads)
    return HeadStatistics(heads, heads, nothing(card.n_layers, len(ATTENTION))), nothing(card.n_layers, card.d_model)
