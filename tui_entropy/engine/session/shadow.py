"""The shadow: what another lane, given the same tokens, thinks at each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tui_entropy.engine.decoding.choose import sample_token
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.decoding.reader import PREFILL_CHUNK, read
from tui_entropy.engine.instruments.head_measures import AttentionState
from tui_entropy.engine.instruments.tensor_metrics import js, kl, log_probs, rank, surprisal, surprisal_moments
from tui_entropy.engine.measure.finite import broken
from tui_entropy.engine.measure.step_record import Numbers
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.batching import can_batch, join_batch
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.sequence.view import Choice, SequenceView
from tui_entropy.engine.steering.plan import same_offsets
from tui_entropy.engine.tokenization.tokenizer import DecodeStream
from tui_entropy.records.step import Shadow

SAME_LOGITS, SAME_PASS, SECOND_PASS = "from the same logits", "in the same forward pass", "in a second forward pass"
"""ShadowChanged.how."""

Offsets = Mapping[int, Tensor]


@dataclass(eq=False)
class ShadowRun:
    """The same tokens under other vectors, after another prompt, or shaped by other knobs."""

    how: str
    sequence: TokenSequence
    """Its own; the watched one itself where both have the same logits."""
    controls: Controls | None = None
    """Its own knobs; None for those of the watched lane at each step, its adaptive sampler's decision included."""

    @property
    def has_own_pass(self) -> bool:
        """It has a cache of its own, and is read before the watched lane is."""
        return self.how == SECOND_PASS

    def compare(self, now: Controls, watched: SequenceView, choice: Choice) -> dict[str, Tensor]:
        """Compare it with the watched lane at a chosen token: tensors by name, on the device and not waited for.

        What it would have written is drawn with the noise of the watched lane, and by itself: what is forced or
        banned at this one step is no concern of its. With knobs of its own it has no adaptive sampler, and mirostat's
        bound is that of the watched lane, or where a text begins.
        """
        logits = self.sequence.logits
        assert logits is not None
        mine = log_probs(logits)
        own = self.controls
        if broken(mine):
            would, final_js = mine.argmax(), torch.full_like(mine[0], torch.nan)
        else:
            chain, would = sample_token(
                logits, mine, own or now, watched, self.sequence.prompt, None if own else choice.decision
            )
            final_js = js(choice.chained.final_logp, chain.final_logp)
        entropy, _ = surprisal_moments(mine)
        numbers = {
            "kl": kl(choice.logp, mine),
            "js": js(choice.logp, mine),
            "final_js": final_js,
            "entropy": entropy,
            "surprisal": surprisal(mine, choice.token),
            "rank": rank(mine, choice.token),
            "top_id": mine.argmax(),
            "would_id": would,
            "logprobs": mine[choice.ids],
        }
        return {SHADOW + name: number for name, number in numbers.items()}

    def record(self, numbers: Numbers, text: DecodeStream) -> Shadow:
        """The record of the numbers of `compare`, given on the host. text: what the watched lane has written."""
        of = {name: numbers[SHADOW + name] for name in Shadow.__struct_fields__ if SHADOW + name in numbers}
        top, would = (int(of.pop(name)[0]) for name in ("top_id", "would_id"))
        logprobs = tuple(of.pop("logprobs").tolist())
        return Shadow(
            rank=int(of.pop("rank")[0]),
            top_id=top,
            top_bytes=text.token_bytes(top),
            would_id=would,
            would_bytes=text.token_bytes(would),
            logprobs=logprobs,
            **{name: float(number[0]) for name, number in of.items()},
        )


SHADOW = "shadow "
"""What its numbers are called among those of the step."""


@torch.inference_mode()
def create_shadow(
    loaded: Loaded,
    instruments: Instruments,
    watched: TokenSequence,
    now: Controls,
    prompt: list[int] | None,
    under: Sequence[Offsets] | None,
    controls: Controls | None,
) -> ShadowRun:
    """Put a shadow beside a sequence that is read but for its newest token, or whole.

    prompt: its own ids, None for the same prompt. under: its own vectors at each step and
    the next, None for the same. controls: its own
    knobs. What it reads the text once more for is only what must differ.
    """
    same_prompt = prompt is None or prompt == watched.prompt.tolist()
    seen = [*watched.offsets[: watched.n_read], now.offsets]
    steps = [max(position - watched.n_prompt + 1, 0) for position in range(watched.n_read)] + [-1]
    alike = under is None or all(same_offsets(under[step], its) for step, its in zip(steps, seen, strict=True))
    if same_prompt and alike:
        return ShadowRun(SAME_LOGITS, watched, controls)
    own = TokenSequence(
        loaded, watched.prompt.tolist() if same_prompt else prompt or [], len(watched.written) + watched.n_remaining
    )
    own.own_offsets = None if under is None else under[-1]
    own.attention_state = AttentionState(keeps=False)
    for token_id in watched.written.tolist():
        own.write(token_id)
    if under is None:  # each token under what the watched lane read it under
        own.offsets = [watched.offsets[0]] * (own.n_prompt - watched.n_prompt) + watched.offsets
        own.offsets = own.offsets[-own.n_tokens :]
    else:
        own.offsets = [under[max(position - own.n_prompt + 1, 0)] for position in range(own.n_tokens)]
    read_up_to(
        loaded,
        instruments,
        own,
        own.n_tokens - (watched.n_tokens - watched.n_read),
        own.effective_offsets(now.offsets),
    )
    how = SAME_PASS if can_batch(watched, own) else SECOND_PASS
    if how == SAME_PASS:
        join_batch(watched, own)
    return ShadowRun(how, own, controls)


@torch.inference_mode()
def read_up_to(
    loaded: Loaded, instruments: Instruments, sequence: TokenSequence, last: int, offsets: Offsets
) -> None:
    """As the loop does it: in stretches, the newest token by itself. offsets: for what was never read before."""
    while sequence.n_read < last:
        first = sequence.n_read
        until, under = sequence.next_chunk(PREFILL_CHUNK)
        if until <= first:
            until, under = first + 1, sequence.offsets[first] if first < len(sequence.offsets) else None
        read(loaded, instruments, sequence, min(until, last), offsets if under is None else under, 0, False)
