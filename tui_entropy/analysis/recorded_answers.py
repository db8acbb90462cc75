"""What probes have answered in a recording: found again without a model."""

from __future__ import annotations

from pathlib import Path

from tui_entropy.core import text_table
from tui_entropy.core.errors import UserError
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.lens import LENS, recorded_lens
from tui_entropy.records.probes.options import answered_with
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace


def recorded_answers(path: Path, run: int | None) -> tuple[list[ProbeAnswer], SessionView]:
    """The answers of a run and of those that it goes on from, by probe and position; by default the run that was
    looked at last. Raises UserError for a run that there is not."""
    log = Trace.open(path).log(run)
    return sorted(log.run.answers.values(), key=lambda answer: (answer.name, answer.position)), log


def recorded_answer(path: Path, run: int | None, name: str, position: int | None) -> tuple[ProbeAnswer, SessionView]:
    """The answer of a probe about a token, of the last token asked about where none is named. Raises UserError."""
    answers, log = recorded_answers(path, run)
    if (written := _written_answer(log, name, position)) is not None:
        return written, log
    of_name = {answer.position: answer for answer in answers if answer.name == name}
    if not answers:
        raise UserError(
            f"no probe was asked in run {log.run_number} of {path}: ask one while it is recorded, with U on the "
            "screen or with --trace here"
        )
    if not of_name:
        names = ", ".join(dict.fromkeys(answer.name for answer in answers))
        raise UserError(f"there is no answer of {name} in run {log.run_number} of {path}: take one of {names}")
    if position is not None and position not in of_name:
        places = ", ".join(map(str, of_name))
        raise UserError(f"{name} has no answer about position {position}: take one of {places}")
    return of_name[max(of_name) if position is None else position], log


def _written_answer(log: SessionView, name: str, position: int | None) -> ProbeAnswer | None:
    """The answer that a step has carried with it since it was written, where none was asked for; of the last step
    where no token is named."""
    if (
        name != LENS
        or not len(log.steps)
        or any(asked == name for asked, at in log.run.answers if position in (None, at))
    ):
        return None
    at = len(log.steps) - 1 if position is None else position - log.steps[0].position
    return recorded_lens(log.steps[at]) if 0 <= at < len(log.steps) else None


def listing(path: Path, run: int | None) -> str:
    """The answers of a run, a line each, ending in a newline."""
    answers, log = recorded_answers(path, run)
    if not answers:
        return f"no probe was asked in run {log.run_number}\n"
    rows = [("probe", "position", "seconds", "options"), *map(_row, answers)]
    return "".join(f"{line}\n" for line in text_table.lines(rows))


def _row(answer: ProbeAnswer) -> tuple[str, str, str, str]:
    return answer.name, str(answer.position), f"{answer.seconds:.2f}", answered_with(answer)
