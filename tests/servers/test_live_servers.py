"""The servers that a client is tested against come up, answer, and leave no process."""

from __future__ import annotations

import math
import socket
import subprocess
import time

import psutil
import pytest
from live_servers import SCRIPT, LiveServer, running

PROMPT = [504, 3575, 282, 4649, 314]
"""SmolLM2's tokens of "The capital of France is"."""
PARIS = 7042
END_LIMIT_S = 30


def processes_of(server: LiveServer) -> list[psutil.Process]:
    script = psutil.Process(server.pid)
    return [script, *script.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still are after a while; what has ended and waits for its parent to hear of it is not."""
    for _ in range(int(END_LIMIT_S / 0.1)):
        if not (running_ones := [each for each in processes if is_alive(each)]):
            break
        time.sleep(0.1)
    return running_ones


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def first_token(server: LiveServer, **more) -> dict:
    answer = server.post("/completion", prompt=PROMPT, n_predict=1, temperature=0, **more)
    (entry,) = answer["completion_probabilities"]
    return entry


def test_llamacpp_tells_of_its_vocabulary_and_of_all_of_a_distribution(llamacpp):
    (model,) = llamacpp.get("/v1/models")["data"]
    entry = first_token(llamacpp, n_probs=model["meta"]["n_vocab"])
    assert (model["owned_by"], model["meta"]["n_vocab"], entry["id"]) == ("llamacpp", 49152, PARIS)
    assert len({each["id"] for each in entry["top_logprobs"]}) == 49152
    assert math.fsum(math.exp(each["logprob"]) for each in entry["top_logprobs"]) == pytest.approx(1, abs=1e-3)


def test_the_two_weights_of_llamacpp_differ_by_their_quantisation(llamacpp, llamacpp_f32):
    quantised, exact = first_token(llamacpp, n_probs=1), first_token(llamacpp_f32, n_probs=1)
    assert quantised["id"] == exact["id"] == PARIS
    assert 0 < abs(quantised["logprob"] - exact["logprob"]) < 0.1


def test_a_server_ends_with_all_that_it_started():
    with running("llamacpp") as server:
        processes = processes_of(server)
        port = int(server.url.rpartition(":")[2])
    assert len(processes) == 2 and not alive(processes)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_server_goes_with_a_script_that_was_killed():
    with running("llamacpp") as server:
        processes = processes_of(server)
        processes[0].kill()
        assert not alive(processes[1:])


def test_a_server_that_does_not_come_up_says_why():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([*SCRIPT, "run", "llamacpp", "--port", str(port)], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert f"llamacpp did not start on port {port}; its last words:\n" in done.stderr
    assert len(done.stderr.splitlines()) > 1


@pytest.mark.servers
def test_vllm_answers_with_ids_and_has_the_plugin(vllm):
    answer = vllm.post(
        "/v1/completions", model="smollm2", prompt=PROMPT, max_tokens=1, temperature=0, logprobs=3,
        return_token_ids=True, return_tokens_as_token_ids=True,
        vllm_xargs={"output_residual_stream": "[5]"},
    )  # fmt: skip
    (choice,) = answer["choices"]
    assert choice["token_ids"] == [PARIS] and f"token_id:{PARIS}" in choice["logprobs"]["top_logprobs"][0]
    assert vllm.get("/version") == {"version": "0.30.0"}
    assert vllm.post("/v1/hooks/collect") == {"results": {}}
    assert answer["activations"]["residual_stream"]["shape"] == [1, len(PROMPT), 576]


@pytest.mark.servers
def test_vllm_on_two_ranks_is_several_processes_and_all_of_them_end():
    with running("vllm-tp2") as server:
        processes = processes_of(server)
        answer = server.post("/v1/completions", model="random", prompt=PROMPT, max_tokens=2, logprobs=1)
    assert answer["usage"]["completion_tokens"] == 2
    assert len(processes) >= 5 and not alive(processes)


@pytest.mark.servers
def test_transformers_takes_a_wish_for_log_probabilities_and_gives_none(transformers_server):
    answer = transformers_server.post(
        "/v1/chat/completions",
        messages=[{"role": "user", "content": "Hi"}],
        max_tokens=1,
        logprobs=True,
        top_logprobs=2,
    )
    (choice,) = answer["choices"]
    assert choice["message"]["content"] and "logprobs" not in choice
