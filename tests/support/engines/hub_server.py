"""A model hub on this machine: as much of the Hugging Face hub's HTTP interface as a download needs."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    def __init__(self, models: dict[str, Path], gated: set[str]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.models = models
        self.gated = gated
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        api = parts[0] == "api"
        repo = "/".join(parts[2:4] if api else parts[:2])
        if path == "/":
            self.say(200, b"hello")
        elif repo in self.server.gated:
            self.say(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        elif repo not in self.server.models:
            self.say(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "not found"})
        elif not {"main", COMMIT} & set(parts):
            self.say(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"})
        elif api and "tree" in parts:
            self.say_json([entry(file) for file in sorted(self.server.models[repo].iterdir())])
        elif api:
            self.say_json({"id": repo, "sha": COMMIT, "siblings": []})
        else:
            body = (self.server.models[repo] / parts[-1]).read_bytes()
            etag = hashlib.sha256(body).hexdigest()
            self.say(200, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def say_json(self, value: object) -> None:
        self.say(200, json.dumps(value).encode())

    def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def entry(file: Path) -> dict[str, object]:
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}


@contextmanager
def serving(models: dict[str, Path], gated: set[str]) -> Iterator[Hub]:
    """`models`: hub id -> folder with its files, on branch main."""
    with Hub(models, gated) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()
