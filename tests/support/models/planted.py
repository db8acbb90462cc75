"""Doctor over a tiny model, whole and in parts, for tests that plant a fault and ask which of its rows fail."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace as with_parts
from functools import cache

import numpy as np
import small
import torch

from tui_entropy.engine.decoding import instruments
from tui_entropy.engine.reliability.report import FAIL, Check
from tui_entropy.engine.verify.checks import branches, draws, lanes, units, vectors
from tui_entropy.engine.verify.checks import steps as steps_
from tui_entropy.engine.verify.evidence import compare
from tui_entropy.engine.verify.evidence.schedule import SCHEDULE
from tui_entropy.engine.verify.evidence.written import Text, watched
from tui_entropy.engine.verify.second import chain
from tui_entropy.records.step import Step

LOADED = small.loaded()
IDS = torch.tensor(LOADED.tokenizer.encode(compare.PROMPT, None, chat=False)[: compare.N_PROMPT])
RUN_ALONE = (
    steps_.steps, lanes.lanes, draws.draws, draws.adaptive_samplers,
    draws.long_texts, vectors.vector_files, units.units, branches.branches,
)  # fmt: skip

SHORT = (1, 2, 5, 6, 12, 13)
"""Entries of the schedule: nothing on, a penalty, mirostat twice, both adaptive samplers."""


def checked(*examined: Callable) -> list[Check]:
    with torch.inference_mode():
        return [check for each in examined for check in each(LOADED, IDS)]


def failing(*examined: Callable) -> set[str]:
    return {check.name for check in checked(*examined) if check.verdict == FAIL}


@cache
def healthy() -> tuple[Check, ...]:
    """With nothing planted."""
    return tuple(checked(*RUN_ALONE))


def rows_that_prove(name: str) -> set[str]:
    return {check.name for check in healthy() if name in check.proves}


@cache
def healthy_text() -> Text:
    """What doctor has written, so that it need not be written again for what is read off it in another way."""
    with torch.inference_mode(), instruments.open_instruments(LOADED, keep=0, record="all") as watching:
        return watched(LOADED, watching, SCHEDULE, IDS[-3:].tolist())


def change_steps(change: Callable[[Step], Step]) -> Text:
    """The healthy text, every record of whose steps went through this on its way out of the loop."""
    text = healthy_text()
    steps = [change(step) for step in text.steps]
    seen = [with_parts(each, step=change(each.step), earlier=tuple(steps[: len(each.earlier)])) for each in text.seen]
    return with_parts(text, seen=seen, steps=steps)


def given(patch, text: Text) -> None:
    """Doctor examines this text in place of one that it has written."""
    patch.setattr(steps_, "watched", lambda *asked: text)


def written_under(patch, at: Iterable[int]) -> None:
    """The text is written under these entries of the schedule alone."""
    patch.setattr(steps_, "SCHEDULE", tuple(SCHEDULE[nth] for nth in at))


def acting(stage: str) -> Sequence[int]:
    """The entries of the schedule under which a stage of the chain is on."""
    logits = np.random.default_rng(0).normal(size=LOADED.architecture.vocab) * 3
    each = [[chain.acting(setting(logits)) for setting in settings] for settings in SCHEDULE]
    return [nth for nth, stages in enumerate(each) if any(stage in on for on in stages)]
