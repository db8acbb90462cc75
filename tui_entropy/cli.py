"""The commands. The only module that knows both engine and screen, and it imports them late."""

from __future__ import annotations

import gc
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from tui_entropy import __version__
from tui_entropy.errors import UserError
from tui_entropy.knobs import KNOBS, Knob, read, shown
from tui_entropy.records import Knobs, ModelSpec, Write

if TYPE_CHECKING:
    from tui_entropy.records import Breakpoint, Vector

SAMPLE_PROMPT = "Write a short story about a lighthouse keeper who finds a letter in a bottle."
EXIT_CODES = (
    "Exit codes: 0 done, 1 the engine failed, 2 wrong options, 3 something a person can put right, 4 stopped at a "
    "breakpoint (run --headless), 130 ctrl-C."
)

app = typer.Typer(
    name="tui-entropy",
    help="A debugger for text generation that lives in a terminal. Without a command it opens the inspector (`run`).",
    epilog=EXIT_CODES,
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# What every command that loads a model is told of it.
Name = Annotated[str, typer.Option("--model", help="Hub id, folder, GGUF file, or a name of `models`.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")]
RemoteCode = Annotated[bool, typer.Option(help="Run Python code that comes with the model.")]
Graph = Annotated[
    bool, typer.Option(help="On a GPU run decode steps as a captured CUDA graph, where the model can be.")
]
TraceFile = Annotated[str, typer.Argument(metavar="FILE", help="A name of `traces`, or a path.")]
TracePath = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE.tui", help="Record in this file. [default: one of its own, see `traces`]"),
]
NoTrace = Annotated[bool, typer.Option("--no-trace", help="Keep no record.")]
Run = Annotated[int | None, typer.Option("--run", help="Only this one. [default: all]")]

# What it is told to write.
Prompt = Annotated[str | None, typer.Option("--prompt", "-p", help="What to write from; - reads stdin.")]
System = Annotated[str | None, typer.Option(help="System prompt of the chat template.")]
Chat = Annotated[
    bool | None, typer.Option("--chat/--raw", help="Chat template or raw text. [default: chat where there is one]")
]
MaxTokens = Annotated[int, typer.Option(min=1, help="Tokens to write at most.")]
Vectors = Annotated[
    list[str] | None,
    typer.Option(help="Control vector FILE:STRENGTH[:FIRST-LAST], switched on. May be given several times."),
]

Breaks = Annotated[
    list[str] | None,
    typer.Option(
        "--break", metavar="EXPR", help="Stop before a token of which this is true, such as 'entropy > 3 bits'; see "
        "docs/breakpoints.md. May be given several times.",
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
    typer.Option(envvar="TUI_ENTROPY_KEEP", help="How long the engine stays with nobody attached: 90s, 30m, 12h, 0."),
]
OnLeave = Annotated[
    str,
    typer.Option(
        envvar="TUI_ENTROPY_ON_LEAVE",
        help="What becomes of the text when the last screen is gone, its connection lost too: write, pause, stop.",
    ),
]
KeptCache = Annotated[
    str,
    typer.Option(
        metavar="SIZE", help="Memory for keys and values beside those of the text that is written, so that branches "
        "and going back need not read again: 512MiB, 2GiB, 0 for none.",
    ),
]  # fmt: skip

# What every command that draws is told of the looks.
Theme = Annotated[str, typer.Option(envvar="TUI_ENTROPY_THEME", help="dark, light, ...; see `themes`.")]
Color = Annotated[str, typer.Option(help="auto, truecolor, 256, 16, mono.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII only.")]
Diff = Annotated[bool, typer.Option(help="--no-diff sends whatever is painted, not only what changed.")]
Mouse = Annotated[bool, typer.Option(help="--no-mouse leaves text selection to the terminal.")]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for every part of a model's name in place of its parameter `spec`, and one for every
    knob in place of `knobs`."""

    def typed(**given: Any) -> None:
        for name, (options, made) in taken.items():
            given[name] = made({option.name: given.pop(option.name) for option in options})
        command(**given)

    signature = inspect.signature(command, eval_str=True)
    taken = {name: GROUPS[name] for name in signature.parameters if name in GROUPS}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += taken[parameter.name][0] if parameter.name in taken else [parameter]
    typed.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    typed.__name__, typed.__doc__ = command.__name__, command.__doc__
    return typed


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(knob: Knob) -> inspect.Parameter:
    default = knob.default if knob.is_number else shown(Knobs(), knob.name)
    return _parameter(knob.name, default, Annotated[type(default), typer.Option(knob.option, help=knob.about)])


def _knobs(given: dict[str, Any]) -> Knobs:
    knobs = Knobs()
    for name, value in given.items():
        knobs = read(knobs, name, str(value))
    return knobs


GROUPS: dict[str, tuple[list[inspect.Parameter], Callable[[dict[str, Any]], Any]]] = {
    "spec": (
        [
            _parameter("model", "smollm2", Name),
            _parameter("revision", None, Revision),
            _parameter("device", "auto", Device),
            _parameter("dtype", "auto", Dtype),
            _parameter("trust_remote_code", False, RemoteCode),
            _parameter("graph", True, Graph),
        ],
        lambda given: ModelSpec(*given.values()),
    ),
    "knobs": ([_option(knob) for knob in KNOBS], _knobs),
}
"""A parameter of a command -> the options that stand for it, in order, and what makes it of them."""


def prompt_option(text: str | None) -> str | None:
    """What --prompt says, or stdin does."""
    return sys.stdin.read() if text == "-" else text


@app.command(epilog=EXIT_CODES)
@grouped
def run(
    *,
    spec: ModelSpec,
    prompt: Prompt = None,
    system: System = None,
    chat: Chat = None,
    max_tokens: MaxTokens = 512,
    knobs: Knobs,
    vector: Vectors = None,
    stop_at: Breaks = None,
    watch: Watches = None,
    prompt_scores: Annotated[
        bool | None,
        typer.Option(
            help="Score the tokens of the prompt too: its reading takes about half as long again. [default: where "
            "they show, on the screen and in JSON lines]"
        ),
    ] = None,
    trace: TracePath = None,
    no_trace: NoTrace = False,
    headless: Annotated[bool, typer.Option(help="No screen: print the text to stdout.")] = False,
    as_json: Annotated[bool, typer.Option("--jsonl", help="With --headless: JSON lines instead of text.")] = False,
    keep: Keep = "30m",
    on_leave: OnLeave = "write",
    kept_cache: KeptCache = "1GiB",
    theme: Theme = "dark",
    color: Color = "auto",
    ascii_only: Ascii = False,
    mouse: Mouse = True,
    diff: Diff = True,
) -> None:
    """Write from a prompt, in the inspector or (--headless) without a screen."""
    vectors = tuple(vector_option(text) for text in vector or ())
    stops: Any = {"breakpoints": break_options(stop_at), "watches": tuple(watch or ())}
    scored = as_json or not headless if prompt_scores is None else prompt_scores
    write = Write(prompt_option(prompt) or SAMPLE_PROMPT, system, chat, max_tokens, knobs, scored)
    path = None if no_trace else trace_path(trace, spec.name, write.prompt)
    if headless:
        prepare_engine()
        from tui_entropy.headless import write_out

        if not write_out(spec, write, vectors, as_json, path, **stops):
            raise typer.Exit(4)
        return
    from tui_entropy.engines import staying
    from tui_entropy.ui.start import start

    engine: dict[str, Any] = {"vectors": vectors, "trace": path, **stops, **staying(keep, on_leave, kept_cache)}
    start(spec, write, theme=theme, color=color, ascii_only=ascii_only, mouse=mouse, diff=diff, **engine)


@app.command(epilog=EXIT_CODES)
@grouped
def serve(
    *,
    spec: ModelSpec,
    prompt: Prompt = None,
    system: System = None,
    chat: Chat = None,
    max_tokens: MaxTokens = 512,
    knobs: Knobs,
    vector: Vectors = None,
    stop_at: Breaks = None,
    watch: Watches = None,
    trace: TracePath = None,
    no_trace: NoTrace = False,
    keep: Keep = "30m",
    on_leave: OnLeave = "write",
    kept_cache: KeptCache = "1GiB",
    headless: Annotated[bool, typer.Option("--headless", help="No screen, as always here.")] = True,
) -> None:
    """Start an engine without a screen, let it write if there is a prompt, and tell how to attach to it."""
    from tui_entropy import attaching, engines
    from tui_entropy.narration import Narrator
    from tui_entropy.records import Load

    stops = break_options(stop_at)
    given = prompt_option(prompt)
    write = Write(given, system, chat, max_tokens, knobs) if given else None
    path = None if no_trace else str(trace_path(trace, spec.name, given or "").absolute())
    stays = engines.staying(keep, on_leave, kept_cache)
    load = Load(spec, tuple(vector_option(text) for text in vector or ()), path, **stays)
    if not load.keep:
        raise UserError("--keep 0 would end this engine at once: give the time that it stays with nobody attached")
    narrator = Narrator()
    told = attaching.serve(engines.command(), load, write, narrator.progress, stops, tuple(watch or ()))
    narrator.done(f"engine {told} is up: {engines.how_back(told, load.keep)}")
    typer.echo(told)


@app.command(epilog=EXIT_CODES)
def attach(
    engine: EngineId = None,
    show: Annotated[bool, typer.Option("--list", help="List the running engines instead.")] = False,
    ssh: Annotated[str | None, typer.Option(metavar="HOST", help="Attach there, by `ssh -t HOST`.")] = None,
    remote: Annotated[str, typer.Option(help="With --ssh: what tui-entropy is called there.")] = "tui-entropy",
    socket: Annotated[Path | None, typer.Option(help="Socket of an engine, as one forwarded by `ssh -L`.")] = None,
    theme: Theme = "dark",
    color: Color = "auto",
    ascii_only: Ascii = False,
    mouse: Mouse = True,
    diff: Diff = True,
) -> None:
    """Come back to a running engine: the screen as it was left, and everything that happened meanwhile."""
    from tui_entropy import attaching, engines
    from tui_entropy.ui.start import color_mode, start

    if ssh is not None:
        flags = ["--list"] * show + ["--ascii"] * ascii_only + ["--no-mouse"] * (not mouse)
        flags += ["--no-diff"] * (not diff)
        flags += ["--theme", theme, "--color", color_mode(color, os.environ)]
        command = attaching.over_ssh(ssh, remote, [*([engine] if engine else []), *flags])
        try:
            os.execvp(command[0], command)
        except OSError as missing:
            raise UserError(f"ssh could not be started: {missing}") from missing
    if show:
        typer.echo(attaching.table(found := engines.running()), nl=False)
        if found:
            typer.echo(f"Their sockets are {found[0].socket.with_name('ID.sock')}", err=True)
        return
    path = socket or attaching.chosen(engine).socket
    source: dict[str, Any] = {"attach": path, "forwarded": attaching.is_forwarded(path)}
    start(
        ModelSpec("smollm2"), None, theme=theme, color=color, ascii_only=ascii_only, mouse=mouse, diff=diff, **source
    )


@app.command(epilog=EXIT_CODES)
def stop(
    engine: EngineId = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every running engine.")] = False,
) -> None:
    """End a running engine, whoever watches it."""
    from tui_entropy import attaching, engines

    for each in engines.running() if everyone else [attaching.chosen(engine)]:
        attaching.stop(each)
        typer.echo(f"engine {each.id} has ended", err=True)


@app.command(epilog=EXIT_CODES)
def replay(
    file: TraceFile,
    run: Annotated[int | None, typer.Option(help="Which run of it. [default: the newest]")] = None,
    speed: Annotated[float, typer.Option(min=0.001, help="2 is twice as fast as it was.")] = 1.0,
    everything: Annotated[bool, typer.Option("--all", help="Show all of it at once instead of playing it.")] = False,
    first: Annotated[int, typer.Option("--from", min=0, help="Play from this token on.")] = 0,
    snapshot: Annotated[
        list[str] | None,
        typer.Option(
            help="A picture instead of a screen: FILE.svg, .png or .txt, then perhaps @120x36 and :token=80 or "
            ":page=numbers. May be given several times."
        ),
    ] = None,
    cast: Annotated[
        Path | None, typer.Option(help="A film instead of a screen: asciicast v2, for asciinema.")
    ] = None,
    size: Annotated[str, typer.Option(help="Of --cast: columns x rows.")] = "120x36",
    theme: Theme = "dark",
    color: Color = "auto",
    ascii_only: Ascii = False,
    mouse: Mouse = True,
    diff: Diff = True,
) -> None:
    """Show a recording as it was written, without a model."""
    from tui_entropy.traces import found
    from tui_entropy.ui import start

    path, begin, looks = found(file), None if everything else first, (theme, color, ascii_only)
    if snapshot or cast:
        start.depict(path, run, looks, snapshots=snapshot or (), cast=cast, size=size, speed=speed, first=begin)
    else:
        start.replay(path, run, looks, speed=speed, first=begin, mouse=mouse, diff=diff)


@app.command(epilog=EXIT_CODES)
def models() -> None:
    """List the models that are here, and those that can be fetched."""
    from tui_entropy.listing import listing

    typer.echo(listing(), nl=False)


@app.command(epilog=EXIT_CODES)
def fetch(
    name: Annotated[str, typer.Argument(help="A name of `models`, such as smollm2 or gemma.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree to the model's terms without being asked.")] = False,
) -> None:
    """Download a model, check it, and keep it ready."""
    prepare_engine()
    from tui_entropy.engine.fetching import fetch as get
    from tui_entropy.narration import Narrator

    def agree(terms: str) -> bool:
        typer.echo(terms, err=True)
        return yes or typer.confirm("Do you agree?", err=True)

    narrator = Narrator()
    folder = get(name, narrator.progress, agree)
    narrator.done(f"{name} is ready in {folder}")


@app.command(epilog=EXIT_CODES.replace("the engine failed", "a check or the engine failed"))
@grouped
def doctor(
    *,
    spec: ModelSpec,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON instead of tables.")] = False,
) -> None:
    """Prove the numbers on this very model and machine, and tell what each view costs."""
    prepare_engine()
    from tui_entropy import report
    from tui_entropy.engine.loading import load
    from tui_entropy.engine.verify.doctor import doctor as examined
    from tui_entropy.narration import Narrator

    narrator = Narrator()
    loaded = load(spec, narrator.progress)
    found = examined(loaded, narrator.progress)
    narrator.done(f"kept in {report.save(found, loaded.card)}")
    if as_json:
        typer.echo(report.as_json(found), nl=False)
    else:
        report.show(found)
    raise typer.Exit(0 if found.passed else 1)


@app.command(epilog=EXIT_CODES)
def traces() -> None:
    """List what was recorded."""
    from tui_entropy.traces import listing

    typer.echo(listing(), nl=False)


@app.command(epilog=EXIT_CODES)
def show(file: TraceFile, run: Run = None) -> None:
    """Tell what is in a trace: every run, its numbers as a whole, its text."""
    from tui_entropy.traces import found, shown

    typer.echo(shown(found(file), run), nl=False)


@app.command(epilog=EXIT_CODES)
def merge(file: TraceFile, run: Run = None) -> None:
    """Print the text of every branch of a trace, each from the prompt to its own end."""
    from tui_entropy.traces import found, merged

    typer.echo(merged(found(file), run), nl=False)


@app.command(epilog=EXIT_CODES)
def rm(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Names of `traces`, or paths.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without being asked.")] = False,
) -> None:
    """Remove traces."""
    from tui_entropy.traces import found, remove

    remove([found(file) for file in files], lambda question: yes or typer.confirm(question, err=True))


@app.command(epilog=EXIT_CODES)
def export(
    file: TraceFile,
    to: Annotated[str, typer.Option(help="csv, jsonl, parquet, npz, inif, html, svg, png or cast.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to; - is stdout, an ending .gz compresses. [default: as FILE, here]"),
    ] = None,
    run: Annotated[int | None, typer.Option(help="Which run of the trace. [default: the newest]")] = None,
    bits: Annotated[bool, typer.Option(help="Pictures and the page begin in bits; tables are in nats.")] = False,
) -> None:
    """Write a run of a trace as a table, arrays, a web page or a figure. All of them hold prompt and text."""
    from tui_entropy.export import formats
    from tui_entropy.traces import found

    typer.echo(formats.export(found(file), to, out, run, bits), err=True)


@app.command(epilog=EXIT_CODES)
def themes() -> None:
    """List the themes: ours and the user's own."""
    from tui_entropy.ui.theme import available

    for name, path in sorted(available().items()):
        typer.echo(f"{name:16} {path}")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if show:
        typer.echo(f"tui-entropy {__version__}")
        raise typer.Exit()


def trace_path(given: Path | None, model: str, prompt: str) -> Path:
    """Where to record. Raises UserError for a file that is there already."""
    from tui_entropy.traces import new_path

    if given is not None and given.exists():
        raise UserError(f"--trace {given} is there already: give another name, or remove it with `tui-entropy rm`")
    return given or new_path(model, prompt)


VECTOR = re.compile(r"(?P<source>.+?):(?P<strength>[-+]?\d*\.?\d+)(:(?P<first>\d+)-(?P<last>\d+))?")


def vector_option(text: str) -> Vector:
    """FILE:STRENGTH[:FIRST-LAST] -> Vector, switched on. Raises UserError."""
    from tui_entropy.records import Vector

    found = VECTOR.fullmatch(text)
    if found is None:
        raise UserError(f"--vector {text}: wanted FILE:STRENGTH[:FIRST-LAST], such as warm.gguf:0.8:10-20")
    return Vector(
        name=Path(found["source"]).stem,
        source=found["source"],
        strength=float(found["strength"]),
        on=True,
        first=int(found["first"]) if found["first"] else None,
        last=int(found["last"]) if found["last"] else None,
    )


def break_options(texts: list[str] | None) -> tuple[Breakpoint, ...]:
    """Breakpoints of these expressions, numbered from 1. Raises UserError for one that is wrong, with a caret."""
    from tui_entropy.conditions import ConditionError, parse
    from tui_entropy.records import Breakpoint

    for text in texts or ():
        try:
            parse(text)
        except ConditionError as mistake:
            raise UserError(f"--break: {mistake.shown()}") from None
    return tuple(Breakpoint(number, text) for number, text in enumerate(texts or (), 1))


def prepare_engine() -> None:
    """What must be set before torch and transformers are imported in this process."""
    gc.enable()
    # Waiting OpenMP threads spin by default, which starves a machine whose cores are busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> NoReturn:
    """Run a command; no command means `run`. A person's mistake is answered in a sentence."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["run", *arguments]
    try:
        app(arguments, standalone_mode=True)
    except UserError as mistake:
        sys.stderr.write(f"{mistake}\n")
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
