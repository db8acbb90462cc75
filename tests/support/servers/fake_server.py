"""A server that answers as vLLM, llama.cpp, SGLang or any OpenAI-compatible one do, and as oddly as it is told to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, Literal

from fake_answers import NAME, events, whole
from fake_lens import FakeLens
from fake_model import VOCABULARY, FakeModel, bytes_of, prompt_scores, tokenize
from fake_requests import Asked, Json, Odd

Kind = Literal["openai", "vllm", "llamacpp", "sglang"]
HUGE_BYTES = 10_000_000
N_CTX = 200_000

COUNTED = Lock()

ROUTES: dict[str, tuple[str, ...]] = {
    "openai": ("/v1/completions", "/v1/chat/completions"),
    "vllm": ("/v1/completions", "/v1/chat/completions"),
    "llamacpp": ("/v1/completions", "/v1/chat/completions", "/completion"),
    "sglang": ("/v1/completions", "/v1/chat/completions", "/generate"),
}
"""Where each kind writes."""
ENDS_WITH_DONE = ("/v1/completions", "/v1/chat/completions", "/generate")


@dataclass
class Wire:
    """What goes wrong between the two, whatever was to be said. Counts are of tokens written; None is never."""

    status: int | None = None
    """Every request for text is answered with this error, as JSON or as HTML."""
    html: bool = False
    loading: int = 0
    """So many requests, of any kind, are answered 503 first."""
    api_key: str | None = None
    """Requests without it are answered 401."""
    content_type: str | None = None
    """Of streams."""
    error_after: int | None = None
    """An event with an error, in a stream that began with 200."""
    ends_after: int | None = None
    """The stream is closed as if it were whole, without its last words."""
    cut_after: int | None = None
    """The connection is closed in the middle of an event."""
    hangs_after: int | None = None
    """Nothing more comes, and the connection stays. 0 is before the headers."""
    garbage_after: int | None = None
    """An event that is no JSON."""
    huge_after: int | None = None
    """A line of ten megabytes, which is valid JSON without choices."""
    comments: bool = False
    """Lines that begin with a colon, and fields other than data, between events."""
    crlf: bool = False
    piece_bytes: int | None = None
    """The stream is sent in pieces of so many bytes, wherever that cuts."""
    seconds_per_event: float = 0.0


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any = None
    """The JSON that was sent, None without."""
    closed_early: bool = False
    """The client went away before the answer was whole."""


@dataclass
class FakeServer:
    """`url` answers while it runs. `model` and the settings may be changed between two requests."""

    kind: Kind = "openai"
    model: FakeModel = field(default_factory=FakeModel)
    odd: Odd = field(default_factory=Odd)
    wire: Wire = field(default_factory=Wire)
    lens: FakeLens | None = None
    """The plugin vllm-lens, where it is there."""
    requests: list[Request] = field(default_factory=list)
    """What it was asked, in order."""
    ended: Event = field(default_factory=Event)
    url: str = ""
    n_open: int = 0
    """Streams that it writes at this moment, and the most of them that there were at one."""
    most_open: int = 0

    def asked_for_text(self) -> list[Request]:
        return [each for each in self.requests if each.path in ROUTES[self.kind]]


@contextmanager
def serving(kind: Kind = "openai", **settings: Any) -> Iterator[FakeServer]:
    """Settings are fields of FakeServer."""
    fake = FakeServer(kind, **settings)
    with Listener(fake) as listener:
        fake.url = f"http://127.0.0.1:{listener.server_port}"
        thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            fake.ended.set()
            listener.shutdown()
            thread.join()


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that never closes its connection holds up nobody

    def __init__(self, fake: FakeServer) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.fake = fake

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is a case of its own, not a failure."""


class Answers(BaseHTTPRequestHandler):
    server: Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def fake(self) -> FakeServer:
        return self.server.fake

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            body = json.loads(data or b"null")
        except ValueError:
            return self.refuse(400, "this is no JSON")
        self.answer(body)

    def answer(self, body: Any) -> None:
        fake, path = self.fake, self.path.partition("?")[0]
        request = Request(self.command, path, dict(self.headers), body)
        fake.requests.append(request)
        if fake.wire.loading > 0:
            fake.wire.loading -= 1
            return self.refuse(503, "Loading model")
        if fake.wire.api_key and self.headers.get("Authorization") != f"Bearer {fake.wire.api_key}":
            return self.refuse(401, "Invalid API key")
        if path in ROUTES[fake.kind] and self.command == "POST":
            try:
                self.write_text(path, body or {}, request)
            except OSError:
                request.closed_early = True
                self.close_connection = True
            return None
        known = {**about(fake), **(tools(fake, body) if isinstance(body, dict) else {})}
        return self.say_json(known[path]) if path in known else self.refuse(404, "Not Found")

    # --- Text ---

    def write_text(self, path: str, body: Json, request: Request) -> None:
        fake, wire = self.fake, self.fake.wire
        asked = Asked.read(path, body)
        if wire.hangs_after == 0:
            return self.hang()
        if wire.status is not None:
            return self.refuse(wire.status, "as it was told to")
        if reason := refusal(fake, asked):
            return (
                self.refuse_stream(reason) if body.get("stream") and fake.kind == "vllm" else self.refuse(400, reason)
            )
        if body.get("stream"):
            return self.stream(path, asked)
        answer = whole(path, fake.kind, fake.model, fake.odd, asked)
        if asked.body.get("prompt_logprobs") is not None and fake.kind == "vllm":
            place = answer if path.endswith("/chat/completions") else answer["choices"][0]
            place["prompt_logprobs"] = prompt_scores(fake.model, asked.prompt, int(body["prompt_logprobs"]))
        if fake.lens is not None:
            answer |= fake.lens.answer(body)
        return self.say_json(answer)

    def stream(self, path: str, asked: Asked) -> None:
        fake = self.fake
        with COUNTED:
            fake.n_open += 1
            fake.most_open = max(fake.most_open, fake.n_open)
        try:
            self.write_events(path, asked)
        finally:
            with COUNTED:
                fake.n_open -= 1

    def write_events(self, path: str, asked: Asked) -> None:
        fake, wire = self.fake, self.fake.wire
        lines = self.begin_stream()
        huge = wire.huge_after
        plans = fake.lens.plans(asked.body) if fake.lens else []
        for event, n_tokens in events(path, fake.kind, fake.model, fake.odd, asked):
            if fake.ended.is_set():
                return
            if wire.seconds_per_event:
                time.sleep(wire.seconds_per_event)
            if reached(wire.hangs_after, n_tokens):
                return self.hang()
            if reached(wire.error_after, n_tokens):
                lines.data(
                    json.dumps({"error": {"message": "the engine is gone", "type": "server_error", "code": 500}})
                )
                break
            if reached(wire.ends_after, n_tokens):
                return lines.end()
            if reached(wire.cut_after, n_tokens):
                lines.write(b'data: {"choices": [{"te')
                self.close_connection = True
                return None
            if reached(wire.garbage_after, n_tokens):
                lines.data('{"choices": [{"text": ')
            if reached(huge, n_tokens):
                huge = None
                lines.data(json.dumps({"id": "cmpl-1", "padding": "x" * HUGE_BYTES}))
            if wire.comments:
                lines.between()
            if fake.lens is not None and plans:
                fake.lens.told(plans[-1], asked.prompt + written(fake.model, asked, n_tokens))
            lines.data(json.dumps(event))
        if path in ENDS_WITH_DONE:
            lines.data("[DONE]")
        lines.end()

    def begin_stream(self) -> Lines:
        self.send_response(200)
        self.send_header("Content-Type", self.fake.wire.content_type or "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        return Lines(self, self.fake.wire)

    def refuse_stream(self, reason: str) -> None:
        """vLLM's: a request that it refuses has begun with 200."""
        lines = self.begin_stream()
        lines.data(json.dumps({"error": {"message": reason, "type": "BadRequestError", "code": 400}}))
        lines.data("[DONE]")
        lines.end()

    def hang(self) -> None:
        self.fake.ended.wait()
        self.close_connection = True

    # --- Anything else ---

    def refuse(self, status: int, reason: str) -> None:
        if self.fake.wire.html:
            page = f"<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>{reason}</h1></body></html>"
            return self.say(status, page.encode(), "text/html")
        self.say_json({"error": {"message": reason, "type": "invalid_request_error", "code": status}}, status)

    def say_json(self, value: Any, status: int = 200) -> None:
        self.say(status, json.dumps(value).encode(), "application/json")

    def say(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Lines:
    """A stream of events, in chunks that need not end where a line does."""

    def __init__(self, answers: Answers, wire: Wire) -> None:
        self.out, self.wire = answers.wfile, wire
        self.newline = "\r\n" if wire.crlf else "\n"
        self.waiting = b""

    def data(self, text: str) -> None:
        self.write(f"data: {text}{self.newline * 2}".encode())

    def between(self) -> None:
        end = self.newline
        self.write(f": ping{end * 2}event: message{end}id: 7{end}retry: 100{end}".encode())

    def write(self, data: bytes) -> None:
        size = self.wire.piece_bytes
        if size is None:
            return self.chunk(data)
        self.waiting += data
        while len(self.waiting) >= size:
            self.chunk(self.waiting[:size])
            self.waiting = self.waiting[size:]

    def end(self) -> None:
        if self.waiting:
            self.chunk(self.waiting)
        self.out.write(b"0\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        self.out.write(b"%x\r\n%b\r\n" % (len(data), data))


def reached(count: int | None, n_tokens: int) -> bool:
    return count is not None and n_tokens > count


def written(model: FakeModel, asked: Asked, n_tokens: int) -> list[int]:
    """Ids of the first tokens of an answer."""
    first = len(asked.prompt)
    return [model.take(first + n, n, asked.temperature, asked.seed, asked.bias) for n in range(n_tokens)]


def refusal(fake: FakeServer, asked: Asked) -> str:
    """Why there is no text, empty where there is; in the words of vLLM, and of llama.cpp for a prompt too long."""
    if fake.lens is not None and (reason := fake.lens.refusal(asked.body)):
        return reason
    out = [i for i in asked.bias if not 0 <= i < len(VOCABULARY)]
    if out and fake.kind == "vllm":
        return f"token_id(s) {out} in logit_bias contain out-of-vocab token ids. Vocabulary size: {len(VOCABULARY)}"
    k = len(VOCABULARY) if asked.k == -1 else asked.k or 0
    if fake.odd.cap is not None and k > fake.odd.cap:
        return f"Requested sample logprobs of {k}, which is greater than max allowed: {fake.odd.cap}"
    if any(not 0 <= i < len(VOCABULARY) for i in asked.prompt):
        return "Prompt contains invalid tokens"
    if len(asked.prompt) >= N_CTX:
        return f"request ({len(asked.prompt)} tokens) exceeds the available context size ({N_CTX} tokens)"
    return ""


def about(fake: FakeServer) -> dict[str, Any]:
    """What a GET finds, by path."""
    model: Json = {"id": NAME, "object": "model", "created": 0, "owned_by": fake.kind}
    known: dict[str, Any] = {"/health": {"status": "ok"}, "/v1/models": {"object": "list", "data": [model]}}
    if fake.kind == "vllm":
        model["max_model_len"] = N_CTX
        known["/version"] = {"version": "0.30.0"}
    if fake.kind == "llamacpp":
        model["meta"] = {"n_vocab": len(VOCABULARY), "n_ctx": N_CTX, "n_embd": 8, "ftype": "F32"}
        known["/props"] = {
            "default_generation_settings": {"n_ctx": N_CTX},
            "total_slots": 1,
            "model_path": "/fake.gguf",
        }
    if fake.kind == "sglang":
        known["/get_model_info"] = {"model_path": NAME, "tokenizer_path": NAME, "is_generation": True}
    return known


def tools(fake: FakeServer, body: Json) -> dict[str, Any]:
    """What a POST finds, by path, beside text."""
    if fake.kind not in ("vllm", "llamacpp"):
        return {}
    said = "\n".join(f"{one['role']}: {one['content']}" for one in body.get("messages", ()))
    ids = tokenize(said or str(body.get("content", body.get("prompt", ""))))
    text = bytes_of([i for i in body.get("tokens", []) if 0 <= i < len(VOCABULARY)]).decode(errors="replace")
    if fake.kind == "vllm":
        collect = {"/v1/hooks/collect": fake.lens.collected()} if fake.lens and not fake.lens.refuses else {}
        return {
            "/tokenize": {"count": len(ids), "max_model_len": N_CTX, "tokens": ids},
            "/detokenize": {"prompt": text},
            **collect,
        }
    pieces = [{"id": i, "piece": piece_of(VOCABULARY[i])} for i in ids]
    return {"/tokenize": {"tokens": pieces if body.get("with_pieces") else ids}, "/detokenize": {"content": text}}


def piece_of(data: bytes) -> str | list[int]:
    """llama.cpp's: text, or numbers where it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)
