"""Pseudo-log-likelihood: one mask at a time, in batches, against plain passes; and a trained model knows more."""

from __future__ import annotations

import random

import masked_models
import numpy as np
import pytest
import torch

from tui_entropy.core.errors import UserError
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.scoring.predictions import likeliest
from tui_entropy.engine.scoring.scorer import Wanted
from tui_entropy.engine.scoring.texts import score_texts
from tui_entropy.metrics.registry import BY_FIELD, SCORES
from tui_entropy.records.model import ModelSpec

FAMILIES = "bert", "roberta", "distilbert", "modernbert", "electra", "nomic_bert"
HEAVY_CHAIN = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAED"
    "TAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
)
"""Of trastuzumab."""
EVERYTHING = Wanted(lens=tuple(BY_FIELD[name] for name in SCORES), attention=True, hidden=True, predict=likeliest(3))


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request, tmp_path_factory):
    folder = masked_models.saved(tmp_path_factory.mktemp("masked"), request.param)
    return load(ModelSpec(str(folder)), lambda progress: None, masked=True)


@torch.inference_mode()
def one_by_one(loaded, text, at):
    """(vocab,) ln p at a token of a text that is masked, and the entropies of its attention rows, by a plain pass."""
    ids = loaded.tokenizer.hf_tokenizer(text, return_tensors="pt")["input_ids"]
    ids[0, at] = loaded.tokenizer.hf_tokenizer.mask_token_id
    logp = loaded.model(input_ids=ids).logits[0, at].double().log_softmax(-1)
    loaded.model.set_attn_implementation("eager")
    weights = loaded.model(input_ids=ids, output_attentions=True).attentions
    loaded.model.set_attn_implementation("sdpa")
    return logp, [torch.special.entr(rows[0, :, at].double()).sum(-1).mean() for rows in weights]


def test_each_token_is_scored_where_it_alone_is_masked(loaded):
    texts = ["EVQLVESGG", "ACD", "WYRE"]
    for text, found in zip(texts, score_texts(loaded, texts, EVERYTHING), strict=True):
        assert found.scored == tuple(range(1, len(text) + 1))
        assert [token.token_bytes.strip() for token in found.tokens[1:-1]] == [letter.encode() for letter in text]
        for nth, at in enumerate(found.scored):
            logp, entropies = one_by_one(loaded, text, at)
            target = found.tokens[at].token_id
            assert found.column("surprisal")[nth] == pytest.approx(-float(logp[target]), abs=1e-4)
            assert found.column("entropy")[nth] == pytest.approx(
                float(torch.special.entr(logp.exp()).sum()), abs=1e-4
            )
            np.testing.assert_allclose(found.layers.attention_entropy.numpy()[:, nth], entropies, atol=1e-4)
        np.testing.assert_allclose(found.layers.lens.numpy()[-1], found.scores.numpy(), atol=1e-4)
        logp, _ = one_by_one(loaded, text, found.scored[-1])
        assert [one.token_id for one in found.predictions] == logp.topk(3).indices.tolist()


def test_a_mask_of_the_text_itself_is_where_the_model_is_asked(loaded):
    (found,) = score_texts(loaded, ["EV[MASK]LV"], EVERYTHING)
    assert found.scored == (1, 2, 4, 5)
    logp, _ = one_by_one(loaded, "EV[MASK]LV", 3)
    assert [one.token_id for one in found.predictions] == logp.topk(3).indices.tolist()


def test_what_cannot_be_masked_is_told(loaded):
    for text, words in (("", "no token that could be masked"), ("A" * 5000, "reads at most")):
        with pytest.raises(UserError, match=words):
            list(score_texts(loaded, [text]))


def test_such_a_model_is_refused_where_one_that_writes_is_wanted(tmp_path):
    with pytest.raises(UserError, match="does not write text"):
        load(ModelSpec(str(masked_models.saved(tmp_path))), lambda progress: None)


@pytest.mark.real
def test_a_trained_model_knows_a_protein_from_its_letters_shuffled():
    if (folder := masked_models.antiberty()) is None:
        pytest.skip("the package of AntiBERTy cannot be had")
    loaded = load(ModelSpec(str(folder)), lambda progress: None, masked=True)
    letters = list(HEAVY_CHAIN)
    random.Random(1).shuffle(letters)
    real, control = score_texts(loaded, [HEAVY_CHAIN, "".join(letters)])
    n = len(HEAVY_CHAIN)
    assert len(real.scored) == len(control.scored) == n
    assert -real.log_likelihood / n < 0.9 < 2.5 < -control.log_likelihood / n
    right = [sum(rank == 1 for rank in one.column("rank")) / n for one in (real, control)]
    assert right[0] > 0.75 and right[1] < 0.25
