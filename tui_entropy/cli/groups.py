"""Parameters of a command that stand for a group of options: a model's name, the knobs, the look of a screen."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from msgspec.structs import replace

from tui_entropy.cli.options import (
    Ascii,
    AsJson,
    Bits,
    ChatTemplate,
    Color,
    Demo,
    Device,
    Diff,
    Dtype,
    Graph,
    Headless,
    Keep,
    KeptCache,
    Mouse,
    Name,
    OnLeave,
    Output,
    Plot,
    Products,
    RemoteCode,
    Revision,
    Theme,
    one_of,
)  # fmt: skip
from tui_entropy.cli.usage import option_check
from tui_entropy.core.errors import UserError
from tui_entropy.core.look import Look
from tui_entropy.records.knobs import KNOBS, read, shown
from tui_entropy.records.model import BLOCKS_SAID, SAMPLERS, SERVER_APIS, SERVER_KINDS, ModelSpec, ServerSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.stage import Knob


def with_shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with options in place of its parameters that stand for a group: for every part of a model's name in
    place of `spec`, a server in place of `server`, either with `recorded_` before where a recording says what is not
    given,
    every knob in place of `knobs`, how long an engine stays in place of `stays`, what becomes of results in place of
    `telling`, all that the look of a screen is made of in place of `look`."""

    def typed(**given: Any) -> None:
        for name, (options, made) in groups.items():
            given[name] = made({option.name: given.pop(option.name) for option in options})
        command(**given)

    signature = inspect.signature(command, eval_str=True)
    groups = {name: GROUPS[name] for name in signature.parameters if name in GROUPS}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += groups[parameter.name][0] if parameter.name in groups else [parameter]
    typed.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    typed.__name__, typed.__doc__ = command.__name__, command.__doc__
    return typed


# Where a model is asked for its tokens, in place of weights here.


def _address(text: str) -> None:
    """Only how it is spelled: what answers there, the engine finds out."""
    from tui_entropy.servers.http.address import base_of

    base_of(text, "--server")


def _variable(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", text):
        raise UserError(f"{text} is no name of an environment variable: wanted one such as OPENAI_API_KEY")


def _blocks(text: str) -> None:
    if not BLOCKS_SAID.fullmatch(text):
        raise UserError(f"--server-lens {text}: wanted auto, all, off, or numbers of blocks with commas, as 1,15,30")


Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Have a server write in place of a model that is loaded here: vLLM, llama.cpp's, SGLang, or one with "
        "the API of OpenAI, such as http://127.0.0.1:8000. Its key is in the environment (--server-key-env).",
        callback=option_check(_address),
    ),
]
ServerModel = Annotated[
    str, typer.Option(metavar="NAME", help="Which model of the server. [default: the first]", show_default=False)
]
ServerKind = Annotated[
    str,
    typer.Option(
        metavar="|".join(SERVER_KINDS),
        help="What the server is; auto asks it.",
        callback=option_check(one_of("--server-kind", *SERVER_KINDS)),
    ),
]
ServerApi = Annotated[
    str,
    typer.Option(
        metavar="|".join(SERVER_APIS),
        help="With a text (completions) or with messages (chat), where a server takes no token ids.",
        callback=option_check(one_of("--server-api", *SERVER_APIS)),
    ),
]
ServerVocab = Annotated[
    int,
    typer.Option(
        min=0, max=10**8, metavar="N", help="Tokens of its vocabulary, where it does not tell: bands end there.",
        show_default=False,
    ),
]  # fmt: skip
ServerSampler = Annotated[
    str,
    typer.Option(
        metavar="|".join(SAMPLERS),
        help="Who draws: the server; or own, the chain of this program, for which the server tells the whole "
        "distribution at each token (llama.cpp; vLLM with --max-logprobs -1). That is slow.",
        callback=option_check(one_of("--server-sampler", *SAMPLERS)),
    ),
]
ServerLogprobs = Annotated[
    int | None,
    typer.Option(
        min=1, max=10**8, metavar="K", help="How many log-probabilities to ask for at each token. [default: as many "
        "as are cheap, 100 at most]",
    ),
]  # fmt: skip
ServerKeyEnv = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="The environment variable with its key; the key is never written down.",
        callback=option_check(_variable),
    ),
]
ServerTimeout = Annotated[
    float, typer.Option(min=0.1, max=86400, metavar="SECONDS", help="How long it may say nothing.")
]
ServerLens = Annotated[
    str,
    typer.Option(
        metavar="auto|all|off|BLOCKS",
        help="Of a vLLM server with the plugin vllm-lens: the blocks whose heads are measured, such as 1,15,30; auto "
        "is a few of them, and off leaves the plugin alone. It runs code of this program at the server.",
        callback=option_check(_blocks),
    ),
]
SERVER_OPTIONS = {
    "model": ServerModel, "kind": ServerKind, "api": ServerApi, "vocab": ServerVocab, "sampler": ServerSampler,
    "n_logprobs": ServerLogprobs, "key_env": ServerKeyEnv, "timeout": ServerTimeout,
    "lens": ServerLens,
}  # fmt: skip
"""Field of ServerSpec -> its option, which is called after it and has its default."""

Served = ServerSpec | None
"""The server that writes, in place of a model that is loaded here."""
RecordedSpec = dict[str, Any]
"""What a person says of the model of a recording, by the fields of ModelSpec; the rest is as it was recorded."""
RecordedServer = dict[str, Any]
"""What a person says of the server that wrote a recording, by the fields of ServerSpec; the rest is as recorded."""
Stays = dict[str, str]
"""How long an engine stays, and what becomes of its text, as `lifetime_options` takes it."""


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _unsaid(option: Any) -> Any:
    """The option without a default: what was recorded stands where nothing is given."""
    (about,) = option.__metadata__
    told = copy.copy(about)
    usual = re.sub(r" \[default: [^]]*\]$", "", about.help)
    told.help, told.show_default = f"{usual} [default: as recorded]", False
    return Annotated[option.__origin__ | None, told]


def _option(knob: Knob) -> inspect.Parameter:
    default = knob.default if knob.is_number else shown(Knobs(), knob.name)
    check = option_check(lambda value: read(Knobs(), knob.name, str(value)))
    option = typer.Option(knob.option, help=knob.about, callback=check)
    return _parameter(knob.name, default, Annotated[type(default), option])


def _knobs(options: dict[str, Any]) -> Knobs:
    knobs = Knobs()
    for name, value in options.items():
        knobs = read(knobs, name, str(value))
    return knobs


def _server_option(field: str) -> str:
    return f"server_{field.removeprefix('n_')}"


def _server(given: dict[str, Any]) -> ServerSpec | None:
    """None where no server is named. Raises UserError for what is told of none."""
    said = {field: given[_server_option(field)] for field in SERVER_OPTIONS}
    if given["server"] is not None:
        return ServerSpec(given["server"], **said)
    for field, value in said.items():
        if value != getattr(USUAL_SERVER, field):
            option = _server_option(field).replace("_", "-")
            raise UserError(f"--{option} is said of no server: --server names the address of one")
    return None


def _recorded_server(given: dict[str, Any]) -> dict[str, Any]:
    """What is said of the server of a recording, by the fields of ServerSpec."""
    fields = {"url": "server", **{field: _server_option(field) for field in SERVER_OPTIONS}}
    return {field: given[option] for field, option in fields.items() if given[option] is not None}


USUAL_SERVER = ServerSpec("")


def asked_of(spec: ModelSpec, server: ServerSpec | None) -> ModelSpec:
    """The model that is meant: behind the server, where there is one. Raises UserError for two of them."""
    if server is None:
        return spec
    if spec != ModelSpec("smollm2"):
        raise UserError(
            "--server asks a model that is loaded there: --server-model names it, and not --model and what "
            "belongs to it"
        )
    return replace(spec, name=server.model or server.url, server=server)


def told_name(spec: ModelSpec) -> str:
    """What a file is called after: a server is not asked yet what its model is."""
    if spec.server is None:
        return spec.name
    return "proxy" if spec.server.proxied else spec.server.model or "server"


class Telling(NamedTuple):
    """What becomes of results: where they are kept and drawn, and whether they are printed or shown."""

    output: Path | None
    plot: Path | None
    headless: bool
    as_json: bool
    bits: bool
    look: Look


def look_of(theme: str, color: str, ascii_only: bool, printed: bool) -> Look:
    """Raises UserError where nothing can be drawn, before minutes are spent on it."""
    if not printed:
        from tui_entropy.ui.terminal.detect import drawable

        drawable(color, "--headless prints what it comes to")
    return Look(theme, color, ascii_only, mouse=True, diff=True)


def _telling(given: dict[str, Any]) -> Telling:
    theme, color, ascii_only = (given.pop(name) for name in ("theme", "color", "ascii_only"))
    return Telling(**given, look=look_of(theme, color, ascii_only, given["headless"] or given["as_json"]))


GROUPS: dict[str, tuple[list[inspect.Parameter], Callable[[dict[str, Any]], Any]]] = {
    "spec": (
        [
            _parameter("model", "smollm2", Name),
            _parameter("revision", None, Revision),
            _parameter("device", "auto", Device),
            _parameter("dtype", "auto", Dtype),
            _parameter("trust_remote_code", False, RemoteCode),
            _parameter("graph", False, Graph),
            _parameter("products", "auto", Products),
            _parameter("chat_template", None, ChatTemplate),
        ],
        lambda given: ModelSpec(*given.values()),
    ),
    "recorded_spec": (
        [
            _parameter("model", None, _unsaid(Name)),
            _parameter("revision", None, Revision),
            _parameter("device", "auto", Device),
            _parameter("dtype", None, _unsaid(Dtype)),
            _parameter("trust_remote_code", False, RemoteCode),
            _parameter("graph", False, Graph),
            _parameter("products", None, _unsaid(Products)),
            _parameter("chat_template", None, ChatTemplate),
        ],
        lambda given: {
            field: value
            for field, value in zip(ModelSpec.__struct_fields__, given.values(), strict=False)
            if value is not None
        },
    ),
    "server": (
        [
            _parameter("server", None, Server),
            *(
                _parameter(_server_option(field), getattr(USUAL_SERVER, field), option)
                for field, option in SERVER_OPTIONS.items()
            ),
        ],
        _server,
    ),
    "recorded_server": (
        [
            _parameter("server", None, _unsaid(Server)),
            *(_parameter(_server_option(field), None, _unsaid(option)) for field, option in SERVER_OPTIONS.items()),
        ],
        _recorded_server,
    ),
    "knobs": ([_option(knob) for knob in KNOBS], _knobs),
    "stays": (
        [
            _parameter("keep", "30m", Keep),
            _parameter("on_leave", "write", OnLeave),
            _parameter("kept_cache", "1GiB", KeptCache),
        ],
        dict,
    ),
    "telling": (
        [
            _parameter("output", None, Output),
            _parameter("plot", None, Plot),
            _parameter("headless", False, Headless),
            _parameter("as_json", False, AsJson),
            _parameter("bits", True, Bits),
            _parameter("theme", "dark", Theme),
            _parameter("color", "auto", Color),
            _parameter("ascii_only", False, Ascii),
        ],
        _telling,
    ),
    "look": (
        [
            _parameter("theme", "dark", Theme),
            _parameter("color", "auto", Color),
            _parameter("ascii_only", False, Ascii),
            _parameter("mouse", True, Mouse),
            _parameter("diff", True, Diff),
            _parameter("demo", False, Demo),
        ],
        lambda given: Look(*given.values()),
    ),
}
"""A parameter of a command -> the options that stand for it, in order, and what makes it of them."""
