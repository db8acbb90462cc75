"""The traces in the user's folder: found by a name, listed, told, removed, and the text of branches."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_entropy.core import paths, text_table
from tui_entropy.core.errors import UserError
from tui_entropy.core.files import open_regular
from tui_entropy.metrics.readers import mean
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import Started
from tui_entropy.records.model import DTYPES, ModelCard, ModelSpec, ServerSpec
from tui_entropy.state.run_view import RunView
from tui_entropy.state.session_view import SessionView
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.schema import APPLICATION, MAGIC, SUFFIX
from tui_entropy.trace.writer import has_writer

WORDS = 6
"""Of the prompt, in the name of a file."""
FIRST, SHOWN = 20, 40
"""Tokens of a branch that are looked at for its first words, and characters that are shown of them."""
GOING_ON = ("reading", "writing", "paused")
"""States of a run that goes on."""
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite may leave beside a file: of one whose writer was killed, the newest part."""


LAST = "last"
"""The name of the trace that was written last, wherever a command takes one."""
MAX_NAMED = 5
"""Candidates that the sentence about an ambiguous name lists."""
BEGAN = re.compile(r"\d{4}-\d\d-\d\d-\d{6}")
"""The beginning of the name that a trace gets, if it is told no other."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list of traces tells of one of them. Of one that cannot be read only the first three are known."""

    path: Path
    at: float
    """When it was last written, seconds since 1970."""
    n_bytes: int
    readable: bool = False
    model: str = ""
    n_runs: int = 0
    n_tokens: int = 0
    prompt: str = ""


def new_path(model: str, prompt: str) -> Path:
    """The file for a session that begins now, unless it is told another: date, model, words of the prompt."""
    words = [_slug(text) for text in (Path(model).stem, *prompt.split())]
    name = "-".join(filter(None, [time.strftime("%Y-%m-%d-%H%M%S"), *words[: WORDS + 1]]))
    return paths.traces() / (name[:80] + SUFFIX)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def files() -> list[Path]:
    """The traces in the user's folder, newest first."""
    return sorted(paths.traces().glob(f"*{SUFFIX}"), key=lambda path: (_status(path)[0], path), reverse=True)


def _status(path: Path) -> tuple[float, int]:
    """When a trace was last written, seconds since 1970, and its bytes, with what its writer has beside it; zeros for
    one that was removed meanwhile."""
    at, size = 0.0, 0
    for part in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            status = part.stat()
            at, size = max(at, status.st_mtime), size + status.st_size
    return at, size


def resolve(name: str) -> Path:
    """The trace that a person means: `last` for the newest, a path, a name of `traces`, or a part of a name that no
    other one has. Raises UserError where there is none, or several."""
    folder = paths.traces()
    if name == LAST:
        if newest := files()[:1]:
            return newest[0]
        raise UserError(f"there is no trace in {folder} yet: `tui-entropy` writes and records one")
    for path in (Path(name), folder / name, folder / f"{name}{SUFFIX}"):
        if path.is_file():
            return path
    part = name.removesuffix(SUFFIX).lower()
    wanted = {part, _slug(part)} if _slug(part) and "/" not in name else set()
    fitting = [path for path in files() if any(one in path.stem.lower() for one in wanted)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(
            f"{name} is part of the names of {len(fitting)} traces, {_named(fitting)}: give more of one of them, or "
            f"`{LAST}` for the newest of all"
        )
    raise UserError(
        f"there is no trace {name}: `tui-entropy traces` lists those in {folder}, any other needs its path"
    )


def _named(found: Sequence[Path]) -> str:
    names = [path.stem for path in found[:MAX_NAMED]]
    if len(found) > MAX_NAMED:
        names.append(f"and {len(found) - MAX_NAMED} more")
    return ", ".join(names)


def typed_name(path: Path) -> str:
    """What a person types for this trace in a command: of one in the user's folder when it began, where no other
    began then, else its name; of any other its path."""
    if path.parent.absolute() != paths.traces().absolute():
        return shlex.quote(str(path))
    began = BEGAN.match(path.stem)
    if began and sum(began[0] in one.stem for one in files()) == 1:
        return began[0]
    return shlex.quote(path.stem if path.stem != LAST else str(path))


def listing() -> str:
    """The traces in the user's folder, newest first, ending in a newline."""
    found = files()
    if not found:
        return f"no traces in {paths.traces()} yet\n"
    rows = [("name", "when", "model", "runs", "tokens", "size", "prompt"), *map(row, map(summary, found))]
    return "".join(f"{line}\n" for line in text_table.lines(rows))


def row(one: Summary) -> tuple[str, str, str, str, str, str, str]:
    """A trace in a table: name, when, model, runs, tokens, size, prompt."""
    when, size = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.at)), f"{one.n_bytes / 1e6:.1f} MB"
    if not one.readable:
        return one.path.stem, when, "cannot be read", "", "", size, ""
    return one.path.stem, when, one.model, str(one.n_runs), str(one.n_tokens), size, one.prompt[:40]


def summary(path: Path) -> Summary:
    """What a list tells of a trace, also of one that is being written, is damaged or has gone."""
    at, n_bytes = _status(path)
    try:
        trace = Trace.open(path)
    except (UserError, OSError):
        return Summary(path, at, n_bytes)
    begun = [event for _, _, event in trace.events() if isinstance(event, Started)]
    tokens = sum(map(trace.n_written, trace.runs))
    words = " ".join(begun[0].prompt.split()) if begun else ""
    model = trace.card.name if trace.card else ""
    trace.close()
    return Summary(path, at, n_bytes, True, model, len(begun), tokens, words)


def reopened_spec(path: Path, given: Mapping[str, Any], server: Mapping[str, Any] = {}) -> tuple[ModelSpec, str]:
    """The model that a trace was written with, as it is asked for again, and the prompt of its first run. given:
    fields of ModelSpec that a person names; server: those of ServerSpec. Raises UserError for a file that is none, or
    does not say."""
    trace = Trace.open(path)
    card = trace.card
    begun = next((event for _, _, event in trace.events() if isinstance(event, Started)), None)
    trace.close()
    if begun is None:
        raise UserError(f"{path} holds no run: there is nothing to go on with")
    if card is not None and card.server is not None:
        return _behind_server(path, card, given, server), begun.prompt
    if server:
        raise UserError(f"{path} was not written through a server: its model is loaded here, so leave --server out")
    known: dict[str, Any] = {}
    if card is not None:
        known = {"name": card.requested or card.name, "products": card.products or "auto"}
        known |= {"dtype": card.dtype} if card.dtype in DTYPES else {}
        is_of_hub = "/" in known["name"] and not Path(known["name"]).is_absolute()
        known |= {"revision": card.revision} if is_of_hub and "name" not in given else {}
    if not known.get("name") and "name" not in given:
        raise UserError(f"{path} does not say with which model it was written: name it, by --model")
    return ModelSpec(**{**known, **given}), begun.prompt


def _behind_server(path: Path, card: ModelCard, given: Mapping[str, Any], server: Mapping[str, Any]) -> ModelSpec:
    """As it was asked for, with what a person says of it now. Raises UserError."""
    assert card.server is not None
    asked = card.server.spec
    usual = ModelSpec("")
    if any(value != getattr(usual, name) for name, value in given.items()):
        raise UserError(
            f"{path} was written through {card.server.name} at {card.server.url}, and is gone on with there: "
            "--server names another server, and --model and what belongs to it say nothing"
        )
    if asked is not None and asked.proxied:
        raise UserError(f"{path} shows what passed through a proxy: nothing of it can be gone on with")
    known = {} if asked is None else {name: getattr(asked, name) for name in ServerSpec.__struct_fields__}
    spec = ServerSpec(**{**known, "url": card.server.url, "model": card.requested, **server})
    return ModelSpec(spec.model or spec.url, server=spec)


def describe(path: Path, run: int | None = None) -> str:
    """A trace in words and numbers: how its runs hang together, and each of them (or only one) with its text and the
    numbers of it as a whole.

    Raises UserError where the file, or the run in it, is none.
    """
    live = has_writer(path)
    trace = Trace.open(path)
    runs = trace.runs if run is None else (run,)
    card = trace.card
    lines = [f"{path}", _of_model(card) if card else "no model"]
    if len(runs) > 1:
        lines += ["", *tree(trace)]
    lines += [line for one in runs for line in _about(trace, trace.log(one), live, whole=run is not None)]
    if trace.damage:
        lines += ["", f"This file is damaged, and not all of it can be read: {trace.damage}."]
    return "\n".join(lines) + "\n"


def _of_model(card: ModelCard) -> str:
    products = f" · products by {card.products}" if card.products else ""
    return f"{card.name} · {card.device} {card.dtype} · {card.n_layers} blocks{products}"


def tree(trace: Trace) -> Iterator[str]:
    """A line for each run, under the one that it branches off: name, star, steps that it shares, first words."""
    runs = trace.log().runs
    branches: dict[int | None, list[RunView]] = {}
    for run in runs.values():
        parent = run.started.parent
        known = parent in runs and parent is not None and parent < run.started.run
        branches.setdefault(parent if known else None, []).append(run)
    waiting = [(run, 0) for run in reversed(branches.get(None, []))]
    while waiting:
        run, depth = waiting.pop()
        yield "  " * depth + _summary(trace, run)
        waiting += [(one, depth + 1) for one in reversed(branches.pop(run.started.run, []))]


def _summary(trace: Trace, run: RunView) -> str:
    """A run in one line, with the first words of its own text for a branch, and of its prompt for any other."""
    number, lineage = run.started.run, trace.lineage(run.started.run)
    own, branch = lineage[-1], len(lineage) > 1
    called = f'run {number} "{run.name}"' if run.name else f"run {number}"
    called += " *" * run.starred + " (deleted)" * run.deleted
    words = "".join(trace.texts(number, own.first, own.first + FIRST)) if branch else run.started.prompt
    shares = [f"shares {own.first}"] if branch else []
    return " · ".join([called, *shares, f"{own.last - own.first} tokens", " ".join(words.split())[:SHOWN]])


def _about(trace: Trace, log: SessionView, live: bool, whole: bool) -> Iterator[str]:
    """live: it is being written. whole: with the text that a branch shares, not only its own."""
    assert log.started is not None
    started, steps, end = log.started, log.steps, f": {log.note}" if log.note else ""
    yield ""
    yield f"run {log.run_number} · {len(started.prompt_tokens)} + {len(steps)} tokens · {state_of(log, live)}{end}"
    entropies = list(trace.column(log.run_number, "entropy_nats"))
    perplexity = next(iter(steps.values(BY_NAME["perplexity"], -1)), None) if len(steps) else None
    numbers = [
        f"{name} {value:.3g}{unit}"
        for name, value, unit in (
            ("mean entropy", mean(entropies), " nats"),
            ("perplexity", perplexity, ""),
            ("of the prompt", log.prompt_perplexity, ""),
            ("tokens a second", log.tokens_per_second(len(steps)), ""),
        )
        if value is not None
    ]
    yield ", ".join([*numbers, f"T {log.knobs.temperature:g}", f"seed {log.knobs.seed}"])
    yield from (f"  from token {mark.index + 1}: {mark.label}" for mark in log.marks)
    yield ""
    own = 0 if whole else len(steps) - trace.n_written(log.run_number)
    yield f"… from token {own + 1} of run {started.parent} on" if own else f"> {started.prompt}"
    yield "".join(steps.texts[own:])


def state_of(log: SessionView, live: bool) -> str:
    """The state of a run in a file, which may go on only as long as somebody writes it."""
    return log.state if live or log.state not in GOING_ON else "unfinished"


def branch_texts(path: Path, run: int | None = None) -> str:
    """Each branch of a trace as text, or only one: from the prompt through its parents to its own end.

    Raises UserError as `describe` does.
    """
    trace = Trace.open(path)
    texts = [_branch(trace, one) for one in (trace.runs if run is None else (trace.checked(run),))]
    return "\n\n---\n\n".join(texts) + "\n"


def _branch(trace: Trace, run: int) -> str:
    prompt = next((event.prompt for _, _, event in trace.events(run) if isinstance(event, Started)), "")
    text = "".join(trace.texts(run))
    return f"{prompt}{'' if text[:1].isspace() else chr(10) * 2}{text}"


def remove(files: Sequence[Path], agree: Callable[[str], bool]) -> Iterator[Path]:
    """Remove traces, each once `agree` says so, and tell which are gone. Raises UserError, before any is gone, for
    what is none."""
    for path in files:
        if not is_trace(path):
            raise UserError(f"{path} is no trace of tui-entropy: nothing was removed")
    for path in files:
        if agree(f"Remove {path}?"):
            for part in (path, *(path.with_name(path.name + end) for end in BESIDE)):
                part.unlink(missing_ok=True)
            yield path


def is_trace(path: Path) -> bool:
    """By its first bytes, which a damaged one has too."""
    with open_regular(path) as file:
        head = file.read(72)
    return head[:16] == MAGIC and int.from_bytes(head[68:], "big") == APPLICATION
