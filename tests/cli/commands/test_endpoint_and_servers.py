"""An endpoint over an engine here, and a server in place of one."""

from __future__ import annotations

import json
import math
import re
import time
import urllib.error
import urllib.request

import promises
import pytest
import small
from fake_model import VOCABULARY, tokenize
from fake_server import serving
from inspector_screen import written
from tried_commands import NOTES, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]

SERVER = "http://127.0.0.1:8000"
SPECIFIED = (
    "--server-model smollm2 --server-kind vllm --server-api completions --server-vocab 400 --server-sampler server "
    "--server-logprobs 20 --server-key-env MY_KEY --server-timeout 30 --server-lens 1,2"
)


@runs(
    "tui-entropy serve --api 8000",
    "tui-entropy serve --model ./tiny --no-trace --api 127.0.0.1:0 --api-key-env XDG_RUNTIME_DIR",
    "tui-entropy serve --model ./tiny --no-trace --api 0 --no-api-key --max-tokens 2",
)
def test_an_endpoint_answers_until_it_is_ended(shell, line):
    if not (shell.folder / "tiny").is_dir():
        small.saved(shell.folder / "tiny")
    with shell.screen(line) as terminal:
        terminal.wait_for("requests are answered at http://127.0.0.1:", promises.SECONDS)
        url = re.findall(r"http://\S+", terminal.text)[-1]
        made = re.search(r"key (tui-\S+)", terminal.text)
        key = made[1] if made else shell.env["XDG_RUNTIME_DIR"]
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        asked = urllib.request.Request(f"{url}/completions", b'{"prompt": "ab", "max_tokens": 2}', headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert (
                json.load(answer)["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4} or made
            )
        terminal.press("ctrl+c")
        assert terminal.wait(60) == 0 and "the engine has ended" in terminal.text


@runs(
    "tui-entropy serve --proxy http://127.0.0.1:9000/v1 --api 8000", "tui-entropy serve --proxy http://127.0.0.1:9000"
)
def test_a_proxy_passes_on_until_it_is_ended(shell, fake, line):
    with shell.screen(line.replace("http://127.0.0.1:9000", fake.url)) as terminal:
        terminal.wait_for("pass to", promises.SECONDS)
        url = re.findall(r"requests to (http://\S+)", terminal.text)[-1]
        assert ":8000/" in url or "--api" not in line
        with urllib.request.urlopen(f"{url}/models", timeout=60) as answer:
            assert json.load(answer)["data"]
        terminal.press("ctrl+c")
        assert terminal.wait(60) == 0 and "the engine has ended" in terminal.text


@runs(
    "tui-entropy --proxy http://127.0.0.1:9000/v1",
    "tui-entropy run --proxy http://127.0.0.1:9000/v1 --api 8000",
    "tui-entropy run --proxy http://127.0.0.1:9000/v1 --api 0 --no-trace --ascii --color 16",
)
def test_a_proxy_on_the_screen(shell, fake, line):
    with shell.screen(line.replace("http://127.0.0.1:9000", fake.url)) as terminal:
        terminal.wait_for(lambda text: "waiting for a request" in text and "/v1/chat/completions" in text, 60)
        url = re.findall(r"http://127.0.0.1:\d+/v1(?= |$)", terminal.text, re.MULTILINE)[0]
        body = json.dumps({"prompt": "The", "max_tokens": 5, "logprobs": 3}).encode()
        asked = urllib.request.Request(f"{url}/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 5
        terminal.wait_for(lambda text: "ended (token limit)" in text and "step 5" in text)
        terminal.press("space")
        terminal.wait_for("a proxy is read-only")
        terminal.press("q")
        assert terminal.wait(60) == 0
    until = time.monotonic() + 20
    with pytest.raises(urllib.error.URLError):
        while time.monotonic() < until:
            urllib.request.urlopen(f"{url}/models", timeout=5).close()


@pytest.fixture
def fake():
    with serving("vllm") as server:
        yield server


def with_its_names(line: str, fake) -> str:
    """The line with the address and the model of the fake server."""
    return line.replace(SERVER, fake.url).replace("--server-model smollm2", "--server-model fake")


@runs(
    f"tui-entropy run --headless --prompt Hi --raw --max-tokens 6 --server {SERVER}",
    f"tui-entropy run --headless --jsonl --prompt Hi --raw --max-tokens 6 --server {SERVER} {SPECIFIED}",
)
def test_a_server_writes_without_a_screen(shell, fake, line):
    done = shell.run(with_its_names(line, fake))
    assert done.code == 0 and "log-probabilities: of the" in done.err
    if "--jsonl" in line:
        steps = [one for one in map(json.loads, done.out.splitlines()) if "token_id" in one]
        assert len(steps) == 6 and all(one["surprisal_nats"] is not None for one in steps)
        assert all(low <= high for one in steps for low, high in one.get("bounds", {}).values())


@runs(
    f'tui-entropy probe continuations --server {SERVER} -p "The sky is" --raw',
    f"tui-entropy probe continuations --json --position 3 --prompt Hi --raw --server {SERVER} {SPECIFIED}",
)
def test_a_server_is_asked_without_a_screen(shell, fake, line):
    done = shell.run(with_its_names(line, fake))
    assert done.code == 0 and "continuations took" in done.err
    if "--json" in line:
        answer = json.loads(done.out)
        assert (answer["name"], answer["position"]) == ("continuations", 3) and len(answer["panels"]) == 2
    else:
        assert "discrete semantic entropy" in done.out


@runs(
    f"tui-entropy --server {SERVER}",
    f"tui-entropy run --server {SERVER} -p Hi --raw --max-tokens 20 --ascii --color 16",
)
def test_a_server_on_the_screen(shell, fake, line):
    with shell.screen(with_its_names(line, fake)) as terminal:
        terminal.wait_for(lambda text: "vLLM" in text and "entropy" in text, 60)
        terminal.press("@")
        terminal.wait_for("knobs without effect")
        terminal.press("q")
        terminal.wait_for("over time")
        terminal.press("h")
        terminal.wait_for("behind a server")
        if " run " in line:  # the other one has no text yet
            terminal.press("H")
            terminal.wait_for("over the groups")
            terminal.press("q")
            terminal.wait_for("over time")
        terminal.press("ctrl+q")
        assert terminal.wait(60) == 0


@runs(
    f"tui-entropy read notes.txt --headless --server {SERVER}",
    f"tui-entropy read notes.txt --headless --jsonl --no-trace --raw --server {SERVER} {SPECIFIED}",
)
def test_a_text_is_read_through_a_server(notes, fake, line):
    done = notes.run(with_its_names(line, fake))
    assert done.code == 0, done.err
    ids = tokenize(NOTES)
    nats = [-fake.model.logprob(place, one) for place, one in enumerate(ids)][1:]
    if "--jsonl" in line:
        lines = [json.loads(text) for text in done.out.splitlines()]
        steps = [one for one in lines if "index" in one]
        assert [one["token_id"] for one in steps] == ids[1:]
        assert [one["surprisal_nats"] for one in steps] == pytest.approx(nats, abs=1e-4)
        assert [one["end"]["reason"] for one in lines if "end" in one] == ["the text is read"]
    else:
        n, perplexity, *_ = re.findall(r"\d[\d.e+]*", done.out)
        assert int(n) == len(nats) and float(perplexity) == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-3)


@runs(f"tui-entropy read notes.txt --server {SERVER}")
def test_a_text_is_read_through_a_server_on_the_screen(notes, fake, line):
    with notes.screen(with_its_names(line, fake)) as terminal:
        terminal.wait_for("the text is read", 60)
        terminal.press("left", "left", "down", "down")
        terminal.wait_for("read, and not drawn")
        terminal.press("enter")
        terminal.wait_for("forced at position", 60)
        terminal.press("ctrl+q")
        assert terminal.wait(60) == 0


def recorded_through(fake, shell) -> None:
    """served.tui, which the server wrote."""
    (shell.folder / "served.tui").unlink(missing_ok=True)
    line = "tui-entropy run --headless --prompt Hi --raw --max-tokens 6 --trace served.tui --server"
    assert shell.run(f"{line} {fake.url}").code == 0


@runs(
    f"tui-entropy open served.tui --headless --max-tokens 4 --server {SERVER}",
    f"tui-entropy open served.tui --headless --jsonl --max-tokens 4 --despite --server {SERVER} {SPECIFIED}",
)
def test_a_recording_of_a_server_is_gone_on_with(shell, fake, line):
    recorded_through(fake, shell)
    done = shell.run(with_its_names(line.replace("--server-vocab 400", f"--server-vocab {len(VOCABULARY)}"), fake))
    assert done.code == 0, done.err
    assert "tokens are sent again: as recorded" in done.err
    if "--jsonl" in line:
        lines = [json.loads(text) for text in done.out.splitlines()]
        assert "header" in lines[0] and [one["index"] for one in lines if "token_id" in one] == [6, 7, 8, 9]


@pytest.mark.parametrize("line", ["tui-entropy open served.tui --no-trace", "tui-entropy replay served.tui --all"])
def test_a_recording_of_a_server_is_opened_on_the_screen(shell, fake, line):
    recorded_through(fake, shell)
    with shell.screen(line) as terminal:
        if "replay" in line:
            terminal.wait_for("replay")
            terminal.press("ctrl+e")
        terminal.wait_for("as recorded", 60)
        goal = written(terminal.text) + 2
        terminal.press("space")
        terminal.wait_for(lambda text: written(text) >= goal, 60)
        terminal.press("H")
        terminal.wait_for("over the groups")
        terminal.press("q")
        terminal.press("ctrl+q")
        assert terminal.wait(60) == 0


@runs(f"tui-entropy doctor --server {SERVER}", f"tui-entropy doctor --server {SERVER} --json {SPECIFIED}")
def test_doctor_of_a_server(shell, fake, line):
    done = shell.run(with_its_names(line, fake))
    assert done.code == 0
    if "--json" in line:
        report = json.loads(done.out)
        assert report["requests"] <= 8
        assert {"greedy", "distribution", "ids", "prompt scores"} <= {one["name"] for one in report["findings"]}
    else:
        assert "raw: the same at temperature 1.5" in done.out


@runs(f"tui-entropy doctor --server {SERVER} --against smollm2")
def test_a_server_against_the_model_that_is_here(shell, llamacpp, line):
    done = shell.run(line.replace(SERVER, llamacpp.url))
    assert "against" in done.out and "entropy in band" in done.out


@runs(f"tui-entropy serve --no-trace --server {SERVER} {SPECIFIED}")
def test_serving_what_a_server_writes(shell, fake, line):
    done = shell.run(with_its_names(line, fake))
    assert done.code == 0 and re.fullmatch(r"[a-z]{4}\n", done.out)
    assert shell.run("tui-entropy stop --all").code == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tui-entropy run --headless --prompt Hi --server-model x", "of no server"),
        (f"tui-entropy run --headless --prompt Hi --model gpt2 --server {SERVER}", "--server-model"),
        ("tui-entropy doctor --against smollm2", "--server names"),
        (f"tui-entropy serve --api 0 --server {SERVER}", "--proxy URL passes"),
        ("tui-entropy run --api 0", "--api is for --proxy"),
        (f"tui-entropy --proxy {SERVER} --headless", f"serve --proxy {SERVER}"),
        (f"tui-entropy --proxy {SERVER} --prompt Hi", "only shows what passes"),
        (f"tui-entropy --proxy {SERVER} --api 0.0.0.0:0", "others on the network"),
        (f"tui-entropy serve --api 0 --proxy {SERVER} --model gpt2", "only shows what passes"),
        (f"tui-entropy serve --api 0.0.0.0:0 --proxy {SERVER}", "others on the network"),
        (f"tui-entropy serve --api 0 --proxy {SERVER} --no-api-key", "leave --api-key-env"),
        ("tui-entropy serve --api 0.0.0.0:0 --no-api-key", "others on the network"),
        (f"tui-entropy serve --api 0 --proxy {SERVER} --server {SERVER}", "leave --server out"),
        ("tui-entropy serve --no-api-key", "--no-api-key is for --api"),
    ],
)
def test_what_is_said_of_a_server_that_is_not_named(shell, line, said):
    done = shell.run(line)
    assert done.code in (2, 3) and said in done.err
