"""Commands that write with a model, or have it read: run, read, open, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.choose import chosen_trace
from tui_entropy.cli.groups import (
    RecordedServer,
    RecordedSpec,
    Served,
    Stays,
    asked_of,
    told_name,
    with_shared_options,
)
from tui_entropy.cli.options import (
    SAMPLE_PROMPT,
    Ablate,
    Breaks,
    Chat,
    MaxTokens,
    NoTrace,
    OneRun,
    Prompt,
    RecordAttention,
    System,
    TraceFile,
    TracePath,
    Vectors,
    Watches,
    break_options,
    prepare_engine,
    prompt_option,
    steering_options,
    text_to_read,
    trace_path,
)
from tui_entropy.cli.usage import option_check
from tui_entropy.core.errors import UserError
from tui_entropy.core.look import Look
from tui_entropy.records.commands import Reopen, Write
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs


def _address(text: str) -> None:
    from tui_entropy.openai_api.address import address

    address(text)


def _key_in(env: str) -> None:
    from tui_entropy.openai_api.address import key_in

    key_in(env)


def _base_of(url: str) -> None:
    from tui_entropy.servers.http.address import base_of

    base_of(url, "--proxy", "http://127.0.0.1:8000/v1")


Proxy = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        callback=option_check(_base_of),
        help="In place of a model: pass requests of an application on to this server, and show each as a run.",
    ),
]
ProxyApi = Annotated[
    str | None,
    typer.Option(
        metavar="[HOST:]PORT",
        callback=option_check(_address),
        help="With --proxy: where the application sends its requests. [default: 8001, or the next port that is free]",
    ),
]


@app.command(epilog=EXIT_CODES)
@with_shared_options
def run(
    *,
    spec: ModelSpec,
    server: Served,
    prompt: Prompt = None,
    system: System = None,
    chat: Chat = None,
    max_tokens: MaxTokens = 512,
    knobs: Knobs,
    vector: Vectors = None,
    ablate: Ablate = None,
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
    record_attention: RecordAttention = "shown",
    headless: Annotated[bool, typer.Option(help="No screen: print the text to stdout.")] = False,
    as_json: Annotated[bool, typer.Option("--jsonl", help="With --headless: JSON lines instead of text.")] = False,
    proxy: Proxy = None,
    api: ProxyApi = None,
    stays: Stays,
    look: Look,
) -> None:
    """Write from a prompt, in the inspector or (--headless) without a screen."""
    if proxy is not None or api is not None:
        others = (spec != ModelSpec("smollm2"), server, prompt, system, vector, ablate, stop_at, watch)
        name = None if no_trace else trace_path(trace, "proxy", "")
        _show_passing(proxy, api, any(others), headless, name, look, stays)
        return
    spec = asked_of(spec, server)
    options = _of_both_ways(vector, ablate, stop_at, watch, record_attention)
    scored = as_json or not headless if prompt_scores is None else prompt_scores
    given = prompt_option(prompt)
    write = Write(SAMPLE_PROMPT if given is None else given, system, chat, max_tokens, knobs, scored)
    options["trace"] = None if no_trace else trace_path(trace, told_name(spec), write.prompt)
    _carry_out(spec, write, look, options, stays, headless, as_json)


def _show_passing(
    url: str | None, api: str | None, others: bool, headless: bool, trace: Path | None, look: Look, stays: Stays
) -> None:
    """The screen of a proxy. others: whether something was given that a model is told."""
    if url is None:
        raise UserError(
            f"--api is for --proxy: `tui-entropy serve --api {api}` answers by a model, `tui-entropy attach` shows it"
        )
    if headless:
        raise UserError(f"--headless with --proxy: `tui-entropy serve --proxy {url}` needs no screen")
    from tui_entropy.openai_api.options import proxied, proxy_beside
    from tui_entropy.transport.discovery import lifetime_options
    from tui_entropy.ui.app.launch import start

    spec = proxied(url, others)
    endpoint, program = proxy_beside(api, url)
    more = {"endpoint": endpoint, "engine_command": program, "trace": trace}
    start(spec, None, look, **more, **lifetime_options(**stays))


@app.command(epilog=EXIT_CODES)
@with_shared_options
def read(
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The text, or a conversation as JSON; - reads stdin.")],
    spec: ModelSpec,
    server: Served,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--raw",
            help="Through the chat template, or as it is. [default: JSON messages through the template]",
        ),
    ] = None,
    max_tokens: MaxTokens = 512,
    knobs: Knobs,
    vector: Vectors = None,
    ablate: Ablate = None,
    stop_at: Breaks = None,
    watch: Watches = None,
    trace: TracePath = None,
    no_trace: NoTrace = False,
    record_attention: RecordAttention = "shown",
    headless: Annotated[bool, typer.Option(help="No screen: print what it comes to on stdout.")] = False,
    as_json: Annotated[bool, typer.Option("--jsonl", help="With --headless: JSON lines, as of `run`.")] = False,
    stays: Stays,
    look: Look,
) -> None:
    """Read a text that is there already: each token is scored in one pass, and any can be opened and gone on from."""
    spec = asked_of(spec, server)
    write = text_to_read(file, chat, max_tokens, knobs)
    options = _of_both_ways(vector, ablate, stop_at, watch, record_attention)
    name = "stdin" if file == "-" else Path(file).stem
    options["trace"] = None if no_trace else trace_path(trace, told_name(spec), f"read {name}")
    _carry_out(spec, write, look, options, stays, headless, as_json)


@app.command(name="open", epilog=EXIT_CODES)
@with_shared_options
def open_(
    *,
    file: TraceFile = None,
    run: OneRun = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            "-n",
            min=1,
            max=2**31 - 1,
            help="Tokens to write at most from now on. [default: what is left of the run's own limit, 512 where that "
            "is nothing]",
        ),
    ] = None,
    despite: Annotated[
        bool, typer.Option("--despite", help="Go on also where model, tokenizer or vectors are not what they were.")
    ] = False,
    recorded_spec: RecordedSpec,
    recorded_server: RecordedServer,
    trace: TracePath = None,
    no_trace: NoTrace = False,
    record_attention: RecordAttention = "shown",
    headless: Annotated[bool, typer.Option(help="No screen: print what is written from now on.")] = False,
    as_json: Annotated[bool, typer.Option("--jsonl", help="With --headless: JSON lines, as of `run`.")] = False,
    stays: Stays,
    look: Look,
) -> None:
    """Go on with a recording as if it had never ended, with its model or its server, which read its text once. It
    stays as it is."""
    path = chosen_trace(file).absolute()
    from tui_entropy.trace.library import reopened_spec
    from tui_entropy.trace.writer import has_writer

    if has_writer(path):
        raise UserError(f"{path} is still being written: `tui-entropy attach` goes to the engine that does")
    spec, prompt = reopened_spec(path, recorded_spec, recorded_server)
    reopen = Reopen(str(path), run, max_tokens, despite)
    options: dict[str, Any] = {"record_attention": record_attention}
    options["trace"] = None if no_trace else trace_path(trace, told_name(spec), prompt)
    _carry_out(spec, reopen, look, options, stays, headless, as_json)


def _of_both_ways(
    vector: list[str] | None,
    ablate: list[str] | None,
    stop_at: list[str] | None,
    watch: list[str] | None,
    record_attention: str,
) -> dict[str, Any]:
    """What writing takes on a screen and without one. Raises UserError."""
    return {
        "vectors": steering_options(vector, ablate),
        "breakpoints": break_options(stop_at),
        "watches": tuple(watch or ()),
        "record_attention": record_attention,
    }


def _carry_out(
    spec: ModelSpec,
    begin: Write | Reopen,
    look: Look,
    options: dict[str, Any],
    stays: Stays,
    headless: bool,
    as_json: bool,
) -> None:
    """Without a screen, or on one; stays: how long its engine does, as `lifetime_options` takes it."""
    if headless and spec.server is not None:
        from tui_entropy.analysis.source_run import write_by_source

        raise typer.Exit(write_by_source(spec, begin, as_json=as_json, **options))
    if headless:
        prepare_engine()
        from tui_entropy.analysis.run import write_out

        raise typer.Exit(write_out(spec, begin, as_json=as_json, **options))
    from tui_entropy.transport.discovery import lifetime_options
    from tui_entropy.ui.app.launch import start

    start(spec, begin, look, **options, **lifetime_options(**stays))


@app.command(epilog=EXIT_CODES)
@with_shared_options
def serve(
    *,
    spec: ModelSpec,
    server: Served,
    prompt: Prompt = None,
    system: System = None,
    chat: Chat = None,
    max_tokens: MaxTokens = 512,
    knobs: Knobs,
    vector: Vectors = None,
    ablate: Ablate = None,
    stop_at: Breaks = None,
    watch: Watches = None,
    trace: TracePath = None,
    no_trace: NoTrace = False,
    record_attention: RecordAttention = "shown",
    stays: Stays,
    api: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            callback=option_check(_address),
            help="Answer requests there as OpenAI's servers do, until ctrl-C; 0 is any port that is free.",
        ),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            callback=option_check(_key_in),
            help="With --api: the variable that holds the key. [default: one is made]",
        ),
    ] = None,
    no_api_key: Annotated[
        bool, typer.Option("--no-api-key", help="With --api on this machine alone: ask for no key.")
    ] = False,
    proxy: Proxy = None,
    headless: Annotated[bool, typer.Option("--headless", help="No screen, as always here.")] = True,
) -> None:
    """Start an engine without a screen, let it write if there is a prompt, and tell how to attach to it."""
    from tui_entropy.analysis.console_progress import Narrator
    from tui_entropy.openai_api.options import answering, proxied
    from tui_entropy.records.commands import Load
    from tui_entropy.transport import client, discovery

    stops = break_options(stop_at)
    given = prompt_option(prompt)
    if proxy is not None and server is not None:
        raise UserError(
            "--proxy names the server that requests pass to, and nothing else is asked: leave --server out"
        )
    if api is not None and server is not None:
        raise UserError("--api answers by a model that is loaded here: --proxy URL passes requests on to a server")
    if proxy is None:
        spec = asked_of(spec, server)
    else:
        others = (spec != ModelSpec("smollm2"), server, given is not None, vector, ablate, stops, watch)
        spec = proxied(proxy, any(others))
    write = None if given is None else Write(given, system, chat, max_tokens, knobs)
    path = None if no_trace else str(trace_path(trace, told_name(spec), given or "").absolute())
    lifetime = discovery.lifetime_options(**stays)
    service = answering(api, api_key_env, no_api_key, proxy)
    load = Load(
        spec, steering_options(vector, ablate), path, **lifetime, record_attention=record_attention,
        endpoint=service.endpoint if service else "",
    )  # fmt: skip
    if not load.keep:
        raise UserError("--keep 0 would end this engine at once: give the time that it stays with nobody attached")
    narrator = Narrator()
    engine_id = client.serve(
        discovery.command(), load, write, narrator.progress, stops, tuple(watch or ()), narrator.done
    )
    narrator.done(f"engine {engine_id} is up: {discovery.reattach_hint(engine_id, load.keep)}")
    print(engine_id, flush=True)
    if service is not None:
        service.answer(discovery.socket_of(engine_id), knobs, max_tokens, narrator.done)
