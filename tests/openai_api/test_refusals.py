"""Whatever is sent, the answer is one that a client of OpenAI's can read, and names the field that is at fault."""

import json
import socket

import httpx2
import pytest
from endpoints import KEY, WORDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui_entropy.core.errors import UserError
from tui_entropy.openai_api import address

ROUTES = "completions", "chat/completions"
PICTURE = [{"type": "image_url", "image_url": {"url": "data:,"}}]
SMALL = {"max_tokens": 1}
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=6)
    | st.sampled_from([0, 1, -1, 2, 0.5, "auto", "none", "a", "system", [], {}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
FIELDS = st.sampled_from([
    "model", "prompt", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature",
    "top_p", "top_k", "min_p", "seed", "stop", "frequency_penalty", "presence_penalty", "repetition_penalty",
    "logit_bias", "logprobs", "top_logprobs", "echo", "n", "best_of", "suffix", "tools", "user", "typical_p",
    "return_token_ids", "response_format", "mirostat_tau", "dry_multiplier", "penalty_last_n", "\r\nx: y",
])  # fmt: skip
MESSAGES = st.lists(
    st.fixed_dictionaries({}, optional={"role": ODD, "content": ODD | st.lists(ODD), "tool_calls": ODD}), max_size=2
)
BODIES = st.dictionaries(FIELDS, ODD, max_size=4)


def error(answer: httpx2.Response) -> dict:
    assert answer.headers["content-type"] == "application/json"
    (told,) = answer.json().values()
    assert told.keys() == {"message", "type", "param", "code"} and "\n" not in told["message"]
    return told


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(route=st.sampled_from(ROUTES), body=BODIES, messages=MESSAGES | st.none(), prompt=ODD)
def test_any_body_is_answered_or_refused_in_a_sentence(served, route, body, messages, prompt):
    given = {"prompt": prompt, "messages": messages or [{"role": "user", "content": "a"}], **SMALL, **body}
    if isinstance(given["max_tokens"], int):
        given["max_tokens"] = min(given["max_tokens"], 3)
    content = json.dumps(given).encode("utf-8", "surrogatepass")
    answer = served.client.post(
        f"{served.url}/{route}", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        error(answer)
    elif given.get("stream") is True:
        assert answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text
    else:
        assert answer.json()["usage"]["completion_tokens"] >= 1


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"1", b"{", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b"[" * 100_000, b"{}", b"nul"],
)
def test_what_is_no_object_of_fields_is_refused(served, content):
    answer = served.client.post(
        f"{served.url}/completions", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400 and error(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        ("completions", {"n": 2}, "n"),
        ("completions", {"echo": True}, "echo"),
        ("completions", {"suffix": "."}, "suffix"),
        ("completions", {"logprobs": 201}, "logprobs"),
        ("completions", {"temperature": -1}, "temperature"),
        ("completions", {"temperature": "hot"}, "temperature"),
        ("completions", {"top_p": 1.5}, "top_p"),
        ("completions", {"seed": 1.5}, "seed"),
        ("completions", {"max_tokens": 0}, "max_tokens"),
        ("completions", {"stop": ["a", ""]}, "stop"),
        ("completions", {"logit_bias": {"5": 3}}, "logit_bias"),
        ("completions", {"logit_bias": {"260": -100}}, "logit_bias"),
        ("completions", {"prompt": ["a", "b"]}, "prompt"),
        ("completions", {"prompt": []}, "prompt"),
        ("completions", {"prompt": None}, "prompt"),
        ("chat/completions", {"top_logprobs": 3}, "top_logprobs"),
        ("chat/completions", {"tools": [{"type": "function"}]}, "tools"),
        ("chat/completions", {"response_format": {"type": "json_object"}}, "response_format"),
        ("chat/completions", {"messages": []}, "messages"),
        ("chat/completions", {"messages": [{"content": "a"}]}, "messages[0].role"),
        ("chat/completions", {"messages": [{"role": "user", "content": PICTURE}]}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_had_is_named(served, route, fields, param):
    asked = {"prompt": WORDS, "messages": [{"role": "user", "content": "a"}], **SMALL, **fields}
    asked.pop("messages" if route == "completions" else "prompt")
    answer = served.post(route, **asked)
    told = error(answer)
    assert answer.status_code == 400 and told["param"] == param and param in told["message"]


def test_an_id_that_the_model_lacks_and_a_prompt_that_is_too_long_are_refused_by_the_engine(served):
    assert "there is no token 999" in error(served.post("completions", prompt=[999], **SMALL))["message"]
    assert "reads at most 256" in error(served.post("completions", prompt="a" * 300, **SMALL))["message"]
    assert "reads at most 256" in error(served.post("completions", prompt="a" * 300, stream=True))["message"]


def test_fields_that_nothing_is_done_about_are_told(served):
    answer = served.post("completions", prompt=WORDS, **SMALL, user="me", store=False, n=1, tools=None)
    assert answer.headers["x-ignored-fields"] == "user, store"
    assert "x-ignored-fields" not in served.post("completions", prompt=WORDS, **SMALL).headers


def test_the_model_is_called_by_its_names(served):
    (model,) = served.client.get(f"{served.url}/models").json()["data"]
    assert model["object"] == "model" and model["max_model_len"] == 256
    for name in (model["id"], str(served.model)):
        assert served.whole("completions", prompt=WORDS, model=name, **SMALL)["model"] == model["id"]
        assert served.client.get(f"{served.url}/models/{name}").json() == model
    answer = served.post("completions", prompt=WORDS, model="gpt-4o", **SMALL)
    assert (answer.status_code, error(answer)["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xe9"])
def test_without_the_key_nothing_is_told(served, header):
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    with httpx2.Client(trust_env=False) as stranger:
        for answer in (
            stranger.get(f"{served.url}/models", headers=headers),
            stranger.post(f"{served.url}/completions", headers=headers, json={"prompt": "a"}),
        ):
            assert (answer.status_code, error(answer)["code"]) == (401, "invalid_api_key")
        assert stranger.get(served.url.removesuffix("/v1") + "/health").json() == {"status": "ok"}


def test_what_a_page_in_a_browser_can_send_unasked_is_refused(served):
    answer = served.client.post(f"{served.url}/completions", content=b'{"prompt": "a"}')
    assert answer.status_code == 415 and error(answer)
    assert error(served.client.get(f"{served.url}/nowhere")) and error(served.client.get(f"{served.url}/completions"))


def test_a_body_that_is_too_large_is_not_read_to_its_end(served):
    answer = served.post("completions", prompt="a" * 13 * 2**20)
    assert answer.status_code == 413 and error(answer)


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("8000", "127.0.0.1", 8000),
        ("0.0.0.0:1", "0.0.0.0", 1),
        ("[::1]:80", "::1", 80),
        ("localhost:0", "localhost", 0),
    ],
)
def test_an_address_is_of_this_machine_unless_a_host_is_named(given, host, port):
    where = address.address(given)
    assert (where.host, where.port) == (host, port) and where.is_loopback == (host != "0.0.0.0")
    if host == "0.0.0.0":
        with pytest.raises(UserError, match="others on the network"):
            address.key(where, None, none=True)
    else:
        assert address.key(where, None, none=True) == (None, False)
    made, is_new = address.key(where, None, none=False)
    assert made and len(made) > 24 and is_new and made != address.key(where, None, none=False)[0]


def test_what_is_sent_does_not_wait_for_more():
    with address.listen(address.address("0")) as listening:
        assert listening.proto == socket.IPPROTO_TCP  # by which asyncio sets TCP_NODELAY


@pytest.mark.parametrize("given", ["", ":", "70000", "host:", ":80", "-1", "8e3", "\u0663", "a:b"])
def test_what_is_no_address_is_refused(given):
    with pytest.raises(UserError, match="wanted"):
        address.address(given)
