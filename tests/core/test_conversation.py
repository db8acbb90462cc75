"""Conversations in files: the forms that chat APIs take, and what is said of those that are not whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.core.conversation import read_conversation
from tui_entropy.core.errors import UserError

TURNS = (("system", "Be brief."), ("user", "Why?"), ("assistant", ""))
MESSAGES = [{"role": role, "content": content} for role, content in TURNS]


@pytest.mark.parametrize(
    "form",
    [
        MESSAGES,
        {"messages": MESSAGES, "model": "any"},
        [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in MESSAGES],
    ],
)
def test_messages_are_found_in_every_form(form):
    assert read_conversation(f"\n {json.dumps(form)}\n", "a.json") == TURNS


@pytest.mark.parametrize(
    "text", ["", "Hello", "[1] a note", "[1, 2]", "{}", '{"messages": "no"}', "[{}]", "{" * 99_999]
)
def test_other_text_is_text(text):
    assert read_conversation(text, "a.json") is None


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ([], "has no messages"),
        ([{"role": "user"}], "message 1 of a.json lacks a role or a content"),
        ([*MESSAGES, {"role": 3, "content": "x"}], "message 4 of a.json"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "holds image_url: only text can be read"),
    ],
)
def test_what_a_message_lacks_is_said(form, said):
    with pytest.raises(UserError, match=said):
        read_conversation(json.dumps(form), "a.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), inner),
)


@given(JSON | st.fixed_dictionaries({"messages": JSON}))
def test_whatever_json_it_is_there_are_turns_of_text_or_a_sentence(value):
    try:
        turns = read_conversation(json.dumps(value), "a.json")
    except UserError:
        return
    assert turns is None or all(isinstance(part, str) for turn in turns for part in turn)
