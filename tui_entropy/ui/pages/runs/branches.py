"""Every run of this session, each branch under the run that it parts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from textual.strip import Strip

from tui_entropy.state.run_diff import parting
from tui_entropy.state.run_view import RunView, changes
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.glyphs import cells, fitted, visible, visible_token
from tui_entropy.ui.drawing.paint import Paint, Part, in_bytes
from tui_entropy.ui.keys.branch_choice import BranchesState, chosen
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.view import HEAVY, View, around
from tui_entropy.ui.views.wording import counted

MAX_GUIDE_CELLS = 12
"""Cells of the guides at most, so that a name still has room behind them."""
MAX_PREVIEW_STEPS = 40
"""Tokens after the parting whose text is looked at."""
GUIDES, GUIDES_ASCII = ("├─ ", "└─ ", "│  "), ("|- ", "`- ", "|  ")
STATES = {"ended": "■", "paused": "‖", "writing": "●", "reading": "◑"}
STATES_ASCII = {"ended": "#", "paused": "=", "writing": "*", "reading": "%"}


class Branches(View):
    """The chosen row is always in view."""

    PACE: ClassVar[float] = HEAVY

    def draw(self, frame: Frame, width: int, height: int) -> list[Strip]:
        paint, log = frame.paint, frame.log
        hidden = frame.of(BranchesState).hidden
        tree = forest(log, hidden)
        gone = sum(run.deleted for run in log.runs.values())
        counts: list[str | list[Part]] = [counted(len(log.runs), "run")]
        counts += [f"{gone} hidden{', shown dim' * hidden}"] if gone else []
        on_screen: list[Part] = [(paint.diamond, paint.good), (f" run {log.run_number} is on screen", paint.dim)]
        heading = self.heading(frame, "branches", [*counts, on_screen] if log.run_number else [], width)
        if not tree:
            hint = "Each text that is written is a root here, and each candidate that is taken a branch of it."
            return [heading, *paint.hint(hint, width)][:height]
        here = chosen(frame)
        foot = [paint.row(line, width) for line in _about(frame, log.runs[here])]
        room = max(height - 2 - len(foot), 1)
        at = next((n for n, (run, _) in enumerate(tree) if run.started.run == here), 0)
        branched = any(_parent(log, run) for run, _ in tree)
        columns = _columns(width, branched)
        rows = [_row(frame, run, guide, columns, branched) for run, guide in tree[around(at, len(tree), room)]]
        titles = [(_titles(paint, columns, branched), paint.dim)]
        return [heading, *(paint.row(row, width) for row in (titles, *rows)), *foot][:height]

    def moved(self, frame: Frame, by: int) -> dict[str, Any]:
        runs = [run.started.run for run, _ in forest(frame.log, frame.of(BranchesState).hidden)]
        if not runs:
            return {}
        here = chosen(frame)
        at = runs.index(here) if here in runs else 0
        return frame.put(BranchesState, branch=runs[min(max(at + by, 0), len(runs) - 1)])


def forest(log: SessionView, hidden: bool) -> list[tuple[RunView, str]]:
    """(run, its guides) from the first root down, guides as one letter a level: '├', '└', '│' or ' '.

    hidden: with those that were deleted. They stay anyway where a branch of theirs is shown.
    """
    parents: dict[int, int | None] = {}
    for run, view in log.runs.items():  # a parent began before, or it is none
        parent = view.started.parent if view.started.parent is not None else view.started.twin_of
        parents[run] = parent if parent in parents else None
    shown: set[int | None] = set()
    below: dict[int | None, list[int]] = {}
    for run in reversed(parents):
        if hidden or run in shown or not log.runs[run].deleted or run == log.run_number:
            shown |= {run, parents[run]}
            below.setdefault(parents[run], []).append(run)
    rows = []
    todo = [(run, "") for run in below.get(None, [])]
    while todo:
        run, guide = todo.pop()
        rows.append((log.runs[run], guide))
        inner = guide.replace("├", "│").replace("└", " ")
        todo += [(child, inner + ("├" if n else "└")) for n, child in enumerate(below.get(run, []))]
    return rows


class Columns(NamedTuple):
    """Cells of each, 0 for one that is not there."""

    tree: int
    parts: int
    """Where a branch parts; of runs of which none is a branch, the prompt."""
    state: int
    settings: int
    """What is set otherwise."""
    words: int


def _columns(width: int, branched: bool) -> Columns:
    """branched: whether any run is a branch of another."""
    sizes = ((150, 34, 32, 13, 28), (120, 24, 26, 13, 20), (100, 22, 26, 13, 14), (0, 18, 24, 1, 0))
    if not branched:
        sizes = ((150, 34, 50, 28, 0), (100, 24, 30, 22, 0), (60, 18, 24, 13, 0), (0, 12, 12, 1, 0))
    tree, parts, state, settings = next(columns for least, *columns in sizes if width >= least)
    used = 2 + tree + 1 + parts + 1 + 6 + 1 + state + 1 + (settings + 1 if settings else 0)
    return Columns(tree, parts, state, settings, max(width - used, 0))


def _titles(paint: Paint, columns: Columns, branched: bool) -> str:
    parts, words = ("parts at", "goes on with") if branched else ("prompt", "text")
    state = "state" if columns.state > 1 else ""
    text = f"  {'run':<{columns.tree}} {parts:<{columns.parts}} {'tokens':>6} {state:<{columns.state}} "
    text += f"{'set otherwise':<{columns.settings}} " if columns.settings else ""
    return text + words[: columns.words]


def _row(frame: Frame, run: RunView, guide: str, columns: Columns, branched: bool) -> list[Part]:
    paint, log = frame.paint, frame.log
    number, parent = run.started.run, _parent(log, run)
    tree, parts, state_cells, settings, words = columns
    ink = paint.dim if run.deleted else paint.selected if number == chosen(frame) else paint.base
    star = ("*" if paint.ascii else "★") if run.starred else ""
    guides, state = _guides(guide, paint), _state(log, run, paint)
    state = fitted(state, state_cells, paint.ascii) if state_cells > 1 else state[:1]
    about = _parts(run, parent, paint) if branched else visible(run.started.prompt, paint.ascii, True)
    name = f"{number}{star} {visible(run.name, paint.ascii, True)}".rstrip()
    name = fitted(name, min(cells(name), tree - cells(guides)), paint.ascii)
    row: list[Part] = [
        (paint.drawn if number == chosen(frame) else " ", paint.accent),
        (paint.diamond if run is log.run else " ", paint.good),
        (guides, paint.rule),
        (name, ink),
        (" " * (tree - cells(guides) - cells(name)), paint.base),
        (f" {fitted(about, parts, paint.ascii)} ", paint.base if parent or not branched else paint.dim),
        (f"{len(run.steps):>6} ", paint.number),
        (f"{state} ", paint.error if run.failed else paint.good if run is log.run else paint.dim),
    ]
    if settings:
        settings_text = ", ".join(changes(run, parent)) if parent else ""
        row.append((f"{fitted(_safe(settings_text, paint), settings, paint.ascii)} ", paint.mark))
    return [*row, (fitted(_words(run, parent, paint), words, paint.ascii), paint.dim)]


def _about(frame: Frame, run: RunView) -> Iterator[list[Part]]:
    """All that the row of the chosen run may have had to cut."""
    paint, parent = frame.paint, _parent(frame.log, run)
    began = run.started
    sentence = f"run {began.run}, {_state(frame.log, run, paint)[2:]}"
    if began.twin_of is not None:
        sentence += f", twin of run {began.twin_of}"
    if parent:
        sentence += f", {_parts(run, parent, paint)}"
        if began.how:
            sentence += f"{paint.between}what is shared was {_safe(began.how, paint)}"
    yield []
    yield [
        (sentence, paint.title),
        (f"{paint.between}{_safe(', '.join(changes(run, parent)) or 'set as its parent', paint)}", paint.mark)
        if parent
        else (f"{paint.between}prompt: {visible(began.prompt, paint.ascii, True)}", paint.dim),
    ]
    yield [("goes on with: ", paint.dim), (_words(run, parent, paint) or "nothing yet", paint.base)]
    memory, rewinds = frame.log.memory, _safe(frame.log.rewinds, paint)
    if memory and memory.bound:
        sentence = f"{in_bytes(memory.kept)} of at most {in_bytes(memory.bound)} kept, so that little is read again"
        yield [(f"{sentence}{paint.between}goes back {rewinds}" if rewinds else sentence, paint.dim)]


def _parent(log: SessionView, run: RunView) -> RunView | None:
    began = run.started
    parent = began.parent if began.parent is not None else began.twin_of
    return log.runs.get(parent) if parent is not None and parent != began.run else None


def _parts(run: RunView, parent: RunView | None, paint: Paint) -> str:
    """The step where it leaves its parent, and the token that it took instead."""
    if parent is None:
        return ""
    if run.started.prompt_tokens != parent.started.prompt_tokens:
        return "read as a text" if run.started.n_given else "another prompt"
    at = parting(run, parent)
    if at is None:
        return f"step {run.started.shared + 1}, the same so far"
    mine, theirs = (
        visible_token(step.token_id, step.token_bytes, paint.ascii) for step in (run.steps[at], parent.steps[at])
    )
    return f"step {at + 1} {fitted(mine, min(cells(mine), 12))} for {theirs}"


def _words(run: RunView, parent: RunView | None, paint: Paint) -> str:
    at = run.started.shared
    if parent and (parted := parting(run, parent)) is not None:
        at = parted
    return visible("".join(run.steps.texts[at : at + MAX_PREVIEW_STEPS]).strip(), paint.ascii, True)


def _state(log: SessionView, run: RunView, paint: Paint) -> str:
    if run is log.run or run is log.twin:
        state, note = log.state, log.note if log.state == "ended" else ""
    else:
        state = "ended" if run.ended is not None else "writing" if log.proxied else "paused"
        note = run.ended or ""
    glyph = (STATES_ASCII if paint.ascii else STATES).get(state, "?")
    return f"{glyph} {visible(note or state, paint.ascii, True)}"


def _guides(guide: str, paint: Paint) -> str:
    branch, last, wall = GUIDES_ASCII if paint.ascii else GUIDES
    drawn = "".join({"├": branch, "└": last, "│": wall, " ": "   "}[level] for level in guide)
    return drawn if len(drawn) <= MAX_GUIDE_CELLS else paint.ellipsis + drawn[1 - MAX_GUIDE_CELLS :]


def _safe(text: str, paint: Paint) -> str:
    return visible(paint.ours(text), paint.ascii, True)
