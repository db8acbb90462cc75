"""Tokens are bytes: byte-level BPE, SentencePiece with byte fallback, special tokens; and text out of them."""

from pathlib import Path

import pytest
import small
import tiny
import tokenizers
from chat_templates import CHATML, NO_SYSTEM, byte_level
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from tui_entropy.core.errors import UserError
from tui_entropy.engine.sources.resolve import weights_of
from tui_entropy.engine.tokenization.tokenizer import Tokenizer, Utf8Stream, prompt_tokens
from tui_entropy.records.model import ModelSpec


def sentencepiece() -> Tokenizer:
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    vocab |= {token: 259 + nth for nth, token in enumerate(["▁", "a", "b", "▁a", "é"])}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return Tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    )


def spelled(tokenizer: Tokenizer, text: str) -> list[bytes]:
    return [tokenizer.token_bytes(id) for id in tokenizer.encode(text, None, False)]


def test_a_text_in_the_midst_of_another_has_no_space_that_it_was_not_given() -> None:
    tokenizer = sentencepiece()
    tokenizer.hf_tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    assert spelled(tokenizer, "ab") == [b" a", b"b"]
    for text, tokens in (("ab", [b"a", b"b"]), (" ab", [b" a", b"b"]), ("</s>", [b"</s>"]), ("", [])):
        assert [tokenizer.token_bytes(id) for id in tokenizer.encode_continuation(text)] == tokens
    assert byte_level().encode_continuation("<|im_end|>") == [258] and byte_level().encode_continuation("") == []


@given(st.text(min_size=1).filter(lambda text: "<|" not in text))
def test_byte_level_tokens_add_up_to_the_text(text: str) -> None:
    assert b"".join(spelled(byte_level_tokenizer, text)) == text.encode()


@given(st.text(min_size=1).filter(lambda text: "<" not in text and "▁" not in text))
def test_sentencepiece_tokens_add_up_to_the_text(text: str) -> None:
    assert b"".join(spelled(sentencepiece_tokenizer, text)) == text.encode()


byte_level_tokenizer, sentencepiece_tokenizer = byte_level(CHATML), sentencepiece()


def test_a_sentencepiece_space_is_a_space_and_a_fallback_byte_is_that_byte() -> None:
    assert spelled(sentencepiece_tokenizer, " a€") == [b" a", b"\xe2", b"\x82", b"\xac"]


def test_added_tokens_are_their_text_even_if_it_looks_like_byte_level_spelling() -> None:
    assert spelled(byte_level_tokenizer, "<|im_end|>Ġé \n") == [b"<|im_end|>", "Ġé \n".encode()]


def test_ids_past_the_vocabulary_have_no_bytes() -> None:
    assert byte_level_tokenizer.token_bytes(100_000) == b""


def test_chat_goes_through_the_template_and_opens_the_answer() -> None:
    ids = byte_level_tokenizer.encode("hi", "be kind", chat=True)
    text = b"".join(map(byte_level_tokenizer.token_bytes, ids)).decode()
    assert text == "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert ids.count(byte_level_tokenizer.hf_tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2


def test_chat_without_a_template_is_refused() -> None:
    with pytest.raises(UserError, match=r"no chat template.*--raw"):
        byte_level().encode("hi", None, chat=True)


def test_a_template_that_takes_no_system_prompt_says_so() -> None:
    tokenizer = byte_level(NO_SYSTEM)
    assert tokenizer.encode("hi", None, chat=True)
    with pytest.raises(UserError, match=r"System role not supported.*--system"):
        tokenizer.encode("hi", "be kind", chat=True)


def framed(template: str) -> Tokenizer:
    """A tokenizer that puts special tokens around a text."""
    tokenizer = sentencepiece()
    backend = tokenizer.hf_tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(template, None, [("<s>", 1), ("</s>", 2)])
    return tokenizer


def test_an_empty_prompt_begins_with_the_begin_token_or_is_refused() -> None:
    for template in ("<s> $A", "<s> $A </s>", "$A </s>", "$A"):
        assert framed(template).encode("", None, chat=False) == [1]
    assert framed("</s> <s> $A </s>").encode("", None, chat=False) == [2, 1]
    with pytest.raises(UserError, match="prompt is empty"):
        byte_level_tokenizer.encode("", None, chat=False)


@pytest.mark.parametrize("template", ["<s> $A </s>", "$A </s>", "$A <s> </s>"])
def test_what_a_tokenizer_puts_behind_a_text_would_end_it_and_is_left_out(template: str) -> None:
    tokenizer, plain = framed(template), sentencepiece_tokenizer.encode(" ab", None, chat=False)
    assert tokenizer.encode(" ab", None, chat=False) == [1] * template.startswith("<s>") + plain
    assert tokenizer.hf_tokenizer(" ab")["input_ids"][-1] == 2


def test_an_end_that_a_person_typed_stays() -> None:
    assert framed("<s> $A </s>").encode("a</s>", None, chat=False)[-1] == 2
    assert framed("<s> $A </s>").encode("<s>", None, chat=False) == [1, 1]


def test_a_token_that_the_model_has_no_embedding_for_is_refused_by_name() -> None:
    tokenizer = Tokenizer(byte_level(CHATML).hf_tokenizer, n_embeddings=257)
    assert tokenizer.encode("hi<|endoftext|>", None, chat=False)[-1] == 256
    for ask in (
        lambda: tokenizer.encode("hi<|im_end|>", None, chat=False),
        lambda: tokenizer.encode("hi", None, chat=True),
        lambda: tokenizer.encode_continuation("<|im_end|>"),
    ):
        with pytest.raises(UserError, match=r"<\|im_(start|end)\|>.*token 25[78] .* up to 256 only"):
            ask()
    assert tokenizer.encode_single_token("<|im_end|>") is None


def test_a_text_ends_with_any_of_the_models_ends_and_with_the_end_of_a_turn() -> None:
    id_of = byte_level_tokenizer.hf_tokenizer.convert_tokens_to_ids
    assert byte_level_tokenizer.eos_ids == {id_of("<|endoftext|>"), id_of("<|im_end|>")}
    assert byte_level(NO_SYSTEM).eos_ids == byte_level_tokenizer.eos_ids
    assert Tokenizer(sentencepiece_tokenizer.hf_tokenizer, [7, 9]).eos_ids == {2, 7, 9}


@given(st.text(), st.data())
def test_a_stream_gives_the_text_however_its_bytes_are_cut(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    stream = Utf8Stream()
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert "".join(stream.push(part) for part in parts) == text


def test_a_character_comes_with_its_last_byte_and_a_wrong_byte_is_shown_at_once() -> None:
    stream = Utf8Stream()
    assert [stream.push(bytes([byte])) for byte in "é€".encode()] == ["", "é", "", "", "€"]
    assert stream.push(b"\xe2\x82") == ""
    assert stream.push(b"a\xff") == "�a�"


def test_what_is_left_open_is_told_at_the_end() -> None:
    stream = Utf8Stream()
    assert stream.push(b"a\xe2\x82") == "a"
    assert stream.close() == "�"


def test_the_tokens_of_a_prompt_carry_bytes_and_the_text_they_complete() -> None:
    ids = byte_level_tokenizer.encode("aé", None, chat=False)
    assert [(p.token_id, p.token_bytes, p.text) for p in prompt_tokens(byte_level_tokenizer, ids)] == [
        (ids[0], b"a", "a"),
        (ids[1], b"\xc3", ""),
        (ids[2], b"\xa9", "é"),
    ]


def test_a_saved_tokenizer_reads_the_same(tmp_path: Path) -> None:
    hf_tokenizer = small.tokenizer(tiny.VOCAB)
    hf_tokenizer.save_pretrained(tmp_path)
    again = Tokenizer(PreTrainedTokenizerFast.from_pretrained(tmp_path))
    assert [again.token_bytes(id) for id in range(tiny.VOCAB)] == [
        Tokenizer(hf_tokenizer).token_bytes(id) for id in range(tiny.VOCAB)
    ]


@pytest.fixture(scope="module")
def smollm2() -> Tokenizer:
    from transformers import AutoTokenizer

    weights = weights_of(ModelSpec("smollm2"), lambda progress: None, lambda n_bytes: None)
    return Tokenizer(AutoTokenizer.from_pretrained(weights.folder))


@pytest.mark.real
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("\n\n1.", [b"\n\n", b"1", b"."]),
        ("=  12", [b"=", b"  ", b"1", b"2"]),
        ("[1,\n    2]", [b"[", b"1", b",", b"\n    ", b"2", b"]"]),
        ("x = [\t\t7]", [b"x", b" =", b" [", b"\t\t", b"7", b"]"]),
    ],
)
def test_white_space_before_a_digit_stays_one_token_in_the_default_model(
    smollm2: Tokenizer, text: str, tokens: list[bytes]
) -> None:
    """Split any other way, numbered lists and code look up to a fifth more surprising to the model than they are."""
    assert spelled(smollm2, text) == tokens


@pytest.mark.real
def test_the_default_model_spells_any_text_back(smollm2: Tokenizer) -> None:
    for text in ["  two\tspaces\r\n", "naïve café, 東京, 🤖🏽", "\x00\x1b[31m‮", "3.14159 and 1_000_000"]:
        assert b"".join(spelled(smollm2, text)) == text.encode()
    assert smollm2.eos_ids == {2}
