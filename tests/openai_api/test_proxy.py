"""What passes through the proxy is as it was without it, and what is shown of it is what passed."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from endpoints import Served
from fake_model import FakeModel
from fake_requests import Odd
from fake_server import Wire, serving
from watchers import Watcher

from tui_entropy.openai_api.proxy.app import PassThrough
from tui_entropy.records.commands import Go, Pause
from tui_entropy.records.events import Ended, Refused, Started, Switched
from tui_entropy.records.step import Step
from tui_entropy.trace.reader import Trace

CHAT = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "max_tokens": 12, "temperature": 1.5, "logprobs": True, "top_logprobs": 4,
}  # fmt: skip
TEXT = {"prompt": "The", "max_tokens": 12, "logprobs": 3}
ASKED = {"/v1/chat/completions": CHAT, "/v1/completions": TEXT}


@pytest.fixture(scope="module")
def fake():
    with serving("vllm") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(fake, tmp_path_factory):
    made = Served(None, tmp_path_factory.mktemp("proxy"), "--proxy", f"{fake.url}/v1")
    yield made
    assert "Traceback" not in made.said
    assert "the engine has ended" in made.close()


@pytest.fixture
def screen(proxy, fake):
    fake.odd, fake.wire, fake.model = Odd(), Wire(), FakeModel()
    made = proxy.screen()
    made.until(lambda: made.standing.in_control)
    made.heard.clear()
    yield made
    made.close()


def raw(base: str, method: str, path: str, body: object = None, **headers: str) -> tuple:
    """Status, headers that are not of one connection, and bytes of an answer."""
    with (
        httpx2.Client(trust_env=False, timeout=30) as client,
        client.stream(method, base + path, json=body, headers=headers) as answer,
    ):
        told = [(name, value) for name, value in answer.headers.raw if name.lower() not in (b"date", b"connection")]
        return answer.status_code, sorted((name.lower(), value) for name, value in told), b"".join(answer.iter_raw())


def with_lower_names(headers: dict[str, str]) -> dict[str, str]:
    """Without those of one connection."""
    return {name.lower(): value for name, value in headers.items() if name.lower() not in ("host", "connection")}


def runs(screen: Watcher) -> dict[int, list[Step]]:
    found = {event.run: [] for event in screen.heard if isinstance(event, Started)}
    for event in screen.heard:
        if isinstance(event, Step):
            found[event.run].append(event)
    return found


def ended(screen: Watcher, n: int = 1) -> list[Ended]:
    screen.until(lambda: sum(isinstance(event, Ended) for event in screen.heard) >= n)
    return [event for event in screen.heard if isinstance(event, Ended)]


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    "wire", [Wire(), Wire(crlf=True, piece_bytes=7), Wire(comments=True)], ids=["", "cut", "odd"]
)
def test_bytes_and_headers_are_the_servers_and_every_token_is_shown(proxy, fake, screen, path, stream, wire):
    fake.wire = wire
    body = {**ASKED[path], "stream": stream}
    there, here = raw(fake.url, "POST", path, body), raw(proxy.url.removesuffix("/v1"), "POST", path, body)
    assert here == there and here[0] == 200
    direct, passed = fake.requests[-2:]
    assert passed.body == direct.body == body
    assert with_lower_names(passed.headers) == with_lower_names(direct.headers)
    assert ended(screen)[0].reason == "token limit"
    ((_, steps),) = runs(screen).items()
    if stream:
        events = [json.loads(line[6:]) for line in here[2].decode().splitlines() if line.startswith("data: {")]
        choices = [choice for event in events for choice in event["choices"]]
    else:
        choices = json.loads(here[2])["choices"]
    chat = "chat" in path
    told = [one["logprobs"] for one in choices if one.get("logprobs")]
    values = [each["logprob"] for one in told for each in one["content"]] if chat else []
    values = values or [value for one in told for value in one["token_logprobs"]]
    assert len(steps) == 12 and [-step.surprisal for step in steps] == pytest.approx(values, abs=1e-12)
    assert all(len(step.candidates) >= 3 and step.final_prob != step.final_prob for step in steps)
    started = next(event for event in screen.heard if isinstance(event, Started))
    assert (started.prompt, started.system) == (("Hi", "Be brief.") if chat else ("The", None))
    assert started.knobs.temperature == body.get("temperature", 1.0) and started.knobs.top_k == 0


def test_requests_at_once_are_runs_of_their_own(proxy, fake, screen):
    fake.wire = Wire(seconds_per_event=0.005)
    bodies = [{**TEXT, "prompt": prompt, "max_tokens": 30, "stream": True} for prompt in ("The", "A", "Of", "In")]
    alone = [raw(fake.url, "POST", "/v1/completions", body)[2] for body in bodies]
    with ThreadPoolExecutor(4) as pool:
        base = proxy.url.removesuffix("/v1")
        together = list(pool.map(lambda body: raw(base, "POST", "/v1/completions", body)[2], bodies))
    assert together == alone
    ended(screen, 4)
    shown = runs(screen)
    for body, answer in zip(bodies, alone, strict=True):
        number = next(e.run for e in screen.heard if isinstance(e, Started) and e.prompt == body["prompt"])
        events = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith("data: {")]
        text = "".join(choice["text"] for event in events for choice in event["choices"])
        assert [step.index for step in shown[number]] == list(range(30))
        assert "".join(step.text for step in shown[number]) == text == "".join(screen.log.runs[number].steps.texts)
    order = [event.run for event in screen.heard if isinstance(event, Step)]
    assert order != sorted(order)  # they were written at the same time
    screen.send(Go(first := min(shown)))
    assert screen.until(Switched).run == first == screen.log.run_number
    late = Watcher(proxy.socket)
    late.until(lambda: late.log.run_number == first and len(late.log.steps) == 30)
    late.close()
    time.sleep(0.2)  # the record is on disk within 100 ms
    trace = Trace.open(proxy.trace)
    assert {run: [step.text for step in trace.steps(run)] for run in shown} == {
        run: [step.text for step in steps] for run, steps in shown.items()
    }
    trace.close()


def test_keys_pass_and_are_not_recorded(proxy, fake, screen):
    fake.wire = Wire(api_key="a-secret-of-theirs")
    base = proxy.url.removesuffix("/v1")
    status, *_ = raw(base, "POST", "/v1/completions", TEXT)
    assert status == 401 and "401: Invalid API key" in ended(screen)[0].reason
    status, *_ = raw(base, "POST", "/v1/completions", TEXT, authorization="Bearer a-secret-of-theirs")
    assert status == 200
    ended(screen, 2)
    time.sleep(0.2)
    assert b"a-secret-of-theirs" not in proxy.trace.read_bytes()


def test_other_requests_pass_too(proxy, fake, screen):
    base = proxy.url.removesuffix("/v1")
    for method, path, body in (
        ("GET", "/v1/models", None), ("GET", "/version?x=%20y", None), ("GET", "/nowhere", None),
        ("POST", "/tokenize", {"prompt": "The"}),
    ):  # fmt: skip
        assert raw(base, method, path, body) == raw(fake.url, method, path, body)
    ended(screen)
    (run,) = runs(screen)
    assert json.loads("".join(step.text for step in runs(screen)[run])) == json.loads(
        raw(fake.url, "POST", "/tokenize", {"prompt": "The"})[2]
    )


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (Wire(error_after=3), "the engine is gone"),
        (Wire(ends_after=3), "the stream ended early"),
        (Wire(garbage_after=3), "token limit"),
        (Wire(status=503), "the server refused with 503: as it was told to"),
        (Wire(status=500, html=True), "the server refused with 500"),
        (Wire(content_type="text/plain"), "the answer ended"),
    ],
    ids=["error", "early end", "garbage", "503", "html", "no stream by its name"],
)  # fmt: skip
def test_what_is_odd_passes_as_it_is_and_is_told(proxy, fake, screen, wire, why):
    fake.wire = wire
    body = {**CHAT, "stream": True}
    path, base = "/v1/chat/completions", proxy.url.removesuffix("/v1")
    assert raw(base, "POST", path, body) == raw(fake.url, "POST", path, body)
    assert why in ended(screen)[0].reason
    ((_, steps),) = runs(screen).items()
    assert bool(steps) == (wire.status is None)


def test_a_connection_that_breaks_breaks_for_the_application_too(proxy, fake, screen):
    fake.wire = Wire(cut_after=3)
    with pytest.raises(httpx2.RemoteProtocolError):
        raw(proxy.url.removesuffix("/v1"), "POST", "/v1/completions", {**TEXT, "stream": True})
    assert "broke" in ended(screen)[0].reason and len(next(iter(runs(screen).values()))) >= 3


def test_an_application_that_hangs_up_hangs_up_at_the_server(proxy, fake, screen):
    fake.wire = Wire(seconds_per_event=0.02)
    body = {**TEXT, "max_tokens": 400, "stream": True}
    url = f"{proxy.url}/completions"
    with httpx2.Client(trust_env=False) as client, client.stream("POST", url, json=body) as answer:
        next(answer.iter_raw())
    assert ended(screen)[0].reason == "the application hung up"
    deadline = time.monotonic() + 20
    while not fake.requests[-1].closed_early:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_can_be_commanded(proxy, screen):
    screen.send(Pause())
    assert screen.until(Refused).sentence.startswith("this source cannot be paused, since a proxy is read-only")


def test_a_name_that_is_not_of_this_machine_is_refused(proxy):
    answer = httpx2.get(f"{proxy.url}/models", headers={"host": "evil.example"}, trust_env=False)
    assert answer.status_code == 403 and answer.json()["error"]["message"]


async def test_a_server_that_is_not_there_is_told_as_a_server_would():
    told = []
    app = PassThrough("http://127.0.0.1:9", told.append, "127.0.0.1")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.post("/v1/completions", json=TEXT)
    await app.close()
    assert answer.status_code == 502 and "127.0.0.1:9 could not be reached" in answer.json()["error"]["message"]
    assert (
        told[0].route == "/v1/completions"
        and json.loads(told[0].body) == TEXT
        and "could not be reached" in told[-1].ended
        and told[-1].broken
    )


def test_requests_pass_without_the_engine_too(tmp_path):
    with serving("openai") as fake:
        made = Served(None, tmp_path, "--proxy", fake.url)
        look = made.screen()
        os.kill(look.standing.pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while "requests still pass" not in made.said:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        base = made.url.removesuffix("/v1")
        there, here = (raw(url, "POST", "/v1/completions", TEXT) for url in (fake.url, base))
        assert here == there
    look.close()
    assert "Traceback" not in made.close()
