"""A chat template is a program from elsewhere: whatever it does, a person gets the text or a sentence."""

import os
import signal

import psutil
import pytest
from chat_templates import CHATML, NO_SYSTEM, byte_level
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_entropy.core.errors import UserError
from tui_entropy.engine.tokenization.bounded import Unfinished, run_bounded
from tui_entropy.engine.tokenization.chat_templates import ChatTemplate
from tui_entropy.engine.tokenization.tokenizer import Tokenizer

SEVERAL = {"tool_use": "{{ messages }}", "rag": "rag {{ messages[0]['content'] }}"}


def template(source, name: str | None = None) -> ChatTemplate:
    return ChatTemplate(byte_level(source).hf_tokenizer, name)


def refusal(source, system: str | None = None) -> str:
    with pytest.raises(UserError) as refused:
        template(source).rendered("hi", system)
    assert str(refused.value).isprintable()
    return str(refused.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for %}", "refuses this prompt (Expected an expression"),
        ("{{ messages[7].content }}", "refuses this prompt"),
        ("{{ raise_exception('\x1b]0;no\x07') }}", "refuses this prompt (␛]0;no␇); use raw"),
        ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "refuses this prompt (maximum recursion"),
        ("{{ 'x' * 10 ** 11 }}", "it takes too much memory"),
        ("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}x", "came to no end in "),
        ("{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}", "it makes 90000000 characters of it"),
    ],
    ids=["syntax", "index", "refusing", "recursive", "memory", "endless", "long"],
)
def test_what_a_template_cannot_do_is_a_sentence_in_bounded_time_and_never_in_the_way_of_raw(source, said):
    tokenizer = byte_level(source)
    assert len(tokenizer.encode("hi", None, chat=False)) == 2
    assert tokenizer.eos_ids == {tokenizer.hf_tokenizer.eos_token_id}
    assert said in refusal(source)


def test_a_template_that_counts_tools_has_none_to_count():
    assert (
        template("{% if tools|length > 0 %}T{% endif %}{{ messages[-1]['content'] }}").rendered("hi", None).text
        == "hi"
    )


def test_a_system_prompt_that_is_refused_can_be_left_out_and_a_broken_template_not():
    assert refusal(NO_SYSTEM, "be kind").endswith("(System role not supported); leave out --system")
    assert refusal("{% for %}", "be kind").endswith("use raw completion (--raw)")


@pytest.mark.parametrize(
    ("source", "left_out"),
    [
        (CHATML, ()),
        ("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}", ("the system prompt",)),
        ("{{ messages[0].content }}", ("the prompt",)),
        ("x", ("the prompt", "the system prompt")),
    ],
)
def test_what_a_template_leaves_out_is_told(source, left_out):
    assert template(source).rendered("hi", "be kind").left_out == left_out
    assert "the system prompt" not in template(source).rendered("hi", None).left_out


def test_of_several_templates_one_is_named_or_asked_for():
    assert "name one of rag, tool_use by --chat-template" in refusal(SEVERAL)
    assert template(SEVERAL, "rag").rendered("hi", None).text == "rag hi"
    assert template(SEVERAL | {"default": "d"}).rendered("hi", None).text == "d"
    assert template({"only": "o"}).rendered("hi", None).text == "o"
    with pytest.raises(UserError, match=r"no chat template called odd: it has rag, tool_use"):
        template(SEVERAL, "odd")
    tokenizer = Tokenizer(byte_level(SEVERAL).hf_tokenizer)
    assert tokenizer.has_chat_template and len(tokenizer.encode("hi", None, chat=False)) == 2


@pytest.mark.parametrize("source", [None, "", 5, [], {}, {"a": 5}])
def test_what_is_no_template_is_none(source):
    tokenizer = byte_level().hf_tokenizer
    tokenizer.chat_template = source
    assert not ChatTemplate(tokenizer)
    assert ChatTemplate(tokenizer).behind_an_answer == ""


PARTS = (
    "{{ messages", "{% for m in messages %}", "{% endfor %}", "{{ m.content }}", "}}", "{%", "%}", "{#", "|length",
    "[0]", ".role", " + ", "1 / 0", "{{ 9 ** 9 ** 9 }}", "{{ tools }}", "{{ x.__class__ }}", "{{", " if ",
    "{{ none.a }}", "{% set x = 'y' * 999999 %}", "{{ x * 9999 }}", "\x1b", "{% generation %}",
    "{{ ''.join(messages) }}",
)  # fmt: skip
JINJA = st.lists(st.sampled_from(PARTS) | st.text(max_size=5), max_size=8).map("".join)


def holds(source: str) -> None:
    try:
        rendered = template(source).rendered("hi", "be kind")
    except UserError as refused:
        assert str(refused).isprintable()
    else:
        assert isinstance(rendered.text, str)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(JINJA)
def test_any_template_gives_a_text_or_a_sentence(source):
    holds(source)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(JINJA)
def test_any_of_many_templates_gives_a_text_or_a_sentence(source):
    holds(source)


def test_work_that_ends_its_process_is_told_and_leaves_nothing():
    before = psutil.Process().children()
    with pytest.raises(Unfinished, match="ended its process"):
        run_bounded(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(Unfinished, match="ended its process"):
        run_bounded(lambda: 1 / 0)
    assert run_bounded(lambda: {"a": [1, None]}) == {"a": [1, None]}
    assert psutil.Process().children() == before
