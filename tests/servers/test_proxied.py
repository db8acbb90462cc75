"""What a proxy tells of becomes the same runs however the bytes were cut and whatever passed at the same time."""

import gzip
import json
import zlib
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import ANSWER_ENDED, Go, Label, Load, Relayed
from tui_entropy.records.events import Ended, Labelled, Started
from tui_entropy.records.model import ModelSpec, ServerSpec
from tui_entropy.records.source import inability
from tui_entropy.records.step import Step
from tui_entropy.servers.proxied.asked import asked
from tui_entropy.servers.proxied.source import ProxySource

SPEC = ServerSpec("http://far", proxied=True)
OTHER = b'{"type": "response.output_text.delta", "delta": "Hi"}'
"""An event of another API."""
BODY = json.dumps({"prompt": "a", "logprobs": 2, "max_tokens": 3}).encode()


class Told(list):
    """Everything that a source says."""

    emit = answer = list.append

    def hears_cancel(self) -> bool:
        return False


def source() -> tuple[ProxySource, Told]:
    told = Told()
    made = ProxySource(told)
    made.begin(Load(ModelSpec("far", server=SPEC)))
    return made, told


def event(text: str, index: int = 0, **more: Any) -> bytes:
    logprobs = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [{text: -0.5, "other": -1.5}]}
    return (
        b"data: " + json.dumps({"choices": [{"index": index, "text": text, "logprobs": logprobs, **more}]}).encode()
    )


def parts(request: str, answer: bytes, cuts: list[int], **how: Any) -> list[Relayed]:
    how = {"status": 200, "content_type": "text/event-stream", **how}
    places = sorted({cut % (len(answer) + 1) for cut in cuts} | {0, len(answer)})
    pieces = [answer[first:last] for first, last in pairwise(places)]
    return [
        Relayed(request, route="/v1/completions", body=BODY, at=1.0),
        Relayed(request, **how, at=2.0),
        *(Relayed(request, data=piece, at=3.0) for piece in pieces),
        Relayed(request, at=4.0, ended=ANSWER_ENDED),
    ]


def texts(told: Told, run: int) -> list[str]:
    return [step.text for step in told if isinstance(step, Step) and step.run == run]


ends = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"])


@given(
    end=ends,
    cuts=st.lists(st.integers(0, 10**6), max_size=12),
    words=st.lists(st.text(min_size=1, max_size=3), max_size=5),
)
def test_where_the_bytes_are_cut_makes_no_difference(end, cuts, words):
    made, told = source()
    answer = end.join([*(event(word) for word in words), b": a comment", b"data: [DONE]", b""])
    for part in parts("one", answer, cuts):
        made.handle(part)
    assert texts(told, 1) == words and told[-1] == Ended(1, ANSWER_ENDED)
    steps = [one for one in told if isinstance(one, Step)]
    assert all(step.surprisal == 0.5 and len(step.candidates) == 2 for step in steps)


@given(
    order=st.permutations([0] * 8 + [1] * 8), cuts=st.lists(st.integers(0, 400), min_size=6, max_size=6, unique=True)
)
def test_requests_that_pass_at_once_do_not_mix(order, cuts):
    made, told = source()
    answers = [b"\n\n".join([event(word * 3) for word in words] + [b""]) for words in ("abc", "xyz")]
    both = [iter(parts(name, answer, cuts)) for name, answer in zip(("one", "two"), answers, strict=True)]
    for who in [*order, *[0, 1] * 8]:
        if (part := next(both[who], None)) is not None:
            made.handle(part)
    first = order[0]
    assert texts(told, 1) == [each * 3 for each in ("abc", "xyz")[first]]
    assert texts(told, 2) == [each * 3 for each in ("abc", "xyz")[1 - first]]
    assert [one.request for one in told if isinstance(one, Started)] == [("one", "two")[first], ("two", "one")[first]]
    assert not made._open


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_an_encoded_answer_is_read_where_that_can_be(encoding):
    made, told = source()
    plain = event("a") + b"\n\n" + event("b") + b"\n\n"
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "br": lambda data: data}[encoding](plain)
    for part in parts("one", packed, list(range(0, 200, 7)), encoding=encoding):
        made.handle(part)
    assert texts(told, 1) == (["[an answer in encoding br]"] if encoding == "br" else ["a", "b"])


def test_of_several_answers_to_one_request_the_first_is_shown():
    made, told = source()
    body = json.dumps({"prompt": "a", "n": 2, "logprobs": 1}).encode()
    answer = b"\n\n".join([event("a"), event("x", 1), event("b"), event("y", 1), b""])
    first, *rest = parts("one", answer, [])
    for part in (replace(first, body=body), *rest):
        made.handle(part)
    assert texts(told, 1) == ["a", "b"]


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (b"data: " + OTHER + b"\n\n", OTHER.decode() + "\n"),
        (b"data: \xff no JSON\n\n", "\ufffd no JSON"),
        (b"data: [1]\n\n", "[1]"),
        (b"", ""),
    ],
)  # fmt: skip
def test_what_has_no_known_shape_is_text_without_numbers(answer, shown):
    made, told = source()
    for part in parts("one", answer, [3]):
        made.handle(part)
    assert "".join(texts(told, 1)) == shown and isinstance(told[-1], Ended)
    assert all(step.surprisal != step.surprisal and not step.candidates for step in told if isinstance(step, Step))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = [
    "prompt",
    "messages",
    "role",
    "content",
    "n",
    "logprobs",
    "top_logprobs",
    "temperature",
    "top_k",
    "seed",
    "max_tokens",
]


@given(fields=st.dictionaries(st.sampled_from(NAMES), JSON), answer=st.binary(max_size=200), events=st.booleans())
def test_nothing_that_passes_makes_it_fail(fields, answer, events):
    made, told = source()
    body = json.dumps(fields).encode()
    answer = b"data: " + answer + b"\n\n" if events else answer
    first, *rest = parts("one", answer, [1, 5], content_type="text/event-stream" if events else "application/json")
    for part in (replace(first, body=body), *rest):
        made.handle(part)
    assert isinstance(told[-1], Ended) and not made._open


def test_a_prompt_of_ids_and_a_conversation_with_pictures_are_shown_as_far_as_they_are_known():
    ids = asked(b'{"prompt": [5, 6]}')
    assert [token.token_id for token in ids.tokens] == [5, 6]
    parts_of = [{"type": "text", "text": "What is this? "}, {"type": "image_url", "image_url": {"url": "data:"}}]
    seen = asked(json.dumps({"messages": [{"role": "user", "content": parts_of}], "temperature": 0.1}).encode())
    assert (seen.prompt, seen.chat, seen.knobs.temperature) == ("What is this? [image_url]", True, 0.1)
    assert asked(b"\xff").prompt == "\ufffd" and asked(b'{"temperature": -3}').knobs.temperature == 1.0


def test_runs_can_be_gone_to_and_named():
    made, told = source()
    for part in parts("one", event("a") + b"\n\n", []):
        made.handle(part)
    made.handle(Label(1, name="mine", starred=True))
    assert told[-1] == Labelled(1, "mine", True)
    made.handle(Go(1))
    with pytest.raises(UserError, match="there is no run 2"):
        made.handle(Go(2))


def test_a_run_is_called_by_what_was_asked_for_and_knows_which_knobs_were():
    made, told = source()
    made.handle(Relayed("one", route="/v1/chat/completions", body=b'{"model": "m", "temperature": 1.0, "seed": 3}'))
    made.handle(Relayed("two", route="/v1/embeddings", body=b'{"input": "a"}'))
    assert [one.name for one in told if isinstance(one, Labelled)] == ["chat m", "embeddings"]
    assert [one.given_knobs for one in told if isinstance(one, Started)] == [("temperature", "seed"), ()]


def test_halves_of_characters_in_a_request_are_told_as_question_marks():
    made, told = source()
    made.handle(Relayed("one", route="/v1/completions", body=b'{"prompt": "a\\ud800b", "model": "\\udfff"}'))
    (began,) = [one for one in told if isinstance(one, Started)]
    assert began.prompt == "a?b" and msgspec.msgpack.encode(began)


@pytest.mark.parametrize(
    ("ending", "how", "last", "failed"),
    [
        (b"", {"status": 401, "content_type": "application/json"}, {}, True),
        (b"", {}, {"broken": True, "ended": "it broke off"}, True),
        (b"", {}, {"ended": "the application hung up"}, False),
        (b"", {}, {}, True),  # it never said that the text is over
        (b"data: [DONE]", {}, {}, False),
        (event("b", finish_reason="stop"), {}, {}, False),
    ],
)
def test_what_the_server_refuses_or_breaks_off_has_failed(ending, how, last, failed):
    made, told = source()
    for part in parts("one", event("a") + b"\n\n" + ending, [], **how):
        made.handle(replace(part, **last) if part.ended else part)
    assert isinstance(told[-1], Ended) and told[-1].failed == failed


@pytest.mark.parametrize("kept", range(1, len(event("bc"))))
def test_an_event_that_is_cut_off_is_no_text_and_is_told(kept):
    made, told = source()
    for part in parts("one", event("a") + b"\n\n" + event("bc")[:kept], []):
        made.handle(part)
    assert texts(told, 1) == ["a"] and told[-1].failed
    assert "broke off in the midst" in told[-1].reason or "ended early" in told[-1].reason


def test_each_thing_that_it_cannot_do_has_a_reason():
    made, _ = source()
    assert "read-only" in inability("write", made.capabilities) and "read-only" in inability(
        "pause", made.capabilities
    )
