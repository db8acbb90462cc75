"""The choice on the page of probes: which probe, of which token, under which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeInfo, Value
from tui_entropy.records.probes.lens import LENS, recorded_lens
from tui_entropy.records.probes.options import MAX_SHOWN
from tui_entropy.ui.views.frame import Frame

AGAINST = "against"
"""The option of a probe that names a token by its id, the difference to which is asked about."""


@dataclass(frozen=True)
class ProbesState:
    """The state that the page of probes keeps."""

    own_options: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Name of a probe -> what a person set of it."""
    pending: AskProbe | None = None
    """The question that is not answered yet."""
    scroll: int = 0
    """Rows of the answer above the window."""


def offered(frame: Frame) -> tuple[ProbeInfo, ...]:
    """The rows of the page: the probes that the engine has, and those that a recording has answers of."""
    known = {probe.name for probe in frame.log.probes}
    answered = [name for name, _ in frame.log.run.answers]
    if frame.step is not None and frame.step.lens_rows:
        answered.append(LENS)
    others = dict.fromkeys(name for name in answered if name not in known)
    return (*frame.log.probes, *(ProbeInfo(name, "", "") for name in others))


def chosen_probe(frame: Frame) -> ProbeInfo | None:
    """The row of the page; None where there is no probe."""
    probes = offered(frame)
    return probes[min(frame.row, len(probes) - 1)] if probes else None


def answered_row(frame: Frame) -> int:
    """The first row of the page whose probe has answered about the token under the cursor; 0 where none has."""
    return next((n for n, probe in enumerate(offered(frame)) if has_answered(frame, probe)), 0)


def has_answered(frame: Frame, probe: ProbeInfo) -> bool:
    """Whether there is an answer about the token under the cursor."""
    asked = (probe.name, position_of(frame)) in frame.log.run.answers
    return asked or written_answer(frame, probe) is not None


def position_of(frame: Frame) -> int | None:
    """Of the token under the cursor in the whole context; None before there is a text."""
    if frame.log.started is None:
        return None
    return len(frame.log.run.started.prompt_tokens) + (frame.cursor or 0)


def values_of(frame: Frame, probe: ProbeInfo) -> dict[str, Value]:
    """Every option with its value: as a person set it, or as the chosen candidate has it, or the default."""
    own, chosen = frame.of(ProbesState).own_options.get(probe.name, {}), _chosen(frame)
    return {option.name: own.get(option.name, chosen.get(option.name, option.default)) for option in probe.options}


def _chosen(frame: Frame) -> Mapping[str, Value]:
    """What the candidate says that is chosen in the table: what speaks for the token and against it is asked."""
    candidate, step = frame.candidate, frame.seen
    if candidate is None or step is None or candidate.token_id == step.token_id:
        return {}
    return {AGAINST: candidate.token_id}


def shown_values(frame: Frame, probe: ProbeInfo) -> dict[str, Value]:
    """Those that are shown and edited: of a probe with many options, the ones that a person set."""
    own = frame.of(ProbesState).own_options.get(probe.name, {})
    few = len(probe.options) <= MAX_SHOWN
    return {name: value for name, value in values_of(frame, probe).items() if few or name in own}


def answered_values(probe: ProbeInfo, answer: ProbeAnswer) -> dict[str, Value]:
    """Options that an answer was asked with: of a probe with many, those that are not as by default."""
    usual = {option.name: option.default for option in probe.options}
    few = len(answer.options) <= MAX_SHOWN
    return {name: value for name, value in answer.options.items() if few or value != usual.get(name)}


def question(frame: Frame) -> AskProbe | None:
    """The question that the page would ask."""
    probe, position = chosen_probe(frame), position_of(frame)
    if probe is None or position is None:
        return None
    return AskProbe(probe.name, frame.log.run_number, position, values_of(frame, probe))


def answered_steps(frame: Frame) -> list[int]:
    """The steps, from 1 on, that the chosen probe was asked about in this run."""
    probe = chosen_probe(frame)
    n_prompt = len(frame.log.run.started.prompt_tokens)
    return sorted(at - n_prompt + 1 for name, at in frame.log.run.answers if probe and name == probe.name)


def answer_here(frame: Frame) -> ProbeAnswer | None:
    """The newest answer of the chosen probe about the token under the cursor."""
    probe, position = chosen_probe(frame), position_of(frame)
    if probe is None or position is None:
        return None
    newest = frame.log.answers.get(probe.name)
    if newest is not None and (newest.run, newest.position) == (frame.log.run_number, position):
        return newest
    return frame.log.run.answers.get((probe.name, position)) or written_answer(frame, probe)


def written_answer(frame: Frame, probe: ProbeInfo) -> ProbeAnswer | None:
    """The answer of a probe that the step under the cursor has carried with it since it was written."""
    return recorded_lens(frame.step) if probe.name == LENS and frame.step is not None else None
