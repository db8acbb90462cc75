"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable
from itertools import pairwise
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_entropy.cli.usage import option_check
from tui_entropy.core.errors import UserError
from tui_entropy.records.model import COLUMNS, DTYPES, ROWS
from tui_entropy.records.settings import RECORDED_ROWS

if TYPE_CHECKING:
    from tui_entropy.records.commands import Write
    from tui_entropy.records.sampling import Knobs
    from tui_entropy.records.settings import Breakpoint, Vector


def _device(text: str) -> None:
    """Only how it is spelled: which there are, the engine knows."""
    if not re.fullmatch(r"[a-z]{1,20}(:\d{1,3})?", text, re.ASCII):
        raise UserError(f"--device {text} names no device: wanted auto, cpu, cuda, cuda:1 or mps")


def one_of(option: str, *known: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        if text not in known:
            raise UserError(f"{option} {text} is not known: take one of {', '.join(known)}")

    return check


def _keep(text: str) -> None:
    from tui_entropy.transport.durations import seconds

    seconds(text)


def _kept_cache(text: str) -> None:
    from tui_entropy.transport.durations import n_bytes

    n_bytes(text)


def _on_leave(text: str) -> None:
    from tui_entropy.transport.discovery import lifetime_options

    lifetime_options("0", text)


def _theme(name: str) -> None:
    from tui_entropy.ui.drawing.theme import load

    load(name)


def _color(name: str) -> None:
    from tui_entropy.ui.terminal.detect import color_mode

    color_mode(name, os.environ)


SAMPLE_PROMPT = "Write a short story about a lighthouse keeper who finds a letter in a bottle."

# What every command that loads a model is told of it.
Name = Annotated[str, typer.Option("--model", help="Hub id, folder, GGUF file, or a name of `models`.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", callback=option_check(_device))]
Dtype = Annotated[
    str,
    typer.Option(help="auto, float32, bfloat16, float16.", callback=option_check(one_of("--dtype", "auto", *DTYPES))),
]
RemoteCode = Annotated[bool, typer.Option(help="Run Python code that comes with the model.")]
Graph = Annotated[
    bool,
    typer.Option(
        "--graph/--no-graph", help="On a GPU run decode steps as a captured CUDA graph, where the model can be."
    ),
]
Products = Annotated[
    str,
    typer.Option(
        help="How products of one row or two are taken on a CPU: columns, rows; auto is what was faster when this "
        "model was first loaded here, and kept.",
        callback=option_check(one_of("--products", "auto", COLUMNS, ROWS)),
    ),
]
ChatTemplate = Annotated[str | None, typer.Option(help="Name of the one to use, of a model that has several.")]
TRACE_HELP = "`last` for the newest, a name of `traces` or a part of it that no other has, or a path."
TraceFile = Annotated[
    str | None, typer.Argument(metavar="[FILE]", help=f"{TRACE_HELP} [default: chosen from a list, in a terminal]")
]
TracePath = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE.tui", help="Record in this file. [default: one of its own, see `traces`]"),
]
RecordAttention = Annotated[
    str,
    typer.Option(
        "--record-attention", metavar="off|shown|all", help="Attention rows in the record. shown: of each block "
        "the mean of its heads, and the head that is looked at; all: each head too.",
        callback=option_check(one_of("--record-attention", *RECORDED_ROWS)),
    ),
]  # fmt: skip
NoTrace = Annotated[bool, typer.Option("--no-trace", help="Keep no record.")]
Run = Annotated[int | None, typer.Option("--run", help="Only this one. [default: all]")]
OneRun = Annotated[int | None, typer.Option("--run", help="Which run of it. [default: the one looked at last]")]

# What it is told to write.
Prompt = Annotated[str | None, typer.Option("--prompt", "-p", help="What to write from; - reads stdin.")]
System = Annotated[str | None, typer.Option(help="System prompt of the chat template.")]
Chat = Annotated[
    bool | None, typer.Option("--chat/--raw", help="Chat template or raw text. [default: chat where there is one]")
]
MaxTokens = Annotated[int, typer.Option(min=1, max=2**31 - 1, help="Tokens to write at most.")]
Vectors = Annotated[
    list[str] | None,
    typer.Option(
        help="Control vector FILE:STRENGTH[:FIRST-LAST], switched on; behind it perhaps @STEP=FACTOR,... for a "
        "strength that changes, and ' if CONDITION' (as of --break) for steps behind a token that meets it. May be "
        "given several times.",
        callback=option_check(lambda text: vector_option(text)),
    ),
]

Ablate = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PART[=FACTOR]",
        help="Scale what a part of a block adds, by 0 where no factor is named: BLOCK.HEAD, BLOCK.attention or "
        "BLOCK.feed-forward, such as 12.3 or 12.attention=0.5. May be given several times.",
        callback=option_check(lambda text: ablate_option(text)),
    ),
]


def _picture(path: Path) -> None:
    from tui_entropy.export.diagrams.curves import check_picture

    check_picture(path)


Headless = Annotated[bool, typer.Option(help="No screen: print what it comes to on stdout.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, in nats.")]
Bits = Annotated[bool, typer.Option("--bits/--nats", help="The unit of what is printed or drawn.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE.json", help="Keep the results there, for `results`. [default: nowhere]"
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE.svg",
        help="Write the curves as a picture too: .svg, .png or .pdf. [default: none]",
        callback=option_check(_picture),
    ),
]

Breaks = Annotated[
    list[str] | None,
    typer.Option(
        "--break", metavar="EXPR", help="Stop before a token of which this is true, such as 'entropy > 3 bits'; see "
        "docs/breakpoints.md. May be given several times.", callback=option_check(lambda text: break_options([text])),
    ),
]  # fmt: skip
Watches = Annotated[
    list[str] | None,
    typer.Option(
        "--watch", metavar="TEXT", help="Follow the probability of this text at every token. May be given several "
        "times.",
    ),
]  # fmt: skip

EngineId = Annotated[str | None, typer.Argument(metavar="[ID]", help="Of `attach --list`, or how it begins.")]
# How long an engine stays, and what it does alone.
Keep = Annotated[
    str,
    typer.Option(
        envvar="TUI_ENTROPY_KEEP",
        help="How long the engine stays with nobody attached: 90s, 30m, 12h, 0.",
        callback=option_check(_keep),
    ),
]
OnLeave = Annotated[
    str,
    typer.Option(
        envvar="TUI_ENTROPY_ON_LEAVE",
        help="What becomes of the text when the last screen is gone, its connection lost too: write, pause, stop.",
        callback=option_check(_on_leave),
    ),
]
KeptCache = Annotated[
    str,
    typer.Option(
        metavar="SIZE", help="Memory for keys and values beside those of the text that is written, so that branches "
        "and going back need not read again: 512MiB, 2GiB, 0 for none.", callback=option_check(_kept_cache),
    ),
]  # fmt: skip

# What every command that draws is told of the looks.
Theme = Annotated[
    str,
    typer.Option(envvar="TUI_ENTROPY_THEME", help="dark, light, ...; see `themes`.", callback=option_check(_theme)),
]
Color = Annotated[str, typer.Option(help="auto, truecolor, 256, 16, mono.", callback=option_check(_color))]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII only.")]
Diff = Annotated[bool, typer.Option(help="--no-diff sends whatever is painted, not only what changed.")]
Demo = Annotated[
    bool, typer.Option("--demo", help="Fewer and larger panes and a caption for every key, for a film or a talk.")
]
Mouse = Annotated[bool, typer.Option(help="--no-mouse leaves text selection to the terminal.")]


def number(value: float) -> None:
    """Refuse what is none, which no range does: every comparison with it is false. Raises UserError."""
    if isnan(value):
        raise UserError("nan is no number: give one")


def prompt_option(text: str | None) -> str | None:
    """The text of --prompt, or of stdin. Raises UserError for what is no text there."""
    from tui_entropy.core.streams import read_text

    return read_text() if text == "-" else text


def text_in(name: str) -> str:
    """The text of a file, or with - of stdin. Raises UserError for what is no text."""
    from tui_entropy.core.files import text_of
    from tui_entropy.core.streams import read_text

    try:
        return read_text() if name == "-" else text_of(Path(name))
    except OSError as refused:
        raise UserError(
            f"the text {name} cannot be read ({refused.strerror}): name a file of text, or - for stdin"
        ) from refused
    except UnicodeDecodeError as odd:
        raise UserError(f"the text {name} is no UTF-8 (byte {odd.start + 1} is no part of it): convert it") from odd


def text_to_read(file: str, chat: bool | None, max_tokens: int, knobs: Knobs) -> Write:
    """The command to read what is in a file, or on stdin. Raises UserError for what is no text there."""
    from tui_entropy.core.conversation import read_conversation
    from tui_entropy.records.bounds import MAX_CHARS
    from tui_entropy.records.commands import Message, Write

    text = text_in(file)
    if len(text) > MAX_CHARS:
        raise UserError(f"{file} has {len(text)} characters and {MAX_CHARS} are read at most: give a part of it")
    turns = None if chat is False else read_conversation(text, file)
    if turns is None and chat:
        turns = (("user", text),)
    messages = tuple(Message(role, content) for role, content in turns or ())
    return Write("" if turns else text, None, bool(turns), max_tokens, knobs, False, read=True, messages=messages)


def trace_path(path: Path | None, model: str, prompt: str) -> Path:
    """The file to record in. Raises UserError for one that is there already."""
    from tui_entropy.trace.library import new_path

    if path is not None and path.exists():
        raise UserError(f"--trace {path} is there already: give another name, or remove it with `tui-entropy rm`")
    return path or new_path(model, prompt)


NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
POINT = rf"\d{{1,9}}={NUMBER}"
VECTOR = re.compile(
    rf"(?P<source>.+?):(?P<strength>{NUMBER})(:(?P<first>\d{{1,9}})-(?P<last>\d{{1,9}}))?"
    rf"(@(?P<schedule>{POINT}(,{POINT})*))?( if (?P<condition>.+))?",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)


def vector_option(text: str) -> Vector:
    """FILE:STRENGTH[:FIRST-LAST][@STEP=FACTOR,...][ if CONDITION] -> Vector, switched on. Raises UserError."""
    from tui_entropy.records.settings import Vector

    match = VECTOR.fullmatch(text)
    if match is None or not isfinite(float(match["strength"])):
        raise UserError(
            f"--vector {text}: wanted FILE:STRENGTH[:FIRST-LAST][@STEP=FACTOR,...][ if CONDITION], such as "
            "warm.gguf:0.8:10-20, warm.gguf:0.8@1=0,20=1 or 'warm.gguf:0.8 if entropy > 3 bits'"
        )
    points = [point.split("=") for point in (match["schedule"] or "").split(",") if point]
    schedule = tuple((int(step), float(factor)) for step, factor in points)
    if any(one >= other for (one, _), (other, _) in pairwise(schedule)) or any(step < 1 for step, _ in schedule):
        raise UserError(f"--vector {text}: the steps of a schedule count from 1 and rise, such as @1=0,20=1")
    if any(not isfinite(factor) for _, factor in schedule):
        raise UserError(f"--vector {text}: a factor of the schedule is too large to be a number")
    if match["condition"]:
        _parse_condition("--vector", match["condition"])
    return Vector(
        name=Path(match["source"]).stem,
        source=match["source"],
        strength=float(match["strength"]),
        on=True,
        first=int(match["first"]) if match["first"] else None,
        last=int(match["last"]) if match["last"] else None,
        schedule=schedule,
        condition=match["condition"] or "",
    )


def ablate_option(text: str) -> Vector:
    """PART[=FACTOR] -> Vector, switched on. Raises UserError."""
    from tui_entropy.records.settings import scaled_part

    try:
        return scaled_part(text)
    except ValueError as mistake:
        raise UserError(f"--ablate {text}: {mistake}") from None


def steering_options(vector: list[str] | None, ablate: list[str] | None) -> tuple[Vector, ...]:
    """What --vector and --ablate name. Raises UserError."""
    return (*map(vector_option, vector or ()), *map(ablate_option, ablate or ()))


def _parse_condition(option: str, text: str) -> None:
    """Raises UserError for an expression that is wrong, with a caret."""
    from tui_entropy.breakpoints.condition import ConditionError
    from tui_entropy.breakpoints.parser import parse

    try:
        parse(text)
    except ConditionError as mistake:
        raise UserError(f"{option}: {mistake}", mistake.place()) from None


def break_options(texts: list[str] | None) -> tuple[Breakpoint, ...]:
    """Breakpoints of these expressions, numbered from 1. Raises UserError for one that is wrong, with a caret."""
    from tui_entropy.records.settings import Breakpoint

    for text in texts or ():
        _parse_condition("--break", text)
    return tuple(Breakpoint(number, text) for number, text in enumerate(texts or (), 1))


def prepare_engine() -> None:
    """Set what must be set before torch and transformers are imported in this process."""
    gc.enable()
    # Waiting OpenMP threads spin by default, which starves a machine whose cores are busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
