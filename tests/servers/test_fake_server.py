"""The fake server writes as real ones do: no key that theirs lack, and every token with the number of its place."""

from __future__ import annotations

import json
import math
import socket
import urllib.error
from urllib.parse import urlsplit

import pytest
from fake_model import EMOJI, IDS, VOCABULARY, FakeModel, bytes_of
from fake_requests import Odd
from fake_server import HUGE_BYTES, Wire, serving
from live_servers import events, read

PIECES = [IDS[piece] for piece in EMOJI[0]]
"""The tokens of a face."""
CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "temperature": 0, "logprobs": True}
TEXT = {"prompt": "The", "max_tokens": 3, "temperature": 0, "logprobs": 2}


def keys(value, path=""):
    """Every key of every record, by where it stands; those that name tokens count as one."""
    if isinstance(value, list):
        return {key for each in value for key in keys(each, path)}
    if not isinstance(value, dict):
        return set()
    if path.endswith(".top_logprobs") and "logprob" not in value:
        return {f"{path}.TOKEN"}
    return {found for name, each in value.items() for found in {f"{path}.{name}", *keys(each, f"{path}.{name}")}}


@pytest.mark.parametrize(
    "path, body",
    [
        ("/completion", {"prompt": "The", "n_predict": 3, "n_probs": 2, "temperature": 0}),
        ("/completion", {"prompt": "The", "n_predict": 3, "n_probs": 2, "post_sampling_probs": True}),
        ("/v1/completions", TEXT | {"stream_options": {"include_usage": True}}),
        ("/v1/chat/completions", CHAT | {"top_logprobs": 2, "stream_options": {"include_usage": True}}),
    ],
    ids=["native", "after sampling", "completions", "chat"],
)
def test_it_answers_as_llamacpp_does(llamacpp, path, body):
    with serving("llamacpp") as fake:
        ours = keys(events(fake.url + path, **body)) | keys(json.loads(read(fake.url + path, body)), "whole")
    theirs = keys(llamacpp.events(path, **body)) | keys(llamacpp.post(path, **body), "whole")
    assert ours and ours <= theirs
    assert {key for key in theirs if "prob" in key and "generation_settings" not in key} <= ours


@pytest.mark.servers
@pytest.mark.parametrize(
    "path, body",
    [
        ("/v1/completions", TEXT | {"return_token_ids": True, "return_tokens_as_token_ids": True}),
        ("/v1/completions", TEXT | {"stream_options": {"include_usage": True}}),
        ("/v1/chat/completions", CHAT | {"top_logprobs": 2, "return_token_ids": True}),
    ],
    ids=["ids", "texts", "chat"],
)
def test_it_answers_as_vllm_does(vllm, path, body):
    with serving("vllm") as fake:
        ours = keys(events(fake.url + path, **body)) | keys(json.loads(read(fake.url + path, body)), "whole")
    body = body | {"model": "smollm2"}
    theirs = keys(vllm.events(path, **body))
    body.pop("stream_options", None)  # which vLLM refuses where there is no stream
    theirs |= keys(vllm.post(path, **body), "whole")
    assert ours and ours <= theirs
    assert {key for key in theirs if "logprobs" in key and "prompt" not in key} <= ours


def tokens_of(said):
    """(id, log-probability) of every token of a stream of vLLM's completions."""
    for event in said:
        for choice in event["choices"]:
            yield from zip(choice["token_ids"], choice["logprobs"]["token_logprobs"], strict=True)


def test_every_token_has_the_number_of_its_own_place():
    model = FakeModel(seed=3, split_every=5)
    body = {"prompt": [300, 301], "max_tokens": 2500, "logprobs": 2, "return_token_ids": True}
    with serving("vllm", model=model, odd=Odd(tokens_per_event=3)) as fake:
        said = events(f"{fake.url}/v1/completions", **body)
    told = list(tokens_of(said))
    assert len(told) == 2500
    assert all(
        math.isclose(logprob, model.logprob(2 + index, token_id)) for index, (token_id, logprob) in enumerate(told)
    )
    text = "".join(choice["text"] for event in said for choice in event["choices"])
    assert bytes_of([token_id for token_id, _ in told]).decode(errors="replace").startswith(text) and "😀" in text


def test_a_distribution_sums_to_one_and_is_that_of_seed_and_position():
    for position in (0, 1, 997):
        ranked = FakeModel(seed=1).ranked(position)
        assert sorted(i for i, _ in ranked) == list(range(len(VOCABULARY)))
        assert math.fsum(math.exp(logprob) for _, logprob in ranked) == pytest.approx(1)
    assert FakeModel(1).ranked(5) == FakeModel(1).ranked(5) != FakeModel(1).ranked(6) != FakeModel(2).ranked(6)


def test_llamacpp_holds_back_what_is_inside_a_character():
    with serving("llamacpp", model=FakeModel(chosen=PIECES)) as fake:
        *said, last = events(f"{fake.url}/completion", prompt="The", n_predict=len(PIECES), n_probs=1)
    (event,) = said
    assert event["content"] == " 😀" and event["tokens"] == PIECES[-1:] and last["tokens_predicted"] == len(PIECES)


def test_a_forced_token_keeps_the_number_that_the_model_gave_it():
    with serving("vllm", odd=Odd()) as fake:
        body = TEXT | {"logit_bias": {"270": 100}, "return_token_ids": True}
        told = list(tokens_of(events(f"{fake.url}/v1/completions", **body)))
    assert [token_id for token_id, _ in told] == [270] * 3
    assert [logprob for _, logprob in told] == pytest.approx([FakeModel().logprob(1 + at, 270) for at in range(3)])


def one_missing(entries):
    return len(entries) == 2


ODD = {
    "missing": (Odd(missing_every=3), one_missing),
    "merged": (Odd(tokens_per_event=3, merged_every=3), one_missing),
    "null": (Odd(null_every=2), lambda entries: [each["logprob"] for each in entries].count(None) == 1),
    "not finite": (Odd(not_finite_every=2), lambda entries: math.isnan(entries[1]["logprob"])),
    "zero": (Odd(zero_logprobs=True), lambda entries: {each["logprob"] for each in entries} == {0.0}),
    "none": (Odd(no_logprobs=True), lambda entries: entries == []),
}


@pytest.mark.parametrize("odd, holds", ODD.values(), ids=ODD)
def test_entries_are_as_odd_as_they_are_told_to_be(odd, holds):
    with serving(odd=odd) as fake:
        said = events(f"{fake.url}/v1/chat/completions", **CHAT)
    logprobs = [choice["logprobs"] for event in said for choice in event["choices"] if choice.get("logprobs")]
    assert holds([entry for each in logprobs for entry in each["content"]])


def test_two_tokens_of_one_text_are_one_key():
    with serving(model=FakeModel(twice=True)) as fake:
        said = events(f"{fake.url}/v1/completions", **TEXT | {"logprobs": 20})
    assert {len(event["choices"][0]["logprobs"]["top_logprobs"][0]) for event in said} == {19}


def raw(fake, body=TEXT):
    """All that comes over the connection until it is closed, or nothing comes for a while."""
    address = urlsplit(fake.url)
    data = json.dumps({**body, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    received = b""
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.settimeout(0.5)
        connection.sendall(head.encode() + data)
        try:
            while part := connection.recv(1 << 20):
                received += part
        except TimeoutError:
            pass
    return received


WIRES = {
    "whole": (Wire(), lambda data: data.endswith(b"\r\n0\r\n\r\n") and b"[DONE]" in data),
    "error": (Wire(error_after=1), lambda data: data.count(b'"text"') == 1 and b'data: {"error"' in data),
    "early end": (Wire(ends_after=1), lambda data: data.endswith(b"0\r\n\r\n") and b"[DONE]" not in data),
    "cut": (Wire(cut_after=1), lambda data: data.endswith(b'{"te\r\n')),
    "hangs": (Wire(hangs_after=1), lambda data: data.count(b'"text"') == 1 and not data.endswith(b"0\r\n\r\n")),
    "hangs at once": (Wire(hangs_after=0), lambda data: data == b""),
    "garbage": (Wire(garbage_after=1), lambda data: b'[{"text": \n' in data),
    "huge": (Wire(huge_after=1), lambda data: len(data) > HUGE_BYTES),
    "comments": (Wire(comments=True), lambda data: data.count(b": ping\n") == 3),
    "crlf": (Wire(crlf=True), lambda data: b"[DONE]\r\n\r\n\r\n" in data),
    "pieces": (Wire(piece_bytes=7), lambda data: data.count(b"\r\n7\r\n") > 30),
    "content type": (Wire(content_type="text/html"), lambda data: b"Content-Type: text/html" in data),
}


@pytest.mark.parametrize("wire, holds", WIRES.values(), ids=WIRES)
def test_the_wire_is_as_bad_as_it_is_told_to_be(wire, holds):
    with serving(wire=wire) as fake:
        assert holds(raw(fake))


@pytest.mark.parametrize(
    "settings, status, says",
    [
        ({"wire": Wire(status=429)}, 429, b'"code": 429'),
        ({"wire": Wire(status=500, html=True)}, 500, b"<!DOCTYPE html>"),
        ({"wire": Wire(loading=1)}, 503, b"Loading model"),
        ({"wire": Wire(api_key="s3cret")}, 401, b"Invalid API key"),
        ({"odd": Odd(cap=1)}, 400, b"Requested sample logprobs of 2, which is greater than max allowed: 1"),
    ],
    ids=["429", "500 as a page", "loading", "key", "cap"],
)
def test_refusals(settings, status, says):
    with serving(**settings) as fake, pytest.raises(urllib.error.HTTPError) as refused:
        read(f"{fake.url}/v1/completions", TEXT)
    assert refused.value.code == status and says in refused.value.read()


def test_it_keeps_what_it_was_asked():
    with serving("llamacpp") as fake:
        read(f"{fake.url}/health")
        read(f"{fake.url}/completion", {"prompt": "The", "n_predict": 1})
    assert [(each.method, each.path) for each in fake.requests] == [("GET", "/health"), ("POST", "/completion")]
    assert [each.body for each in fake.asked_for_text()] == [{"prompt": "The", "n_predict": 1}]
