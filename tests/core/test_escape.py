"""What a person reads and what a file may be `cat`ed from holds nothing that a terminal obeys or hides."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.core.errors import UserError
from tui_entropy.core.escape import plain_json, visible

OBEYED = {"Cc", "Cf", "Zl", "Zp"}


@given(st.text(st.characters(codec="utf-8")))
def test_json_is_the_same_and_holds_no_control(text):
    encoded = json.dumps({text: [text]}, ensure_ascii=False).encode()
    safe = plain_json(encoded)
    assert json.loads(safe) == {text: [text]}
    assert {unicodedata.category(char) for char in safe.decode()} & OBEYED <= {"Cf"}
    assert not any(char in safe.decode() for char in "\x7f\x85\x9b\u061c\u200e\u202a\u202e\u2066\u2069\u2028\ufeff")


def test_json_without_such_characters_stays_as_it_is():
    encoded = json.dumps("häuser 🙂 ‹ › \\u001b", ensure_ascii=False).encode()
    assert plain_json(encoded) is encoded or plain_json(encoded) == encoded


@given(st.text(st.characters(codec=None)))
def test_a_long_text_is_shown_as_a_short_one_is(text):
    assert visible(text * 200) == visible(text) * 200


@given(st.text(st.characters(codec=None)))
def test_a_sentence_is_one_line_whatever_it_quotes(text):
    said = str(UserError(f"there is no {text}: give another"))
    assert said.isprintable()


def test_what_stands_below_a_sentence_keeps_its_lines():
    assert str(UserError("one of two\n", "a \x1b\nb")) == "one of two⏎\na ␛\nb"
