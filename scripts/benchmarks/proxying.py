"""What a request costs that passes through the proxy: seconds that each token comes later than without it."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
from endpoints import Served
from figures import Figure, Settings, in_turns, percentile, spread

from tui_entropy.records.events import Ended, Standing

TOP = [{"token": f"token {n}", "logprob": -0.5 - n, "bytes": [97, 98]} for n in range(20)]
TOKEN = {"token": "word ", "logprob": -0.5, "bytes": [97], "top_logprobs": TOP}
CHOICE = {"index": 0, "delta": {"content": "word "}, "logprobs": {"content": [TOKEN]}}
PACE_S = 0.01
BODY = {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "logprobs": True, "top_logprobs": 20}


class Upstream(BaseHTTPRequestHandler):
    """Tokens with twenty log-probabilities each at an even pace, each with the moment in which it is sent."""

    protocol_version, disable_nagle_algorithm, n_tokens = "HTTP/1.1", True, 300

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(self.n_tokens):
            time.sleep(PACE_S)
            event = json.dumps({"choices": [CHOICE], "sent": None})
            self._chunk(f"data: {event}\n\n".replace("null", repr(time.monotonic())))
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, format: str, *args: object) -> None:
        pass


def proxied(settings: Settings) -> Iterator[Figure]:
    """Direct and through the proxy in turns, while a screen looks on."""
    Upstream.n_tokens = 60 if settings.quick else 300
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    upstream.daemon_threads = True
    Thread(target=upstream.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{upstream.server_port}"
    with tempfile.TemporaryDirectory() as folder:
        served = Served(None, Path(folder), "--proxy", there)
        try:
            screen = served.screen()
            screen.until(Standing)
            ways = {"direct": partial(_delays, f"{there}/v1"), "proxied": partial(_delays, served.url)}
            for way in ways.values():
                way()
            found = in_turns(ways, settings.rounds)
            n = settings.rounds + 1
            screen.until(lambda: sum(isinstance(event, Ended) for event in screen.heard) == n, 60)
            shown = len(screen.steps)
        finally:
            served.close()
            upstream.shutdown()
    ways_to_sum_up = {
        "median": (statistics.median, "<= 2"),
        "mean": (statistics.fmean, "<= 2"),
        "99th of 100": (partial(percentile, share=0.99), ""),  # where there are two cores, the turns they take
    }
    for name, (of, goal) in ways_to_sum_up.items():
        by = {way: [1e3 * of(delays) for delays in rounds] for way, rounds in found.items()}
        added = [one - other for one, other in zip(by["proxied"], by["direct"], strict=True)]
        detail = f"direct {spread(by['direct'], 'ms')}, proxied {spread(by['proxied'], 'ms')}"
        yield Figure(f"a token comes later through the proxy, {name}", statistics.median(added), "ms", goal, detail)
    lost = n * Upstream.n_tokens - shown
    yield Figure("tokens that passed and are not shown", lost, "tokens", "<= 0", f"of {n * Upstream.n_tokens}")


def _delays(url: str) -> list[float]:
    """Seconds from sending to having, of each token."""
    delays, text = [], ""
    with (
        httpx2.Client(trust_env=False) as client,
        client.stream("POST", f"{url}/chat/completions", json=BODY) as answer,
    ):
        for piece in answer.iter_text():
            now = time.monotonic()
            text += piece
            *events, text = text.split("\n\n")
            delays += [now - float(event.rpartition(": ")[2].rstrip("}")) for event in events if "sent" in event]
    assert len(delays) == Upstream.n_tokens
    return delays
