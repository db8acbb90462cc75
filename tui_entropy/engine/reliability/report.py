"""The report of `doctor` on a model on this machine: kept as JSON, drawn as tables."""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from tui_entropy.core import paths, streams
from tui_entropy.core.escape import plain_json, visible
from tui_entropy.core.files import bytes_of
from tui_entropy.records.model import ModelCard

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

IN_DTYPE = "entropy in dtype"
"""The check that says what a dtype below float32 costs."""
WIDTH = 150
"""Columns that the tables need."""
PASS, FAIL, SKIPPED, NOTED = "pass", "fail", "skipped", "noted"
STYLES = {PASS: "green", FAIL: "bold red", NOTED: "yellow", SKIPPED: "yellow"}
ONE_PASS, EAGER = "pass over a text at once", "eager attention"
"""Ways of transformers that numbers are held against; in some families it says something else by another one."""


class Check(Struct, frozen=True):
    """One comparison of numbers that are shown with another way to get them."""

    name: str
    group: str
    """One of TRUSTED."""
    compared: str
    """'a against b'."""
    unit: str
    """Of the two numbers below."""
    worst: float | None = None
    """Largest difference; None where it was skipped."""
    bound: float | None = None
    """The largest that passes."""
    skipped: str = ""
    """Why it could not be done; empty where it was."""
    proves: tuple[str, ...] = ()
    """What it is a second way to: 'series entropy', 'stage top_p', 'step.candidates'; of other records likewise."""
    note: str = ""
    """What is told in place of a verdict where transformers differs from itself, and neither way is known to be
    wrong."""
    rests_on: tuple[str, ...] = ()
    """ONE_PASS or EAGER where it is held against them."""

    @property
    def verdict(self) -> str:
        if self.skipped or self.note:
            return SKIPPED if self.skipped else NOTED
        # A difference that is not a number is none that passes.
        return PASS if self.worst is not None and self.bound is not None and self.worst <= self.bound else FAIL


class Cost(Struct, frozen=True):
    """The cost of a view: what it asks of the engine."""

    view: str
    seconds: float | None = None
    """Per decode step, or per what `per` names. Of what is measured inside the forward pass: what it adds."""
    spread: float | None = None
    """Seconds, half of what the middle half of the readings spans: a cost below it is lost in what else goes on."""
    kept: float | None = None
    """Bytes kept for each token."""
    per: str = "step"
    skipped: str = ""


class Report(Struct, frozen=True):
    model: str
    revision: str | None
    device: str
    dtype: str
    machine: str
    versions: dict[str, str]
    at: str
    """Local date and time, ISO 8601 to the minute."""
    n_tokens: int
    """Of the prompt that everything was measured on."""
    checks: tuple[Check, ...]
    costs: tuple[Cost, ...]

    @property
    def passed(self) -> bool:
        return all(check.verdict != FAIL for check in self.checks)


def machine() -> str:
    """The name, kind and system of this machine: numbers proven on another one are not proven here."""
    return f"{platform.node()} {platform.machine()} {platform.system()}"


def path_of(card: ModelCard) -> Path:
    """The file that keeps the report of a model, revision, device and dtype."""
    key = "\0".join((card.name, card.revision or "", card.device, card.dtype))
    readable = re.sub(r"[^\w.-]+", "-", card.name)[-60:]
    return paths.state() / "doctor" / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def save(report: Report, card: ModelCard) -> Path:
    path = path_of(card)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_json(report))
    return path


def load_report(card: ModelCard) -> Report | None:
    """The report made here with these very versions, if it was ever asked for and can still be read."""
    try:
        report = msgspec.json.decode(bytes_of(path_of(card)), type=Report)
    except (OSError, msgspec.MsgspecError):
        return None
    return report if (report.machine, report.versions) == (machine(), card.versions) else None


def as_json(report: Report) -> bytes:
    """Readable; each check with its verdict."""
    plain = msgspec.to_builtins(report)
    for check, known in zip(plain["checks"], report.checks, strict=True):
        check["verdict"] = known.verdict
    return plain_json(msgspec.json.format(msgspec.json.encode(plain | {"passed": report.passed}))) + b"\n"


def show(report: Report) -> None:
    """Print it to stdout, as wide as the terminal, or as wide as the tables where there is none."""
    from rich.console import Console
    from rich.segment import Segment, Segments

    width = None if sys.stdout.isatty() else WIDTH
    console = Console(highlight=False, width=width)
    with console.capture() as drawn:
        console.print(Segments([Segment(visible(part.text), part.style) for part in console.render(tables(report))]))
    streams.put_drawn(drawn.get())


def tables(report: Report) -> RenderableType:
    """The checks, and below them the costs, for a rich console."""
    from rich.console import Group
    from rich.text import Text

    counts = [(verdict, sum(check.verdict == verdict for check in report.checks)) for verdict in STYLES]
    summary = ", ".join(f"{n} {verdict}" for verdict, n in counts if n)
    where = f"{report.model} · {report.device} {report.dtype} · prompt of {report.n_tokens} tokens"
    end = Text(f"{summary} · {report.at}", style=STYLES[PASS if report.passed else FAIL])
    return Group(Text(where, style="bold"), _checks(report), _costs(report), end)


def _checks(report: Report) -> Table:
    table = _table("check", "what was compared", "worst", "bound", "unit", "verdict", numbers=("worst", "bound"))
    for check in report.checks:
        reason = check.skipped or check.note
        verdict = f"{check.verdict}: {reason}" if reason else check.verdict
        numbers = (_number(check.worst), _number(check.bound), check.unit)
        table.add_row(check.name, check.compared, *numbers, _styled(verdict, STYLES[check.verdict]))
    return table


def _costs(report: Report) -> Table:
    table = _table("what is shown", "ms", "±", "per", "KiB per token", "", numbers=("ms", "±", "KiB per token"))
    every_step = [cost for cost in report.costs if cost.per == "step"]
    seconds, kept = (sum(getattr(cost, field) or 0 for cost in every_step) for field in ("seconds", "kept"))
    for cost in (*report.costs, Cost("all that each step does", seconds, None, kept)):
        ms, spread = ("" if n is None else f"{n * 1000:.3f}" for n in (cost.seconds, cost.spread))
        kib = "" if cost.kept is None else f"{cost.kept / 1024:.2f}"
        table.add_row(cost.view, ms, spread, cost.per, kib, _styled(cost.skipped, STYLES[SKIPPED]))
    return table


def _table(*columns: str, numbers: tuple[str, ...]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column in numbers
        table.add_column(
            column, justify="right" if right else "left", no_wrap=right or column in ("check", "unit", "per")
        )
    return table


def _styled(text: str, style: str) -> RenderableType:
    from rich.text import Text

    return Text(text, style=style)


def _number(value: float | None) -> str:
    return "" if value is None else "0" if value == 0 else f"{value:.2g}"
