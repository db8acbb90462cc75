"""A real endpoint: `tui-entropy serve --api` in a process of its own, and a client that knows nothing of it."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import tiny
from chat_templates import CHATML, byte_level
from watchers import Watcher

KEY = "a-key-of-the-tests"
WORDS = "A fox"


def saved(folder: Path) -> Path:
    """A tiny random model of bytes with a chat template, and an end of text that is one of its tokens."""
    tiny.llama(vocab_size=260, eos_token_id=256).save_pretrained(folder)
    byte_level(CHATML).hf_tokenizer.save_pretrained(folder)
    return folder


class Served:
    """The process, and what is asked of it."""

    def __init__(self, model: Path | None, folder: Path, *options: str) -> None:
        """model: None for a proxy, whose server is among the options."""
        self.model, self._short = model, tempfile.TemporaryDirectory()
        self.trace = folder / "served.tui"
        env = {**os.environ, "XDG_RUNTIME_DIR": self._short.name, "XDG_STATE_HOME": str(folder), "KEY": KEY}
        arguments = [
            "serve",
            *(["--model", str(model)] if model else []),
            "--api",
            "0",
            "--keep",
            "1m",
            "--trace",
            str(self.trace),
            *options,
        ]
        self._said = (folder / "said").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tui_entropy", *arguments], stdout=self._said, stderr=self._said, env=env
        )
        while not (found := re.search(r"http://\S+", self.said)):
            assert self.process.poll() is None, self.said
            time.sleep(0.02)
        self.url = found[0]
        (self.socket,) = Path(self._short.name).rglob("*.sock")
        self.client = httpx2.Client(headers={"authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False)

    @property
    def said(self) -> str:
        return Path(self._said.name).read_text()

    def post(self, route: str, **body: Any) -> httpx2.Response:
        return self.client.post(f"{self.url}/{route}", json=body)

    def whole(self, route: str, **body: Any) -> dict[str, Any]:
        answer = self.post(route, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def chunks(self, route: str, **body: Any) -> Iterator[dict[str, Any]]:
        """The chunks of a stream, whose framing is by the book."""
        with self.client.stream("POST", f"{self.url}/{route}", json={**body, "stream": True}) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            text = ""
            for part in answer.iter_text():
                text += part
                *events, text = text.split("\n\n")
                for event in events:
                    if event.startswith(":"):
                        continue
                    assert event.startswith("data: ") and "\n" not in event
                    if event == "data: [DONE]":
                        return
                    yield json.loads(event[6:])
        raise AssertionError("the stream ended without saying so")

    def screen(self, guest: bool = False) -> Watcher:
        """One more that looks on."""
        return Watcher(self.socket, guest=guest)

    def close(self) -> str:
        """End it as ctrl-C does. What it said."""
        self.client.close()
        self.process.terminate()
        self.process.wait(30)
        said = self.said
        self._said.close()
        self._short.cleanup()
        return said
