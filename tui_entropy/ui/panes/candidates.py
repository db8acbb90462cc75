"""The tokens that could have come next, under the model and after the sampling chain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from rich.style import Style
from textual import events
from textual.strip import Strip

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import probability_of
from tui_entropy.records.step import Candidate, Shadow, Step
from tui_entropy.state.run_view import SHORT_NAMES
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible_bytes, visible_token
from tui_entropy.ui.drawing.items import place
from tui_entropy.ui.drawing.paint import Group, Paint, Part
from tui_entropy.ui.keys.needs import acts
from tui_entropy.ui.keys.pane_words import PANES
from tui_entropy.ui.views.frame import SUPPOSED, Frame
from tui_entropy.ui.views.view import HEAVY, View
from tui_entropy.ui.views.wording import reading, state

RANK, NUMBER, SHADOW = 4, 7, 8
BOUNDS_CELLS = 11
"""Of the bounds of a number that is not known."""
"""Cells of a rank with its mark, of a percentage with its title, and of that of a shadow."""
TOKEN, BAR = (6, 16), (3, 40)
"""The least and the most cells of a token and of a bar."""
WATCHED = 13
"""Cells of a string that is followed."""
NO_LOGPROBS = (
    "No log-probabilities came with this answer, so that nothing else is known of its tokens. An application that "
    'asks for them ("logprobs": true with "top_logprobs": 20 in a chat, "logprobs": 5 in completions) sees here what '
    "else could have been written."
)
FEW = 6
"""Rows of a table that has none to spare for the others."""


class Columns(NamedTuple):
    """Cells of each column, 0 for one that has no room."""

    token: int
    bar: int
    model: int
    final: int
    shadow: int


class Table(NamedTuple):
    """The rows of the pane, but for its title."""

    shown: list[int]
    """What each row shows: the n-th candidate; or 0, in the last one, for the written token where that is further
    down. The chosen one is always in view."""
    others: bool
    """Whether a row for all the others follows."""
    below: list[list[Part]]


class Candidates(View, can_focus=True):
    """Twenty rows that are new with every token: nobody reads them faster than that."""

    PACE: ClassVar[float] = HEAVY
    TRUST: ClassVar[str] = "logits"
    OF_STEP: ClassVar[bool] = True
    ABOUT: ClassVar[str] = PANES["candidates"]

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, step = frame.paint, frame.seen
        name = f"run {frame.log.run_number}" if frame.log.twin else "next token"
        if step is None:
            hint = "What the model would write next, how likely, and what the sampler cut."
            return [self.heading(frame, name, [], width), *paint.hint(hint, width)][:height]
        if frame.log.proxied and not step.candidates:
            heading = self.heading(frame, name, frame.where, width)
            return [heading, *paint.hint(paint.ours(NO_LOGPROBS), width)][:height]
        columns = _columns(step, width)
        heading = self.heading(frame, name, frame.where, width, _titles(paint, columns))
        table = _laid(frame, step, width, height - 1)
        rows = []
        for token in table.shown:
            candidate = step.candidates[token - 1] if token else _written(step)
            row = _row(frame, token or step.rank, candidate, columns, token == frame.token != 0)
            rows.append(paint.row([*row, *_of_shadow(paint, step, token, columns)], width))
        if table.others:
            rows.append(paint.row(_others(frame, step, table.shown, columns), width))
        rows += [Strip([])] * (height - 1 - len(table.below) - len(rows))
        return [heading, *rows, *(paint.row(row, width) for row in table.below)]

    def on_click(self, event: events.Click) -> None:
        """A click chooses a candidate."""
        frame = self.frame
        if frame is not None and (step := frame.seen) is not None:
            shown = _laid(frame, step, self.size.width, self.size.height - 1).shown
            if 1 <= event.y <= len(shown):
                self.post_message(self.TokenAsked(shown[event.y - 1]))


def _laid(frame: Frame, step: Step, width: int, room: int) -> Table:
    """Ten rows of tokens come first, and then facts, where there are more than a few rows; so do all tokens."""
    known, token = len(step.candidates), min(frame.token, len(step.candidates))
    below = _facts(frame, step, width, max(room - 5 if room <= 8 else min(4, room - 5), room - known - 1, 0))
    rows = max(room - len(below), 0)
    vocab = frame.log.card.vocab if frame.log.card else None
    others = rows >= FEW and vocab != known
    room = rows - others
    rows = min(room, known)
    first = max(token - rows, 0)
    if not room or step.rank <= first + rows:
        return Table(list(range(first + 1, first + rows + 1)), others, below)
    rows = min(room, known + 1)
    first = max(token - rows + 1, 0)
    return Table([*range(first + 1, first + rows), 0], others, below)


def _columns(step: Step, width: int) -> Columns:
    """The numbers before the bar; the stage that cut a token stands in the place of its final probability."""
    names = [cells(SHORT_NAMES.get(stage.name, stage.name)) for stage in step.stages]
    wanted = [NUMBER, max(NUMBER, *names) if names else NUMBER, SHADOW if step.shadow else width, BAR[0]]
    fit = place([[size] for size in wanted], width - RANK - TOKEN[0] - 1, 1)
    there = [size if any(one.item == n for row in fit for one in row) else 0 for n, size in enumerate(wanted)]
    model, final, shadow, bar = there
    if not final:
        bar = there[-1] = 0
    spare = width - RANK - TOKEN[0] - sum(size + 1 for size in there if size)
    token = TOKEN[0] + max(min(spare, min(max(3 * width // 10, TOKEN[0]), TOKEN[1]) - TOKEN[0]), 0)
    return Columns(token, min(bar + spare + TOKEN[0] - token, BAR[1]) if bar else 0, model, final, shadow)


def _titles(paint: Paint, columns: Columns) -> list[Part]:
    titles = [("model %", columns.model, paint.model), ("final %", columns.final, paint.final)]
    titles.append(("shadow %", columns.shadow, paint.base))
    return [(f"{title:>{size + 1}}", style) for title, size, style in titles if size]


def _row(frame: Frame, rank: int, candidate: Candidate, columns: Columns, chosen: bool) -> list[Part]:
    paint, step = frame.paint, frame.seen
    probability, drawn = probability_of(candidate.logprob), bool(step and candidate.token_id == step.token_id)
    token = fitted(visible_token(candidate.token_id, candidate.token_bytes, paint.ascii), columns.token, paint.ascii)
    dim = paint.base if candidate.cut is None else paint.dim
    end = _percent(candidate.final_prob) if candidate.cut is None else _stage(paint, candidate.cut)
    return [
        (f"{rank:>{RANK - 1}}", paint.dim),
        (paint.drawn if drawn else " ", paint.accent),
        (token, paint.selected if chosen else paint.accent if drawn else dim),
        *_numbers(paint, probability, candidate.final_prob, _percent(probability), end, columns, dim),
    ]


def _numbers(
    paint: Paint, model: float, final: float, left: str, right: str, columns: Columns, style: Style
) -> list[Part]:
    """The bar of two shares and what is written beside it."""
    bar = [(" ", paint.base), *paint.shared_bar(model, final, columns.bar)] if columns.bar else []
    ends = [(f"{text:>{size + 1}}", style) for text, size in ((left, columns.model), (right, columns.final)) if size]
    return [*bar, *ends]


def _others(frame: Frame, step: Step, shown: list[int], columns: Columns) -> list[Part]:
    """All tokens that have no row, taken together; unknown where one of those that have is."""
    paint, vocab = frame.paint, frame.log.card.vocab if frame.log.card else None
    rows = [step.candidates[token - 1] if token else _written(step) for token in shown]
    model = max(1 - sum(probability_of(row.logprob) for row in rows), 0.0)
    final = max(1 - sum(row.final_prob for row in rows), 0.0)
    if step.stages and step.stages[-1].survivors <= sum(row.final_prob > 0 for row in rows):
        final = 0.0
    names = ([] if not vocab else [f"{vocab - len(rows)} others"]) + ["others"]
    name = next((name for name in names if cells(name) <= columns.token), names[-1])
    return [
        (" " * RANK, paint.base),
        (fitted(name, columns.token, paint.ascii), paint.dim),
        *_numbers(paint, model, final, _percent(model), _percent(final), columns, paint.dim),
    ]


def _of_shadow(paint: Paint, step: Step, token: int, columns: Columns) -> list[Part]:
    if step.shadow is None or not columns.shadow:
        return []
    return [(f"{_percent(_shadowed(step.shadow, token)):>{columns.shadow + 1}}", paint.base)]


def _stage(paint: Paint, name: str) -> str:
    return paint.ours(SHORT_NAMES.get(name, name))


def _shadowed(shadow: Shadow, token: int) -> float:
    """The probability that the shadow gave the n-th candidate, or with 0 the written token; NaN where unknown."""
    if token == 0:
        return probability_of(-shadow.surprisal)
    return probability_of(shadow.logprobs[token - 1]) if token <= len(shadow.logprobs) else math.nan


def _written(step: Step) -> Candidate:
    return Candidate(step.token_id, step.token_bytes, -step.surprisal, step.final_prob)


def _would(frame: Frame, step: Step) -> Iterator[Group]:
    """The lines that say whether this is only supposed, and what enter does."""
    paint, chosen = frame.paint, frame.candidate
    if frame.what_if:
        yield [(SUPPOSED, paint.warning)]
    if not acts(frame, "take"):
        return
    meant = chosen or step
    token = visible_token(meant.token_id, meant.token_bytes, paint.ascii)
    does: list[Part] = [("write ", paint.base), (token, paint.accent), (f" at step {step.index + 1}", paint.base)]
    if chosen is None and not frame.held_up:
        does = [(f"a new branch before step {step.index + 1}", paint.base)]
    what: list[Part] = [("enter ", paint.number), *does]
    yield ([*what, (", then stop", paint.base)], what) if frame.log.state == "paused" else what


def _watched(frame: Frame, step: Step) -> Iterator[Group]:
    """Each string that is followed: probability and rank, where they are known."""
    paint, seen = frame.paint, {one.token_id: one for one in step.watched}
    for watch in frame.log.run.watches:
        one = seen.get(watch.token_id)
        name = visible_bytes(watch.text.encode(), paint.ascii)
        number = "?" if one is None else f"{_percent(probability_of(one.logprob)).strip()} %"
        rank = [] if one is None else [(f" rank {one.rank}", paint.dim)]
        yield [
            (f"{fitted(name, min(cells(name), WATCHED), paint.ascii)} ", paint.base),
            (number, paint.number),
            *rank,
        ]


def _percent(probability: float) -> str:
    percent = 100 * probability
    if math.isnan(percent):
        return "?"
    return f"{percent:.1f}" if percent >= 0.1 or percent == 0 else f"{percent:.3f}" if percent >= 0.001 else "<.001"


def _facts(frame: Frame, step: Step, width: int, rows: int) -> list[list[Part]]:
    """The lines below the table: what enter does, the strings that are followed, and what is known of the step."""
    paint = frame.paint
    lines = [line for group in _would(frame, step) for line in paint.lines([group], width)][:rows]
    lines += paint.lines(_watched(frame, step), width, rows - len(lines)) if rows > len(lines) else []
    return lines + (paint.lines(_each_fact(frame, step), width, rows - len(lines)) if rows > len(lines) else [])


def _each_fact(frame: Frame, step: Step) -> Iterator[Group]:
    """The facts that are known of the step, most wanted first."""
    paint = frame.paint

    def measured(name: str) -> list[Part]:
        metric = BY_NAME[name]
        unit = paint.ours(metric.unit(frame.bits))
        number = reading(frame, metric, BOUNDS_CELLS, step)
        return [(f"{name} ", paint.dim), (number, paint.number), (f" {unit}".rstrip(), paint.dim)]

    yield measured("entropy")
    yield measured("varentropy")
    yield measured("surprisal")
    yield [("rank ", paint.dim), (str(step.rank or "?"), paint.number)]
    yield _survivors(frame, step)
    yield from state(frame, step)
    if not math.isnan(step.final_entropy):
        yield measured("final entropy")
    yield measured("prob margin")
    yield measured("logit margin")
    seed = f" with seed {frame.log.knobs_at(step.index).seed}" if frame.log.given_knobs is None else ""
    luck = "forced" if step.forced else f"drawn{seed}"
    luck = "read, and not drawn," if frame.what_if is None and frame.log.run.is_read(step.index) else luck
    yield [(f"{luck} at position {step.position}", paint.warning if step.forced else paint.dim)]


def _survivors(frame: Frame, step: Step) -> Group:
    """How many tokens each stage left, of the whole vocabulary, and what those had of the probability before it."""
    paint = frame.paint
    if frame.log.card and frame.log.card.server and not step.stages:
        is_read = frame.log.run.is_read(step.index)
        said = (
            "nothing is drawn in a text that is there" if is_read else "drawn by the server, which does not tell how"
        )
        return [(said, paint.dim)]
    left = frame.log.card.vocab if frame.log.card else None
    whole = [("tokens ", paint.dim), ("?" if left is None else str(left), paint.base)]
    cuts: list[tuple[str, str]] = []
    for stage in step.stages:
        if stage.survivors != left:  # a stage that took nothing away is not worth its cells
            mass = f" ({100 * stage.mass:.3g} %)" if stage.mass < 1 else ""
            cuts.append((f" {paint.arrow} {_stage(paint, stage.name)} {stage.survivors}", mass))
        left = stage.survivors
    if not cuts:
        return [*whole, (", none cut", paint.dim)]
    every = "".join(cut + mass for cut, mass in cuts)
    last = "".join(cut for cut, _ in cuts)
    short = f" {paint.arrow} {left}{cuts[-1][1]}"
    return (
        [*whole, (every, paint.base)],
        [*whole, (last + cuts[-1][1], paint.base)],
        [*whole, (last, paint.base)],
        [*whole, (short, paint.base)],
    )
