"""The commands. The only module that knows both engine and screen, and it imports them late."""

from __future__ import annotations

import gc
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tui_entropy import __version__
from tui_entropy.errors import UserError

if TYPE_CHECKING:
    from tui_entropy.records import Vector

SAMPLE_PROMPT = "Write a short story about a lighthouse keeper who finds a letter in a bottle."
EXIT_CODES = (
    "Exit codes: 0 done, 1 the engine failed, 2 wrong options, 3 something a person can put right, 130 ctrl-C."
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

Model = "Model"
Knob = "Knobs (each acts from the next token on)"
Look = "Screen"


@app.command(epilog=EXIT_CODES)
def run(
    model: Annotated[
        str, typer.Option(help="Hub id, folder, GGUF file, or a name of `models`.", rich_help_panel=Model)
    ] = "smollm2",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the model.")] = False,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="What to write from; - reads stdin.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt of the chat template.")] = None,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--raw", help="Chat template or raw text. [default: chat where there is one]"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 512,
    seed: Annotated[int, typer.Option(help="The draw at a position is a function of this and the position.")] = 7,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
    top_k: Annotated[int, typer.Option(help="0 is off.")] = 40,
    top_p: Annotated[float, typer.Option(help="1 is off.")] = 0.95,
    min_p: Annotated[float, typer.Option(help="Relative to the most probable token; 0 is off.")] = 0.0,
    typical_p: Annotated[float, typer.Option(help="1 is off.")] = 1.0,
    top_n_sigma: Annotated[float, typer.Option(help="0 is off.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Over prompt and written tokens; 1 is off.")] = 1.0,
    frequency_penalty: Annotated[float, typer.Option(help="Over written tokens; 0 is off.")] = 0.0,
    presence_penalty: Annotated[float, typer.Option(help="Over written tokens; 0 is off.")] = 0.0,
    order: Annotated[str, typer.Option(help="hf, llama.cpp, vllm, or stages joined by commas.")] = "hf",
    candidates: Annotated[int, typer.Option(min=1, max=200, help="Candidates kept for each step.")] = 20,
    vector: Annotated[
        list[str] | None,
        typer.Option(help="Control vector FILE:STRENGTH[:FIRST-LAST], switched on. May be given several times."),
    ] = None,
    headless: Annotated[bool, typer.Option(help="No screen: print the text to stdout.")] = False,
    as_json: Annotated[bool, typer.Option("--jsonl", help="With --headless: JSON lines instead of text.")] = False,
    theme: Annotated[str, typer.Option(envvar="TUI_ENTROPY_THEME", help="dark, light, ...; see `themes`.")] = "dark",
    color: Annotated[str, typer.Option(help="auto, truecolor, 256, 16, mono.")] = "auto",
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII only.")] = False,
    mouse: Annotated[bool, typer.Option(help="--no-mouse leaves text selection to the terminal.")] = True,
) -> None:
    """Write from a prompt, in the inspector or (--headless) without a screen."""
    from tui_entropy.knobs import check
    from tui_entropy.records import Knobs, ModelSpec, Write

    knobs = Knobs(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical_p=typical_p,
        top_n_sigma=top_n_sigma,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        order=order_option(order),
        seed=seed,
        n_candidates=candidates,
    )
    check(knobs)  # before anything slow
    spec = ModelSpec(model, revision, device, dtype, trust_remote_code)
    vectors = tuple(vector_option(text) for text in vector or ())
    given = sys.stdin.read() if prompt == "-" else prompt
    write = Write(given or SAMPLE_PROMPT, system, chat, max_tokens, knobs)
    if headless:
        prepare_engine()
        from tui_entropy.headless import write_out

        write_out(spec, write, vectors, as_json)
        return
    from tui_entropy.ui.start import start

    start(spec, write, vectors, theme=theme, color=color, ascii_only=ascii_only, mouse=mouse)


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


def order_option(text: str) -> tuple[str, ...]:
    """A preset's name, or stages joined by commas; those not named come after them."""
    from tui_entropy.records import ORDERS

    if text in ORDERS:
        return ORDERS[text]
    named = tuple(stage.strip().replace("-", "_") for stage in text.split(","))
    return named + tuple(stage for stage in ORDERS["hf"] if stage not in named)


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
