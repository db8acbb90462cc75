"""Branches: what is written after going back is what the text, read from its beginning, makes the model write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from msgspec.structs import replace
from torch import Tensor

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import Check
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.verify.evidence.compare import PLAIN_PASS, Tally, allowed, gap
from tui_entropy.engine.verify.evidence.fields import TIMES
from tui_entropy.engine.verify.evidence.plain import plain
from tui_entropy.engine.verify.evidence.written import OFF, REPEATING
from tui_entropy.engine.verify.second import chain, history
from tui_entropy.engine.verify.second.belief import Floats
from tui_entropy.records.commands import Branch, Write
from tui_entropy.records.events import Event, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

BEFORE, STEP, AFTER = 5, 2, 3
"""Steps of the first run, the one before which others begin, and steps that are written then in each."""
KEPT_BYTES = 1 << 28
"""Of keys and values of runs that were left."""
StepAndLogits = tuple[Step, Floats]
"""A step and the (vocab,) logits that it was chosen from."""


def branches(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """A run, two that leave it, the first again; each read in one plain pass afterwards."""
    tally = Tally()
    against = "of a run left, two from its middle and the first again, against a plain pass over each"
    tally.row("logits of branches", "logits", against, "logits", ["branch.logits"])
    counted = "places, perplexities and mirostat's bound, counted from the beginning of the text"
    tally.row("steps of branches", "logits", counted, TIMES, ["branch.steps"])
    tally.rests_on["logits of branches"] = PLAIN_PASS
    knobs = replace(OFF, mirostat_tau=4.0, mirostat_eta=0.5, banned=tuple(sorted(loaded.tokenizer.eos_ids)))
    events: list[Event] = []
    with open_instruments(loaded, keep=0, graph=False) as instruments:
        session = Session(loaded, instruments, events.append, KEPT_BYTES)
        session.begin(Write(REPEATING, None, False, BEFORE + AFTER, knobs))
        first = write_steps(session, BEFORE)
        best, second, *_ = (one.token_id for one in first[STEP][0].candidates)
        session.branch(Branch(1, STEP, (second,)))
        forced = [*first[:STEP], *write_steps(session, AFTER)]
        session.branch(Branch(1, STEP, ban=(best, second)))
        barred = [*first[:STEP], *write_steps(session, AFTER)]
        session.go(1)
        first += write_steps(session, AFTER)
    prompt = [
        token.token_id
        for event in events
        if isinstance(event, Started) and event.run == 1
        for token in event.prompt_tokens
    ]
    for run, steps in enumerate((first, forced, barred), 1):
        compare(loaded, prompt, steps, run, knobs, tally)
    tally.row("first tokens of branches", "sampling", "forced and banned, as asked for", "tokens", ["branch.tokens"])
    tally.add("first tokens of branches", float(forced[STEP][0].token_id != second), 0.0)
    still = [one.token_id for one in barred[STEP][0].candidates if one.final_prob > 0]
    tally.add("first tokens of branches", float(len({best, second} & {barred[STEP][0].token_id, *still})), 0.0)
    yield from tally.checks()


def write_steps(session: Session, n: int) -> list[StepAndLogits]:
    """Write that many more steps of the present run."""
    steps = []
    for _ in range(n):
        session.look_ahead(read_all=True)
        assert (
            session.state.proposed is not None
            and session.state.sequence is not None
            and session.state.sequence.logits is not None
        )
        steps.append((session.state.proposed, session.state.sequence.logits.cpu().double().numpy()))
        session.advance()
    return steps


def compare(
    loaded: Loaded, prompt: Sequence[int], steps: Sequence[StepAndLogits], run: int, knobs: Knobs, tally: Tally
) -> None:
    text = torch.tensor([*prompt, *(step.token_id for step, _ in steps)], device=loaded.model.device)
    logits = plain(loaded, text).logits.double().numpy()
    bound = allowed(loaded.model.dtype, float(abs(logits).max()))
    mu, surprisals = 2 * knobs.mirostat_tau, []
    for index, (step, actual) in enumerate(steps):
        tally.add("logits of branches", gap(actual, logits[len(prompt) + index - 1]), bound)
        its_run = run if index >= STEP else 1  # what they share was written in the first
        places = step.run, step.index, step.position
        tally.share("steps of branches", places, (its_run, index, len(prompt) + index), 0.0)
        surprisals.append(step.surprisal)
        perplexities = history.perplexity(surprisals), history.window_perplexity(surprisals)
        close = 1e-6 * max(perplexities)
        tally.share("steps of branches", (step.perplexity, step.window_perplexity), perplexities, close)
        tally.share("steps of branches", step.mirostat_mu, mu, 1e-4)
        mu = chain.next_mu(mu, knobs, step.final_prob)
