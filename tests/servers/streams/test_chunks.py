"""What one event says, in each of the shapes that servers have, and what is no number."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.servers.streams.chunks import NO_PROBABILITY, NoChunk, chunk_of
from tui_entropy.servers.streams.sse import EventTooLarge, event_data


def chunk(**found):
    return chunk_of(json.dumps(found).encode())


def test_the_legacy_shape_names_tokens_by_text_or_by_id():
    logprobs = {
        "tokens": [" a", "token_id:7"], "token_logprobs": [-0.5, None],
        "top_logprobs": [{" a": -0.5, " b": -1.5}, {"token_id:9": -0.1, "token_id:7": -3.0}],
    }  # fmt: skip
    found = chunk(choices=[{"text": " a c", "logprobs": logprobs, "token_ids": [4, 7], "finish_reason": "length"}])
    first, second = found.tokens
    assert (first.text, first.token_id, first.logprob) == (" a", None, -0.5)
    assert [(one.text, one.logprob) for one in first.alternatives] == [(" a", -0.5), (" b", -1.5)]
    assert (second.token_id, second.text, second.logprob) == (7, "", None)
    assert [one.token_id for one in second.alternatives] == [9, 7]
    assert (found.text, found.token_ids, found.finish) == (" a c", (4, 7), "length")


def test_the_content_shape_has_bytes_but_not_those_of_an_id():
    entry = {
        "token": " Paris", "logprob": -0.25, "bytes": [32, 80], "id": 5,
        "top_logprobs": [
            {"token": "token_id:8", "logprob": -2.0, "bytes": [116, 111]},
            {"token": "x", "logprob": -1.0, "bytes": [120]},
        ],
    }  # fmt: skip
    (token,) = chunk(choices=[{"delta": {"content": " P"}, "logprobs": {"content": [entry]}}]).tokens
    assert (token.token_id, token.token_bytes) == (5, b" P")
    assert [(one.token_id, one.token_bytes) for one in token.alternatives] == [(None, b"x"), (8, None)]


def test_llama_cpp_before_and_after_sampling():
    raw = {"id": 7, "token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": [{"id": 7, "logprob": -1.0}]}
    drawn = {
        "id": 7,
        "token": "a",
        "bytes": [97],
        "prob": 0.5,
        "top_probs": [{"id": 7, "prob": 0.5}, {"id": 8, "prob": 0}],
    }
    first = chunk(content="a", tokens=[7], tokens_predicted=3, completion_probabilities=[raw], stop=False)
    second = chunk(content="a", tokens=[7], completion_probabilities=[drawn])
    assert (first.n_tokens, first.token_ids, first.tokens[0].logprob) == (3, (7,), -1.0)
    assert second.tokens[0].logprob == pytest.approx(math.log(0.5))
    assert second.tokens[0].alternatives[1].logprob == NO_PROBABILITY
    last = chunk(content="", tokens=[], stop=True, stop_type="limit", tokens_predicted=3)
    assert last.is_done and last.finish == "limit" and last.token_ids is None


def test_sglang_rows():
    about = {
        "output_token_logprobs": [[-0.5, 3, " a"]], "output_top_logprobs": [[[-0.5, 3, " a"], [-1.0, 4, " b"]]],
        "completion_tokens": 1, "finish_reason": {"type": "stop"},
    }  # fmt: skip
    found = chunk(text=" a", output_ids=[3], meta_info=about)
    assert found.tokens[0].token_id == 3 and found.finish == "stop"
    assert [one.token_id for one in found.tokens[0].alternatives] == [3, 4]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "true", '"-1"', "[]", "1e400", "null"])
def test_what_is_no_number_is_unknown(value):
    data = b'{"choices":[{"text":"a","logprobs":{"tokens":["a"],"token_logprobs":[%s]}}]}' % value.encode()
    (token,) = chunk_of(data).tokens
    assert token.logprob is None and token.text == "a"


def test_a_token_that_is_told_twice_counts_once():
    entry = {"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "a", "logprob": -1.0}] * 2}
    assert len(chunk(choices=[{"logprobs": {"content": [entry]}}]).tokens[0].alternatives) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("down", "down"),
        ({"message": "full", "code": 500}, "full"),
        ({"detail": {"error": "x"}}, "x"),
        ({"code": 1}, "{'code': 1}"),
    ],
)
def test_an_error_in_the_midst_of_a_stream(error, said):
    assert chunk(error=error).error == said


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "logprobs", "content", "tokens", "top_logprobs", "meta_info", "output_token_logprobs", "text",
             "completion_probabilities", "token", "logprob", "bytes", "id", "usage", "completion_tokens", "delta",
             "error", "token_ids", "output_top_logprobs", "finish_reason", "prob"]
        ),
        inner, max_size=6,
    )
), max_leaves=20))  # fmt: skip
def test_whatever_comes_is_read_or_refused(found):
    try:
        read = chunk_of(json.dumps(found).encode())
    except NoChunk:
        assert found is not None and not isinstance(found, dict)
        return
    for token in read.tokens:
        assert token.logprob is None or math.isfinite(token.logprob)


EVENTS = b': ping\n\ndata: {"a":1}\r\n\r\ndata:x\ndata: y\n\nevent: z\nid: 3\ndata\n\ndata: [DONE]'


@given(st.lists(st.integers(0, len(EVENTS))))
def test_events_are_the_same_wherever_their_bytes_are_cut(cuts):
    places = sorted({0, len(EVENTS), *cuts})
    pieces = [EVENTS[first:last] for first, last in pairwise(places)]
    assert list(event_data(pieces)) == [b'{"a":1}', b"x\ny", b"", b"[DONE]"]


def test_carriage_returns_alone_end_lines_too():
    assert list(event_data([b"data: a\r", b"\rdata: b\r\n", b"\r\n", b"\n"])) == [b"a", b"b"]


def test_an_event_without_an_end_is_given_up():
    with pytest.raises(EventTooLarge):
        list(event_data([b"data: "] + [b"x" * 100] * 100, limit=1000))
