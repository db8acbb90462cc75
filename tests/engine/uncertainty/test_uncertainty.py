"""Uncertainty scores of sentences: closed forms by hand, laws, signs, and plain recipes over a tiny model."""

import math
from dataclasses import replace

import families
import numpy as np
import pytest
import small
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.instruments.attention_functions import eager
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.passage import left_to_right
from tui_entropy.engine.scoring.scorer import Wanted, score
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.engine.uncertainty import formulas
from tui_entropy.engine.uncertainty.columns import COLUMNS, TokenNumbers
from tui_entropy.engine.uncertainty.samples import first_line, samples
from tui_entropy.engine.uncertainty.sentences import ScoredSentence, uncertainty_scores
from tui_entropy.records.corpus.uncertainty import SCORES, ScoreSettings, score_names

ALL = ScoreSettings(score_names("all"), samples=5, sample_tokens=6, members=3, noise=0.1)
NEAR = dict(rel=2e-4, abs=2e-4)
PROMPTED = "The sky is", " blue, they say"


@pytest.fixture(scope="module")
def loaded():
    return small.endless(small.loaded())


def columns_of(logits, targets):
    """Of rows of logits, as the scorer has them."""
    from tui_entropy.engine.instruments.step_tensors import RowTensors, computed

    tensors = RowTensors(torch.tensor(logits, dtype=torch.float32), torch.tensor(targets))
    return TokenNumbers.of(torch.stack([computed(metric, tensors).float() for metric in COLUMNS], -1))


def encoded(loaded, text):
    return loaded.tokenizer.encode(text, None, chat=False)


# --- Formulas -----------------------------------------------------------------------------------------------------


def test_scores_of_tokens_by_hand():
    """p = (1/2, 1/4, 1/4) twice, and the second token came, then the first."""
    found = formulas.of_tokens(columns_of(np.log([[2, 1, 1], [2, 1, 1]]), [1, 0]))
    q = np.sqrt([2, 1, 1]) / np.sqrt([2, 1, 1]).sum()
    overlap = np.sqrt(q).sum() / math.sqrt(3)
    expected = {
        "MaximumSequenceProbability": math.log(8),
        "Perplexity": math.log(8) / 2,
        "MeanTokenEntropy": 1.5 * math.log(2),
        "MaximumTokenProbability.mean": math.log(4),
        "MaximumTokenProbability.max": math.log(4),
        "SelfCertainty": -(math.log(32) / 3 - math.log(3)),
        "RenyiNeg": 2 * math.log(overlap),
        "FisherRao": -2 / math.pi * math.acos(overlap),
    }
    assert found == pytest.approx(expected, abs=1e-5)


def test_uniform_beliefs_are_the_least_certain_and_sure_ones_the_most():
    uniform = formulas.of_tokens(columns_of([[0.0] * 8], [0]))
    sure = formulas.of_tokens(columns_of([[500.0, *[0.0] * 7]], [0]))
    for name in ("SelfCertainty", "RenyiNeg", "FisherRao"):
        assert uniform[name] == pytest.approx(0, abs=1e-3) and sure[name] < uniform[name] - 0.5
    assert uniform["Perplexity"] == uniform["MeanTokenEntropy"] == pytest.approx(math.log(8))
    assert sure["Perplexity"] == sure["MeanTokenEntropy"] == pytest.approx(0, abs=1e-6)
    assert sure["RenyiNeg"] == pytest.approx(-math.log(8)) and sure["FisherRao"] == pytest.approx(
        -2 / math.pi * math.acos(8**-0.5), abs=1e-5
    )
    assert uniform["MaximumTokenProbability.mean"] is None


def test_impossible_tokens_are_left_out_of_self_certainty():
    some = formulas.of_tokens(columns_of([[2.0, 1.0, 0.0, -math.inf]], [0]))
    assert some["SelfCertainty"] == pytest.approx(
        formulas.of_tokens(columns_of([[2.0, 1.0, 0.0]], [0]))["SelfCertainty"], abs=1e-5
    )


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=30), st.integers(0, 10**6))
def test_divergences_are_what_is_written_of_them(logits, at):
    row = torch.tensor([logits], dtype=torch.float64)
    p, q = row.softmax(-1)[0], (row / 2).softmax(-1)[0]
    n = len(logits)
    found = columns_of([logits], [at % n])
    assert found.uniform_divergence[0] == pytest.approx(float((1 / n * (1 / n / p).log()).sum()), abs=1e-4)
    assert found.renyi_divergence[0] == pytest.approx(float(-2 * (q.sqrt() * n**-0.5).sum().log()), abs=1e-4)
    share = formulas.fisher_rao(found.renyi_divergence)[0]
    assert 0 <= share <= 1
    assert share == pytest.approx(2 / math.pi * math.acos(min(float((q / n).sqrt().sum()), 1)), abs=5e-3)


def test_rauq_and_the_attention_score_by_hand():
    surprisal, share = np.log([2.0, 4.0, 5.0]), np.array([[[0.5, 0.1], [0.9, 0.2]], [[1.0, 0.0], [0.0, 0.0]]])
    second = [0.5, 0.2 * 0.25 + 0.8 * 0.9 * 0.5]
    block = [*second, 0.2 * 0.2 + 0.8 * 0.2 * second[1]]
    other = [0.5, 0.2 * 0.25 + 0.8 * 0.5, 0.2 * 0.2]
    expected = max(1 - np.log(block).mean(), 1 - np.log(other).mean())
    assert formulas.rauq(surprisal, share) == pytest.approx(expected)
    assert formulas.rauq(surprisal[:1], share[:, :, :0]) == pytest.approx(1 + math.log(2))
    assert formulas.attention_score(share[0]) == pytest.approx(-(math.log(0.05) + math.log(0.18)) / 2)
    assert formulas.rauq_blocks(30) == tuple(range(11, 22)) and formulas.rauq_blocks(2) == (1, 2)
    assert formulas.attention_block(30) == 16 and formulas.attention_block(1) == 1


@given(st.lists(st.floats(0, 9), min_size=1, max_size=8), st.floats(0.01, 5))
def test_what_is_less_likely_is_less_certain(surprisal, more):
    once, again = np.array(surprisal), np.array(surprisal)
    again[-1] += more
    shares = np.full((1, 2, len(once) - 1), 0.3)
    assert formulas.rauq(again, shares) > formulas.rauq(once, shares)
    alone = np.ones(len(once) - 1)
    information = formulas.mean_pointwise_mutual_information
    assert information(again, alone) > information(once, alone) and information(once, alone + 1) <= information(
        once, alone
    )


def test_what_draws_say_by_hand():
    """Two of four say the same, of probability 1/4 and 1/8, two tokens long; the others 1/8 and 1/2."""
    found = formulas.of_samples(np.log([0.25, 0.125, 0.125, 0.5]), [2, 2, 1, 1], ["a", "a", "b", "c"])
    assert found == pytest.approx({
        "MonteCarloSequenceEntropy": math.log(4 * 8 * 8 * 2) / 4,
        "MonteCarloNormalizedSequenceEntropy": (math.log(4) / 2 + math.log(8) / 2 + math.log(8) + math.log(2)) / 4,
        "SemanticEntropy": -(2 * math.log(3 / 8) + math.log(1 / 8) + math.log(1 / 2)) / 4,
        "SemanticEntropyEmpirical": 1.5 * math.log(2),
    })  # fmt: skip
    same = formulas.of_samples([-1.0, -1.0], [1, 1], ["a", "a"])
    assert same["SemanticEntropyEmpirical"] == 0 and same["SemanticEntropy"] == pytest.approx(1 - math.log(2))


# --- Over a model -------------------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom", "qwen3_5_text"])
def test_scores_of_sentences_are_those_of_a_plain_pass(family):
    model = families.built(family) if family in families.families() else tiny.FAMILIES[family]()
    found = Loaded(model, Tokenizer(small.tokenizer(tiny.VOCAB)), architecture_of(model), small.card(model))
    texts = [tiny.prompt(n, seed=n)[0].tolist() for n in (9, 14, 2)]
    sentences = [
        ScoredSentence(left_to_right(ids, first), n)
        for ids, first, n in zip(texts, (1, 5, 1), (0, 5, 1), strict=True)
    ]
    for sentence, its in zip(sentences, uncertainty_scores(found, sentences, ALL), strict=True):
        ids, first = sentence.passage.ids, sentence.passage.positions[0] + 1
        with eager(model):
            out = model(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False)
        logp = out.logits[0, first - 1 : -1].double().log_softmax(-1)
        came = logp[range(len(logp)), ids[first:]]
        q = (logp / 2).softmax(-1)
        expected = {
            "MaximumSequenceProbability": -came.sum(),
            "Perplexity": -came.mean(),
            "MeanTokenEntropy": torch.special.entr(logp.exp()).sum(-1).mean(),
            "SelfCertainty": (logp.mean(-1) + math.log(tiny.VOCAB)).mean(),
            "RenyiNeg": 2 * (q.sqrt().sum(-1) / tiny.VOCAB**0.5).log().mean(),
        }
        rows = [one for one in out.attentions or () if one is not None]
        n_layers = found.architecture.n_layers
        if all(found.architecture.attention):
            own = torch.stack([one[0].diagonal(dim1=-2, dim2=-1) for one in rows]).double()
            expected["AttentionScore"] = -own[n_layers // 2].log().sum(-1).mean()
            some = [own[block - 1][:, first:-1].numpy() for block in formulas.rauq_blocks(n_layers)]
            expected["RAUQ"] = formulas.rauq(-came.numpy(), some)
        else:
            assert its["AttentionScore"] is None  # it is not told
        if sentence.n_prompt:
            alone = model(input_ids=torch.tensor([ids[first:]]), use_cache=False).logits[0, :-1].double()
            without = alone.log_softmax(-1)[range(len(alone)), ids[first + 1 :]]
            expected["MeanPointwiseMutualInformation"] = (torch.cat([torch.zeros(1), without]) - came).mean()
        assert {name: its[name] for name in expected} == pytest.approx(
            {name: float(value) for name, value in expected.items()}, **NEAR
        )
        assert (its["MeanPointwiseMutualInformation"] is None) == (not sentence.n_prompt)
        assert list(its) == [one.name for one in SCORES]


def test_a_family_of_scores_is_had_alone_and_is_the_same(loaded):
    sentences = [ScoredSentence(left_to_right(encoded(loaded, "".join(PROMPTED)), 10), 10)]
    (every,) = uncertainty_scores(loaded, sentences, ALL)
    for family in ("tokens", "prompt", "attention", "samples", "weight-noise"):
        settings = ScoreSettings(score_names(family), samples=5, sample_tokens=6, members=3, noise=0.1)
        (some,) = uncertainty_scores(loaded, sentences, settings)
        assert some == {name: every[name] for name in settings.names} and None not in some.values()


def test_samples_are_the_continuations_that_runs_of_these_seeds_write(loaded):
    """Drawn by noise of seed and position, from the model's own distribution, one by one."""
    from tui_entropy.engine.sampling.gumbel import gumbel

    ids = encoded(loaded, PROMPTED[0])
    settings = ScoreSettings(score_names("samples"), samples=4, sample_tokens=5, seed=3)
    for nth, sample in enumerate(samples(loaded, ids, settings)):
        text, total = list(ids), 0.0
        for token in sample.token_ids:
            with torch.inference_mode():
                logp = loaded.model(input_ids=torch.tensor([text])).logits[0, -1].log_softmax(-1)
            noise = gumbel(torch.arange(len(logp)), 3 + nth, len(text))
            assert int((logp + noise).argmax()) == token
            text.append(token)
            total += float(logp[token])
        assert sample.logprob == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize(
    ("drawn", "kept", "said"),
    [
        ("\n The Sky.\nIs", "\n The Sky.\n", "sky"),
        ("a red", "a red", "red"),
        ("\n\n", "\n\n", ""),
        ("x\n", "x\n", "x"),
    ],
)
def test_a_draw_ends_with_the_first_line_that_is_not_empty(loaded, drawn, kept, said):
    whole = replace(loaded, tokenizer=Tokenizer(small.tokenizer(300)))
    end = whole.tokenizer.eos_ids
    assert first_line(whole, encoded(whole, "ab"), encoded(whole, drawn)) == (encoded(whole, kept), said)
    assert first_line(whole, encoded(whole, "ab"), [*encoded(whole, "ab"), *end, 5]) == (
        [*encoded(whole, "ab"), *end],
        "ab",
    )


def test_ensembles_split_what_they_are_unsure_of(loaded):
    settings = ScoreSettings(score_names("weight-noise,vectors,dropout"), members=4, noise=0.2, seed=1)
    texts = [encoded(loaded, "abcdefgh"), encoded(loaded, "xyz")]
    sentences = [ScoredSentence(left_to_right(ids)) for ids in texts]
    push = {1: torch.full((loaded.card.d_model,), 2.0)}
    both = [None, lambda passage: push]
    for sentence, its in zip(sentences, uncertainty_scores(loaded, sentences, settings, vectors=both), strict=True):
        for title in ("WeightNoise", "Vectors"):
            total, aleatoric, epistemic = (its[f"{title}.{part}"] for part in ("total", "aleatoric", "epistemic"))
            assert total == pytest.approx(aleatoric + epistemic, abs=1e-5) and epistemic > 1e-5
        assert its["Dropout.total"] is None  # this model drops nothing
        logp = [
            score_logits(loaded, sentence.passage, offsets).double().log_softmax(-1)
            for offsets in (None, lambda passage: push)
        ]
        mean = torch.stack(logp).exp().mean(0)
        assert its["Vectors.total"] == pytest.approx(float(torch.special.entr(mean).sum(-1).mean()), abs=1e-4)
        (alone,) = uncertainty_scores(loaded, [sentence], settings, vectors=both)
        assert alone == pytest.approx(its, abs=1e-4)
    same = uncertainty_scores(loaded, sentences, settings, vectors=[None, None])
    assert all(its["Vectors.epistemic"] == pytest.approx(0, abs=1e-6) for its in same)


@torch.inference_mode()
def score_logits(loaded, passage, offsets):
    from tui_entropy.engine.instruments.unembed import unembed

    (found,) = score(loaded, [passage], Wanted((), residual=True), offsets or (lambda passage: {}))
    return unembed(loaded.model, loaded.architecture, found.residual)


def test_dropout_drops_what_the_model_was_trained_with():
    found = small.endless(small.loaded("gpt2"))
    for module in found.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    settings = ScoreSettings(score_names("dropout"), members=4)
    sentences = [ScoredSentence(left_to_right(encoded(found, text))) for text in ("abcdefgh", "xyz")]
    first = uncertainty_scores(found, sentences, settings)
    assert all(its["Dropout.epistemic"] > 1e-3 for its in first)
    assert uncertainty_scores(found, sentences[1:], settings) == first[1:]  # whatever else is read


def test_the_model_is_left_as_it_was(loaded):
    ids = encoded(loaded, "abcdef")
    with torch.inference_mode():
        before = loaded.model(input_ids=torch.tensor([ids])).logits
        hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in loaded.model.modules())
        uncertainty_scores(loaded, [ScoredSentence(left_to_right(ids))], ALL)
        assert torch.equal(loaded.model(input_ids=torch.tensor([ids])).logits, before)
    assert hooks == sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in loaded.model.modules()
    )
