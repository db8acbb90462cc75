"""Small tokenizers of every kind that models come with: how they cut a text and how they put it together again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    BlenderbotSmallTokenizer,
    ByT5Tokenizer,
    CTRLTokenizer,
    EsmTokenizer,
    GPTNeoXJapaneseTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    ProphetNetTokenizer,
)

WORDS = ["t", "h", "e", "c", "a", "s", "th", "the", "ca", "cat", "é", "€", ".", ",", "'", "n't"]
MERGES = [("t", "h"), ("th", "e"), ("c", "a"), ("ca", "t")]


def numbered(*tokens: str) -> dict[str, int]:
    return {token: nth for nth, token in enumerate(tokens)}


def fast(inner: Tokenizer, plain: str = " plain ") -> PreTrainedTokenizerFast:
    """With a special token and one that is text, which both were added later."""
    inner.add_special_tokens(["<|end|>"])
    inner.add_tokens([AddedToken(plain, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>")


def byte_level(ids: Callable[[int], int] = lambda nth: nth) -> PreTrainedTokenizerFast:
    """As GPT-2 and whatever was made by tiktoken."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġt", "he", "Ġthe"]
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he")]
    inner = Tokenizer(models.BPE({token: ids(nth) for nth, token in enumerate(tokens)}, merges, ignore_merges=True))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return fast(inner)


def with_holes() -> PreTrainedTokenizerFast:
    return byte_level(lambda nth: nth if nth < 100 else 3 * nth)


def sentencepiece(*before: normalizers.Normalizer, strip: bool, fallback: bool) -> PreTrainedTokenizerFast:
    spaced = [f"▁{word}" for word in WORDS]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
    vocabulary = numbered("<unk>", *bytes_, "▁", *WORDS, *spaced)
    merges = [*MERGES, *(("▁", word) for word in WORDS)]
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=fallback))
    inner.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])
    steps: list[Any] = [decoders.Replace("▁", " ")]
    steps += [decoders.ByteFallback()] * fallback + [decoders.Fuse()] + [decoders.Strip(" ", 1, 0)] * strip
    inner.decoder = decoders.Sequence(steps)
    return fast(inner)


def metaspace(scheme: str) -> PreTrainedTokenizerFast:
    vocabulary = [(token, -float(nth)) for nth, token in enumerate(["<unk>", "▁", *WORDS, *(f"▁{w}" for w in WORDS)])]
    inner = Tokenizer(models.Unigram(vocabulary, 0))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    inner.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return fast(inner)


def end_of_word() -> PreTrainedTokenizerFast:
    vocabulary = numbered("<unk>", *WORDS, *(f"{word}</w>" for word in WORDS))
    merges = [("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>")]
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.BertPreTokenizer(), decoders.BPEDecoder("</w>")
    return fast(inner)


def wordpiece(cleanup: bool, plain: str = " plain ") -> PreTrainedTokenizerFast:
    vocabulary = numbered("[UNK]", *WORDS, *(f"##{word}" for word in WORDS))
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(cleanup=cleanup)
    return fast(inner, plain)


def cleaned_up() -> PreTrainedTokenizerFast:
    """What transformers takes out of the text as a whole."""
    tokenizer = wordpiece(cleanup=False, plain="plain")
    tokenizer.clean_up_tokenization_spaces = True
    return tokenizer


def word_level() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel(numbered("<unk>", *WORDS), unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return fast(inner)


def replaced_when_fused() -> PreTrainedTokenizerFast:
    """Pairs of tokens read otherwise than each by itself."""
    inner = Tokenizer(models.BPE(numbered("<unk>", *WORDS, "_"), [], unk_token="<unk>"))
    inner.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(Regex("_+"), " ")])
    return fast(inner)


def ctrl(folder: Path) -> PreTrainedTokenizerBase:
    (folder / "vocab.json").write_text(json.dumps(numbered("<unk>", *WORDS, *(f"{word}@@" for word in WORDS))))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\nc a\nca t</w>\n")
    return CTRLTokenizer(folder / "vocab.json", folder / "merges.txt")


def esm(folder: Path) -> PreTrainedTokenizerBase:
    (folder / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *WORDS, "<mask>"]))
    return EsmTokenizer(folder / "vocab.txt")


def blenderbot(folder: Path) -> PreTrainedTokenizerBase:
    words = ["__unk__", "__start__", "__end__", "__null__", *WORDS, *(f"{word}@@" for word in WORDS)]
    (folder / "vocab.json").write_text(json.dumps(numbered(*words)))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\nc a\nca t</w>\n")
    return BlenderbotSmallTokenizer(folder / "vocab.json", folder / "merges.txt")


def prophetnet(folder: Path) -> PreTrainedTokenizerBase:
    """WordPiece without the tokenizers library."""
    words = ["[PAD]", "[UNK]", "[SEP]", "[X_SEP]", "[CLS]", "[MASK]", *WORDS, *(f"##{word}" for word in WORDS)]
    (folder / "prophetnet.tokenizer").write_text("\n".join(words))
    return ProphetNetTokenizer(folder / "prophetnet.tokenizer")


def neox_japanese(folder: Path) -> PreTrainedTokenizerBase:
    """Bytes beside characters, a token each."""
    words = [*WORDS, "<SP>", "<BR>", *(f"<|byte{byte}|>" for byte in range(256)), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.txt").write_text("\n".join(word for word in words if word != ","))
    (folder / "emoji.json").write_text(json.dumps({"emoji": {}, "emoji_inv": {}}))
    return GPTNeoXJapaneseTokenizer(folder / "vocab.txt", folder / "emoji.json")


PREPEND = normalizers.Prepend("▁")
KINDS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "byte-level": byte_level,
    "byte-level with holes": with_holes,
    "SentencePiece, space in front, bytes": lambda: sentencepiece(PREPEND, strip=True, fallback=True),
    "SentencePiece, no space in front, bytes": lambda: sentencepiece(strip=False, fallback=True),
    "SentencePiece, space in front": lambda: sentencepiece(PREPEND, strip=True, fallback=False),
    "metaspace always": lambda: metaspace("always"),
    "metaspace never": lambda: metaspace("never"),
    "metaspace first": lambda: metaspace("first"),
    "end of word": end_of_word,
    "WordPiece": lambda: wordpiece(cleanup=False),
    "WordPiece that cleans up": lambda: wordpiece(cleanup=True),
    "WordPiece, cleaned up as a whole": cleaned_up,
    "word-level": word_level,
    "replaced when fused": replaced_when_fused,
    "ByT5": ByT5Tokenizer,
}
IN_FILES: dict[str, Callable[[Path], PreTrainedTokenizerBase]] = {
    "CTRL": ctrl,
    "ESM": esm,
    "Blenderbot": blenderbot,
    "ProphetNet": prophetnet,
    "GPT-NeoX Japanese": neox_japanese,
}
