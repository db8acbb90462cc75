"""Every causal family of the installed transformers is right to 3e-4, or refused with the true reason.

None is silently wrong: what is in none of the tables below must agree with transformers in every number, and what is
in one of them must be as it says there, to the day.
"""

from __future__ import annotations

import re
from collections import Counter

import agreement
import families
import pytest
import tiny
import transformers

from tui_entropy.engine.decoding import loop
from tui_entropy.engine.loading.trial import is_plain
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.records.model import COLUMNS, ROWS

SHORT, LONG = 12, 1000
"""Tokens of the prompts; the program reads 512 at a time."""
NOT_BUILT = {
    "dots3_note": "adapter_in_dim",
    "gemma3n": "timm",
    "gemma4_assistant": "hidden_size_per_layer_input",
    "musicgen": "no attribute 'dropout'",
    "musicgen_melody": "no attribute 'dropout'",
}
"""Families that cannot be made from a config alone -> what transformers says."""
REFUSED: dict[str, str] = {
    "blt": "no single chain of blocks",
    "cpmant": "33 vectors for a text of one token",
    "gemma4_unified_assistant": "does not read text by itself",
    "hrm_text": "ran 4 of them for a token of text, 24 times in all",
    "mllama": "ran 3 of them for a token of text, 3 times in all",
    "prophetnet": "3 vectors for a text of one token",
    "reformer": "reads vectors of width 64",
    "xlm": "guesses a token that is put behind the text",
    "xlnet": "guesses a token that is put behind the text",
    "zamba2": "says something else of a token behind others than in one pass",
}
"""Families that are refused -> the reason, a regular expression."""
LONG_ALWAYS = {
    "llama", "mistral", "gemma2", "gemma3_text", "gpt2", "gpt_oss", "gpt_neox", "deepseek_v3", "opt", "diffllama",
    "doge", "phi3", "modernbert-decoder",
}  # fmt: skip
"""Of the families of plain attention some of each kind: windows, caps, sinks, latent keys, learned positions."""
LONG_IF_SLOW = (
    {name.removesuffix("_text") for name in families.families() if name.endswith("_text")}
    | set(families.ENCODERS.split()) - {"bert", "roberta", "roformer", "rembert"}
    | {"axk2", "glm_moe_dsa", "hy_v4"}  # as deepseek_v32
    | {"inkling2_text", "qwen3_5_moe_text", "gemma4_unified_text", "lfm2_moe", "codegen", "megatron-bert"}
    | {"marian", "mbart", "pegasus", "plbart", "blenderbot", "blenderbot-small", "bigbird_pegasus"}
)
"""Families whose attention is that of another one that reads a long prompt each time."""
STRETCH = 5
"""Tokens at a time of a short prompt that stands for a long one."""
WAYS = [
    pytest.param(0, False, COLUMNS, id="brief"),
    *(
        pytest.param(seed, True, products, id=f"seed {seed}", marks=pytest.mark.slow)
        for seed, products in enumerate((ROWS, COLUMNS, ROWS))
    ),
]
"""Seed, whether every family reads the long prompt, and how products are taken."""
found: dict[str, tuple[str, str]] = {}
"""Family -> its verdict, and what there is to say of it."""


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def judged(family: str, folder, seed: int, long: bool, products: str, patch) -> tuple[str, str]:
    try:
        model = families.built(family, seed)
    except Exception as error:  # whatever its config does not say
        return "not built", str(error)

    def prompts(loaded: Loaded) -> list[list[int]]:
        both = long or family in LONG_ALWAYS or not (is_plain(loaded) or family in LONG_IF_SLOW)
        if not both:
            patch.setattr(loop, "PREFILL_CHUNK", STRETCH)
        return [tiny.prompt(n, seed + 1)[0].tolist() for n in (SHORT, LONG)[: 1 + both]]

    try:
        finding = agreement.examined(model, folder, prompts, products)
    except Exception as error:  # whatever comes of it is what a person would get
        return "crash", f"{type(error).__name__}: {error}"
    if finding.refused:
        return "refused", finding.refused
    apart = [f"{name} {gap:.2g} off" for name, gap in finding.gaps.items() if not gap <= agreement.BOUND]
    return "right" if finding.right else "wrong", "; ".join([*apart, *dict.fromkeys(finding.notes)])


@pytest.mark.parametrize(("seed", "long", "products"), WAYS)
@pytest.mark.parametrize("family", families.families())
def test_a_family_agrees_with_transformers_or_is_refused_with_the_true_reason(
    family, seed, long, products, tmp_path, own_folders, monkeypatch
):
    verdict, said = found[family] = judged(family, tmp_path, seed, long, products, monkeypatch)
    if family in NOT_BUILT:
        assert verdict == "not built" and re.search(NOT_BUILT[family], said), said
    elif family in REFUSED:
        assert verdict == "refused" and re.search(REFUSED[family], said), said
    else:
        assert verdict == "right", said


def test_what_each_family_is(capsys):
    """The table of all that were tried before this in the same process."""
    with capsys.disabled():
        print()
        for family, (verdict, said) in found.items():
            print(f"  {family:26}{verdict:10}{said.splitlines()[0][:160] if said else ''}")
        counts = Counter(verdict for verdict, _ in found.values())
        silently = counts["wrong"] + counts["crash"]
        print(f"  of {len(found)}: {counts['right']} right, {counts['refused']} refused with the reason,", end=" ")
        print(f"{counts['not built']} not to be built from a config alone, {silently} wrong")
    assert set(found) <= set(families.families())
