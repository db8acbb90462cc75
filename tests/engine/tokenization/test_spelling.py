"""What is shown of tokens is what their tokenizer's own decode gives, for every kind of tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers_of_all_kinds import IN_FILES, KINDS

from tui_entropy.engine.tokenization.spelling import REPLACED
from tui_entropy.engine.tokenization.tokenizer import Codec, TextStream, prompt_tokens

OPEN_ENDS = {
    "CTRL": lambda token: token.endswith("@@"),
    "Blenderbot": lambda token: token.endswith("@@"),
    "WordPiece, cleaned up as a whole": lambda token: token == "'",
    "ProphetNet": lambda token: token == "'",
    "replaced when fused": lambda token: token == "_",
}
"""Tokens whose text hangs on what comes after them, so that decode takes it back: a text that ends in one is not told
to its end yet."""


@pytest.fixture(scope="module", params=[*KINDS, *IN_FILES])
def kind(request, tmp_path_factory):
    name = request.param
    made = KINDS[name]() if name in KINDS else IN_FILES[name](tmp_path_factory.mktemp("vocabulary"))
    return name, Codec(made)


def drawn_ids(codec):
    """Ids of tokens as they may come. Bytes that a vocabulary falls back to come as whole characters: for others
    decode puts a mark each, and for those of whole characters beside them too."""
    spelling = codec.spelling
    if not spelling._byte_fallback:
        return st.lists(st.sampled_from(sorted(spelling.ids)), min_size=1, max_size=12)
    id_of = codec.tokenizer.convert_tokens_to_ids
    tokens = st.sampled_from([id for id in sorted(spelling.ids) if spelling._part(id) is None]).map(lambda id: [id])
    characters = st.sampled_from("a é€🤖").map(lambda char: [id_of(f"<0x{byte:02X}>") for byte in char.encode()])
    return st.lists(tokens | characters, min_size=1, max_size=12).map(
        lambda parts: [id for part in parts for id in part]
    )


def ends_open(name, codec, ids) -> bool:
    is_open = OPEN_ENDS.get(name)
    return is_open is not None and is_open(codec.tokenizer.convert_ids_to_tokens(ids[-1]))


@given(data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_what_tokens_add_one_by_one_is_what_decode_gives_of_them_all(kind, data):
    name, codec = kind
    ids = data.draw(drawn_ids(codec))
    if ends_open(name, codec, ids):
        ids.append(codec.spelling.ordinary)
    tokens, whole = prompt_tokens(codec, ids), codec.tokenizer.decode(ids)
    assert [piece.token_id for piece in tokens] == ids
    assert b"".join(piece.data for piece in tokens).decode("utf-8", "replace") == whole
    if REPLACED not in whole:
        assert "".join(piece.text for piece in tokens) == whole
        at = data.draw(st.integers(1, len(ids)))
        assert whole.encode().endswith(TextStream(codec, ids[:at]).spell(ids[at:]))


def test_bytes_that_are_no_character_change_nothing_around_them():
    codec = Codec(KINDS["SentencePiece, space in front, bytes"]())
    ids = codec.tokenizer.convert_tokens_to_ids(["▁the", "<0xE2>", "▁cat", "<0xFF>", "<0xC3>", "<0xA9>", "s"])
    assert [piece.text for piece in prompt_tokens(codec, ids)] == ["the", "", "� cat", "�", "", "é", "s"]


@given(text=st.text("thecas é€.,'", min_size=1, max_size=20))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_prompt_is_shown_as_decode_gives_it(kind, text):
    name, codec = kind
    ids = codec._ids(text)
    if ids and not ends_open(name, codec, ids):
        assert "".join(piece.text for piece in prompt_tokens(codec, ids)) == codec.tokenizer.decode(ids)


def test_what_a_person_types_goes_on_where_a_text_stands(kind):
    """The first space is what parts it from the word before, in a vocabulary that has words only."""
    name, codec = kind
    if name in ("ESM", "replaced when fused"):  # have no spaces in their texts
        return
    ids = codec.encode_continuation(" the cat")
    assert TextStream(codec, [codec.spelling.ordinary]).spell(ids) == b" the cat"


def test_all_tokens_at_once_are_the_tokens_one_by_one(kind):
    _, codec = kind
    every = codec.spelling.everywhere()
    again = Codec(codec.tokenizer).spelling
    assert every == {id: again.anywhere(id) for id in again.ids} and len(every) >= 16


def test_ids_that_the_tokenizer_does_not_have_are_no_text_and_part_nothing(kind):
    _, codec = kind
    ids = codec._ids("the cat")
    beyond = max(codec.spelling.ids) + 1
    with_it = [ids[0], beyond, *ids[1:]]
    assert not codec.spelling.knows(beyond) and not codec.spelling.knows(-1)
    assert "".join(piece.text for piece in prompt_tokens(codec, with_it)) == codec.tokenizer.decode(ids)
    assert codec.token_bytes(beyond) == b"" and TextStream(codec, ids).adds(beyond) == b""


def test_ids_in_a_vocabulary_with_holes_are_read_wherever_they_are():
    codec = Codec(KINDS["byte-level with holes"]())
    last = max(codec.spelling.ids)
    assert last > len(codec.tokenizer) and codec.token_bytes(codec._ids(" the")[0]) == b" the"
    unused = next(id for id in range(last) if id not in codec.spelling.ids)
    assert codec.token_bytes(unused) == b""
    assert last - 3 in codec.containing(tuple("the"))
