"""What clients are told of a text is what the program itself says of it, whole and in chunks."""

import json
import math

import pytest
from endpoints import WORDS
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.openai_api.stop_text import StopText

DRAWN = {"temperature": 1.3, "seed": 11, "max_tokens": 12}
KNOBS = [
    {"temperature": 0},
    {"temperature": 1.2, "top_p": 0.9, "top_k": 50, "min_p": 0.01, "frequency_penalty": 0.5},
    {"temperature": 1.5, "top_k": -1, "presence_penalty": 1.5, "repetition_penalty": 1.3, "typical_p": 0.95},
]
ENDS = {256, 258}
CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]}
ASKED = {"completions": {"prompt": WORDS}, "chat/completions": CHAT}
IN_PROGRAM = {"completions": ["--raw", "-p", WORDS], "chat/completions": ["--system", "Be brief.", "-p", "Why?"]}


def by_the_program(commands, model, route, **knobs):
    """(prompt ids, steps) of the JSON lines of `run`."""
    options = [
        word
        for name, value in knobs.items()
        for word in (f"--{name.replace('_', '-')}", str(0 if value == -1 else value))
    ]
    where = ["--headless", "--jsonl", "--no-trace", "--model", str(model)]
    done = commands.run("run", *where, *IN_PROGRAM[route], *options)
    assert done.code == 0, done.said
    lines = [json.loads(line) for line in done.out.splitlines()]
    return lines[0]["header"]["prompt_ids"], [line for line in lines if "token_id" in line]


def final(probability):
    return math.log(probability) if probability else -9999.0


@pytest.mark.parametrize("route", ASKED)
@pytest.mark.parametrize("knobs", KNOBS, ids=["greedy", "truncated", "penalised"])
def test_ids_text_and_log_probabilities_of_both_distributions_are_those_of_the_program(
    served, commands, route, knobs
):
    chat = route != "completions"
    wished = {"logprobs": True, "top_logprobs": 5} if chat else {"logprobs": 5}
    knobs = {**DRAWN, **knobs}
    answer = served.whole(route, **ASKED[route], **knobs, **wished, return_token_ids=True)
    prompt_ids, steps = by_the_program(commands, served.model, route, **knobs)
    (choice,) = answer["choices"]
    assert choice["token_ids"] == [step["token_id"] for step in steps]
    assert (answer if chat else choice)["prompt_token_ids"] == prompt_ids
    n = len(prompt_ids), len(steps)
    assert answer["usage"] == dict(
        zip(("prompt_tokens", "completion_tokens", "total_tokens"), (*n, sum(n)), strict=True)
    )
    text = choice["message"]["content"] if chat else choice["text"]
    assert text == "".join(step["text"] for step in steps if step["token_id"] not in ENDS)
    ended = steps[-1]["token_id"] in ENDS
    assert choice["finish_reason"] == ("stop" if ended else "length") and answer["seed"] == knobs["seed"]
    model = [-step["surprisal_nats"] for step in steps]
    finals = [final(step["final_prob"]) for step in steps]
    others = [[(each["logprob"], final(each["final_prob"])) for each in step["candidates"][:5]] for step in steps]
    if chat:
        entries = choice["logprobs"]["content"]
        assert [each["logprob"] for each in entries] == model
        assert [each["final_logprob"] for each in entries] == finals
        assert [
            [(one["logprob"], one["final_logprob"]) for one in each["top_logprobs"]] for each in entries
        ] == others
        spelled = [[bytes(one["bytes"]).hex() for one in each["top_logprobs"]] for each in entries]
        assert spelled == [[each["bytes"] for each in step["candidates"][:5]] for step in steps]
    else:
        told = choice["logprobs"]
        assert (told["token_logprobs"], told["final_token_logprobs"]) == (model, finals)
        pairs = zip(told["top_logprobs"], told["final_top_logprobs"], strict=True)
        assert [[*zip(top.values(), last.values(), strict=True)][:5] for top, last in pairs] == others


@pytest.mark.parametrize("route", ASKED)
def test_chunks_say_what_the_whole_answer_says(served, route):
    chat = route != "completions"
    wished = {"logprobs": True, "top_logprobs": 2} if chat else {"logprobs": 2}
    asked = {**ASKED[route], **DRAWN, **wished, "return_token_ids": True}
    whole = served.whole(route, **asked)
    chunks = list(served.chunks(route, **asked, stream_options={"include_usage": True}))
    *told, usage = chunks
    choices = [chunk["choices"][0] for chunk in told]
    said = [choice["delta"].get("content", "") if chat else choice["text"] for choice in choices]
    (choice,) = whole["choices"]
    assert "".join(said) == (choice["message"]["content"] if chat else choice["text"])
    assert usage["choices"] == [] and usage["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in told)
    assert [each["finish_reason"] for each in choices] == [None] * (len(told) - 1) + [choice["finish_reason"]]
    assert [one for each in choices for one in each.get("token_ids", [])] == choice["token_ids"]
    numbers = [each["logprobs"] for each in choices if each["logprobs"]]
    for name in ("content",) if chat else ("tokens", "token_logprobs", "text_offset", "final_top_logprobs"):
        assert [one for each in numbers for one in each[name]] == choice["logprobs"][name]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk" if chat else "text_completion"}
    assert len({(chunk["id"], chunk["run"], chunk["model"]) for chunk in chunks}) == 1
    if chat:
        assert choices[0]["delta"] == {"role": "assistant", "content": ""} and choices[-1]["delta"] == {}


@pytest.mark.parametrize(
    "prompt", [list(WORDS.encode()), [WORDS], [list(WORDS.encode())]], ids=["ids", "texts", "rows"]
)
def test_a_prompt_of_ids_or_in_a_list_of_one_is_that_prompt(served, prompt):
    ids = served.whole("completions", prompt=WORDS, max_tokens=1, return_token_ids=True)["choices"][0]
    given = [ids["prompt_token_ids"]] if prompt and isinstance(prompt[0], list) else prompt
    given = ids["prompt_token_ids"] if prompt and isinstance(prompt[0], int) else given
    answers = [served.whole("completions", prompt=each, **DRAWN)["choices"] for each in (WORDS, given)]
    assert answers[0] == answers[1]


def test_the_text_ends_before_a_stop_string_wherever_the_borders_of_its_tokens_are(served):
    asked = {"prompt": WORDS, "temperature": 1, "top_k": 0, "seed": 3, "max_tokens": 40, "logit_bias": {"256": -100}}
    only_letters = {str(each): -100 for each in range(256) if not 33 <= each < 94}  # one character a token
    asked["logit_bias"] |= only_letters | {"257": -100, "258": -100, "259": -100}
    free = served.whole("completions", **asked)["choices"][0]["text"]
    assert len(free) == 40 and "\ufffd" not in free
    stop = free[20:23]
    expected = free[: free.index(stop)]
    (choice,) = served.whole("completions", **asked, stop=["never", stop], return_token_ids=True)["choices"]
    assert choice["text"] == expected and (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    assert len(choice["token_ids"]) == len(expected) + 3  # and not one token more was written
    chunks = list(served.chunks("completions", **asked, stop=stop))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == expected
    unmet = free[-2:] + "~"  # begins at the end, and is given out then
    assert served.whole("completions", **asked, stop=unmet)["choices"][0]["text"] == free


def test_a_character_of_several_tokens_comes_whole(served):
    two = {"Ã", "©"}  # as the tokenizer spells the bytes of é
    vocabulary = json.loads((served.model / "tokenizer.json").read_text())["model"]["vocab"]
    allowed = {vocabulary[letter] for letter in two}
    bias = {str(each): -100 for each in range(260) if each not in allowed}
    asked = {
        "prompt": WORDS,
        "temperature": 3,
        "top_k": 0,
        "top_p": 1,
        "seed": 4,
        "max_tokens": 60,
        "logit_bias": bias,
    }
    chunks = list(
        served.chunks("chat/completions", **CHAT, **{k: v for k, v in asked.items() if k != "prompt"}, logprobs=True)
    )
    entries = [one for c in chunks if (told := c["choices"][0]["logprobs"]) for one in told["content"]]
    deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    written = b"".join(bytes(entry["bytes"]) for entry in entries)
    assert len(entries) == 60 and "".join(deltas).count("é") == written.count("é".encode()) > 3
    assert "".join(deltas) == written.removesuffix(b"\xc3").decode("utf-8", "replace")
    assert {entry["token"] for entry in entries} == {"bytes:\\xc3", "bytes:\\xa9"}


def test_the_end_of_a_text_is_a_token_and_no_part_of_the_answer(served):
    bias = {str(each): -100 for each in range(260) if each not in (256, 97, 98)}
    asked = {**CHAT, "temperature": 3, "top_k": 0, "logit_bias": bias, "max_tokens": 200}
    answers = [
        served.whole("chat/completions", **asked, seed=n, return_token_ids=True)["choices"][0] for n in range(8)
    ]
    ended = [each for each in answers if each["token_ids"][-1] == 256]
    assert ended and {each["finish_reason"] for each in ended} == {"stop"}
    assert not any("<|" in each["message"]["content"] for each in answers)


def test_without_a_seed_each_answer_is_another_one_and_says_by_which(served):
    asked = {"prompt": WORDS, "temperature": 1.5, "top_k": 0, "max_tokens": 20}
    one, other = (served.whole("completions", **asked) for _ in range(2))
    assert one["choices"][0]["text"] != other["choices"][0]["text"] and one["seed"] != other["seed"]
    assert served.whole("completions", **asked, seed=one["seed"])["choices"] == one["choices"]


@given(parts=st.lists(st.text("ab.", max_size=4)), stops=st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3))
def test_a_text_in_parts_is_given_out_up_to_its_first_stop_string_and_never_beyond(parts, stops):
    text, held = "".join(parts), StopText(tuple(stops))
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    expected, said = text[: min(ends, default=len(text))], ""
    for part in parts:
        said += held.push(part)
        assert expected.startswith(said)
    assert said + held.finish() == expected and (held.stopped_by is not None) == bool(ends)
