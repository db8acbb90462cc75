"""The loop: a prompt in, one Step out per token.

Each turn reads what is new (the last stretch of the prompt at first, then the token just written), measures what the
model believes about the next token, lets the sampling chain shape it, draws, and yields. It knows nothing of
commands, sockets or screens.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch

from tui_entropy.engine.decoding.choose import build_step, choose
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.decoding.reader import PREFILL_CHUNK, read
from tui_entropy.engine.decoding.stop_strings import completes
from tui_entropy.engine.measure.clock import Clock
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import ONE_BY_ONE, TokenSequence
from tui_entropy.records.events import STOP_STRING, Prefilled, PromptScores
from tui_entropy.records.step import Step

RESAMPLE, COMMIT = "resample", "commit"
"""Sent to the loop in place of asking for the next step: propose this one once more, as things are set now; or write
it, and wait."""


@torch.inference_mode()
def decode(
    loaded: Loaded,
    instruments: Instruments,
    sequence: TokenSequence,
    controls: Callable[[], Controls],
    run: int = 1,
    score_prompt: bool = True,
    apply: Callable[[], None] = lambda: None,
    stop: tuple[str, ...] = (),
) -> Generator[Prefilled | PromptScores | Step, str | None, str]:
    """Read what is not read yet, then write one token at a time, yielding a record after each stretch and each token.

    The caller sets the pace. A step that is yielded is a proposal: it is written when the next one is asked for or
    COMMIT is sent, and RESAMPLE makes another one of the same logits. To stop, close the generator. Before each
    proposal, and before tokens are read for the first time, `apply` is called to bring up to date what `controls`
    then gives; so a knob turned in between counts. Returns why it ended: 'end of text', STOP_STRING once one of
    `stop` is written, 'token limit' or 'context full'. Raises NotFinite where logits are no numbers, and then it
    cannot go on.
    """
    clock = Clock(loaded.model.device, sequence.elapsed_seconds)
    reading = not sequence.n_read
    while sequence.n_remaining:
        while sequence.n_pending:
            reading = reading or sequence.n_pending > ONE_BY_ONE
            last, offsets = sequence.next_chunk(PREFILL_CHUNK)
            if offsets is None:  # never read before
                apply()
                offsets = controls().offsets
            clock.start()
            _, scored = read(loaded, instruments, sequence, last, offsets, run, score_prompt)
            clock.forward_done()
            clock.stop()
            clock.rest()
            if reading:
                yield Prefilled(run, sequence.n_read, sequence.n_tokens, clock.at)
            if scored:
                yield scored
        apply()
        now = controls()
        clock.start()
        # By itself even at the end of a prompt, so that every step can be visited again in the same way.
        logits = sequence.logits
        if logits is None or sequence.n_read < sequence.n_tokens:
            logits, _ = read(loaded, instruments, sequence, sequence.n_tokens, now.offsets, run, False)
        clock.forward_done()
        given = sequence.given[0] if sequence.given else None
        chose = choose(instruments, sequence, now, logits, given)
        clock.stop()
        step, mu = build_step(loaded, instruments, sequence, now, chose, clock, run)
        if reading:
            yield Prefilled(run, sequence.n_tokens, sequence.n_tokens, clock.at)
            reading = False
        clock.rest()
        while (asked := (yield step)) == RESAMPLE:
            apply()
            now = controls()
            chose = choose(instruments, sequence, now, logits, given)
            step, mu = build_step(loaded, instruments, sequence, now, chose, clock, run)
        sequence.commit(step, mu)
        if asked == COMMIT:
            yield step
        if given is None and step.token_id in loaded.tokenizer.eos_ids:
            return "end of text"
        if given is None and stop and completes(loaded.tokenizer, sequence, step.text, stop):
            return STOP_STRING
    return "context full" if sequence.n_tokens >= loaded.card.context else "token limit"
