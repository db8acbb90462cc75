"""What is shown of tokens is what their tokenizer's own decode gives, for every kind of tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers_of_all_kinds import IN_FILES, KINDS

from tui_entropy.engine.tokenization.token_decoder import REPLACED
from tui_entropy.engine.tokenization.tokenizer import DecodeStream, Tokenizer, prompt_tokens

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
    return name, Tokenizer(made)


def drawn_ids(tokenizer):
    """Ids of tokens as they may come. Bytes that a vocabulary falls back to come as whole characters: for others
    decode puts a mark each, and for those of whole characters beside them too."""
    decoder = tokenizer.decoder
    if not decoder._byte_fallback:
        return st.lists(st.sampled_from(sorted(decoder.token_ids)), min_size=1, max_size=12)
    id_of = tokenizer.hf_tokenizer.convert_tokens_to_ids
    tokens = st.sampled_from([id for id in sorted(decoder.token_ids) if decoder._raw_bytes(id) is None]).map(
        lambda id: [id]
    )
    characters = st.sampled_from("a é€🤖").map(lambda char: [id_of(f"<0x{byte:02X}>") for byte in char.encode()])
    return st.lists(tokens | characters, min_size=1, max_size=12).map(
        lambda parts: [id for part in parts for id in part]
    )


def ends_open(name, tokenizer, ids) -> bool:
    is_open = OPEN_ENDS.get(name)
    return is_open is not None and is_open(tokenizer.hf_tokenizer.convert_ids_to_tokens(ids[-1]))


@given(data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_what_tokens_add_one_by_one_is_what_decode_gives_of_them_all(kind, data):
    name, tokenizer = kind
    ids = data.draw(drawn_ids(tokenizer))
    if ends_open(name, tokenizer, ids):
        ids.append(tokenizer.decoder.plain_token_id)
    tokens, whole = prompt_tokens(tokenizer, ids), tokenizer.hf_tokenizer.decode(ids)
    assert [token.token_id for token in tokens] == ids
    assert b"".join(token.token_bytes for token in tokens).decode("utf-8", "replace") == whole
    if REPLACED not in whole:
        assert "".join(token.text for token in tokens) == whole
        at = data.draw(st.integers(1, len(ids)))
        assert whole.encode().endswith(DecodeStream(tokenizer, ids[:at]).decode_bytes(ids[at:]))


def test_bytes_that_are_no_character_change_nothing_around_them():
    tokenizer = Tokenizer(KINDS["SentencePiece, space in front, bytes"]())
    ids = tokenizer.hf_tokenizer.convert_tokens_to_ids(["▁the", "<0xE2>", "▁cat", "<0xFF>", "<0xC3>", "<0xA9>", "s"])
    assert [token.text for token in prompt_tokens(tokenizer, ids)] == ["the", "", "� cat", "�", "", "é", "s"]


@given(text=st.text("thecas é€.,'", min_size=1, max_size=20))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_prompt_is_shown_as_decode_gives_it(kind, text):
    name, tokenizer = kind
    ids = tokenizer._encode_text(text)
    if ids and not ends_open(name, tokenizer, ids):
        assert "".join(token.text for token in prompt_tokens(tokenizer, ids)) == tokenizer.hf_tokenizer.decode(ids)


def test_what_a_person_types_goes_on_where_a_text_stands(kind):
    """The first space is what parts it from the word before, in a vocabulary that has words only."""
    name, tokenizer = kind
    if name in ("ESM", "replaced when fused"):  # have no spaces in their texts
        return
    ids = tokenizer.encode_continuation(" the cat")
    assert DecodeStream(tokenizer, [tokenizer.decoder.plain_token_id]).decode_bytes(ids) == b" the cat"


def test_all_tokens_at_once_are_the_tokens_one_by_one(kind):
    _, tokenizer = kind
    every = tokenizer.decoder.all_token_bytes()
    again = Tokenizer(tokenizer.hf_tokenizer).decoder
    assert every == {id: again.token_bytes(id) for id in again.token_ids} and len(every) >= 16


def test_ids_that_the_tokenizer_does_not_have_are_no_text_and_part_nothing(kind):
    _, tokenizer = kind
    ids = tokenizer._encode_text("the cat")
    beyond = max(tokenizer.decoder.token_ids) + 1
    with_it = [ids[0], beyond, *ids[1:]]
    assert not tokenizer.decoder.has_token(beyond) and not tokenizer.decoder.has_token(-1)
    assert "".join(token.text for token in prompt_tokens(tokenizer, with_it)) == tokenizer.hf_tokenizer.decode(ids)
    assert tokenizer.token_bytes(beyond) == b"" and DecodeStream(tokenizer, ids).token_bytes(beyond) == b""


def test_ids_in_a_vocabulary_with_holes_are_read_wherever_they_are():
    tokenizer = Tokenizer(KINDS["byte-level with holes"]())
    last = max(tokenizer.decoder.token_ids)
    assert last > len(tokenizer.hf_tokenizer) and tokenizer.token_bytes(tokenizer._encode_text(" the")[0]) == b" the"
    unused = next(id for id in range(last) if id not in tokenizer.decoder.token_ids)
    assert tokenizer.token_bytes(unused) == b""
    assert last - 3 in tokenizer.tokens_containing(tuple("the"))
