"""AttnLRP: against rules worked out by hand, and nothing of a logit is lost."""

import math

import probed
import pytest
import torch
from torch import nn
from torch.nn import functional

from tui_entropy.engine.attribution.relevance import NoRule, relevance
from tui_entropy.engine.kernels.two_row_linear import two_row_linear


def test_attention_over_two_tokens_by_hand():
    x, wq, wk, wv = [0.7, -1.2], 1.5, -0.8, 2.0
    model = nn.Module()

    def logit(vectors):
        values, keys, query = vectors * wv, vectors * wk, vectors[:, -1:] * wq
        weights = functional.softmax(torch.matmul(query, keys.transpose(1, 2)), dim=-1)
        return torch.matmul(weights, values).flatten()

    found = relevance(model, torch.tensor(x)[:, None], logit)
    query, keys, values = x[1] * wq, [one * wk for one in x], [one * wv for one in x]
    scores = [query * key for key in keys]
    shares = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
    half = [0.5 * share * value for share, value in zip(shares, values, strict=True)]  # to weights and to values
    of_scores = [s * (r - p * sum(half)) for s, r, p in zip(scores, half, shares, strict=True)]
    expected = [half[0] + 0.5 * of_scores[0], half[1] + 0.5 * of_scores[1] + 0.5 * sum(of_scores)]
    assert found.tokens.tolist() == pytest.approx(expected, abs=1e-6)
    assert found.softmax == pytest.approx(sum(half) - sum(of_scores), abs=1e-6)
    assert found.target == pytest.approx(2 * sum(half), abs=1e-6)
    assert found.remainder == pytest.approx(0, abs=1e-6)


def test_fused_attention_is_as_that_of_single_operations():
    torch.manual_seed(0)
    vectors = torch.randn(5, 8)
    mask = torch.ones(5, 5).tril().bool()

    def apart(x):
        scores = torch.matmul(x, x.transpose(1, 2)) * 8**-0.5
        weights = functional.softmax(scores.masked_fill(~mask, -math.inf), dim=-1)
        return torch.matmul(weights, x * 2.0)[:, -1].sum(-1)

    def fused(x):
        given = x[:, None]
        return functional.scaled_dot_product_attention(given, given, given * 2.0, attn_mask=mask)[:, 0, -1].sum(-1)

    one, other = relevance(nn.Module(), vectors, apart), relevance(nn.Module(), vectors, fused)
    torch.testing.assert_close(one.tokens, other.tokens, atol=1e-5, rtol=1e-5)
    assert one.softmax == pytest.approx(other.softmax, abs=1e-5)


def test_a_gate_and_what_it_gates_have_a_half_each_and_a_bias_keeps_its_own():
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1))
    for layer, weights, bias in ((model[0], [[1.0, 0.0]], [0.5]), (model[1], [[0.0, 3.0]], [0.0])):
        layer.weight.data, layer.bias.data = torch.tensor(weights), torch.tensor(bias)

    def logit(vectors):
        return (functional.silu(model[0](vectors)) * model[1](vectors)).sum((1, 2))

    found = relevance(model, torch.tensor([[2.0, 1.0]]), logit)
    whole = 2.5 / (1 + math.exp(-2.5)) * 3.0
    # Half of it goes to the gate, of which the bias keeps 0.5 of 2.5.
    assert found.biases == pytest.approx(whole / 2 * 0.5 / 2.5, rel=1e-5)
    assert float(found.tokens) == pytest.approx(whole / 2 * 2.0 / 2.5 + whole / 2, rel=1e-5)


def test_a_model_without_biases_in_which_nothing_is_looked_at_hands_all_of_it_to_the_tokens():
    norm = nn.RMSNorm(8)
    torch.manual_seed(1)
    weight = torch.randn(8, 8)
    found = relevance(
        norm, torch.randn(3, 8), lambda x: functional.gelu(functional.linear(norm(x), weight)).sum((1, 2))
    )
    assert float(found.tokens.sum()) == pytest.approx(found.target, rel=1e-5)


def test_products_taken_as_columns_hand_on_the_same():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.SiLU(), nn.Linear(4, 1))
    vectors = torch.randn(1, 6)
    plain = relevance(model, vectors, lambda x: model(x).flatten())
    with two_row_linear(model, by_columns=True):
        columns = relevance(model, vectors, lambda x: model(x).flatten())
    torch.testing.assert_close(columns.tokens, plain.tokens)
    assert columns.biases == pytest.approx(plain.biases)


def test_an_operation_without_a_rule_is_named():
    with pytest.raises(NoRule, match="cumsum"):
        relevance(nn.Module(), torch.ones(2, 2), lambda x: x.cumsum(1).sum((1, 2)))


CONSERVING = (
    "llama gpt2 gpt_neox opt phi phi3 qwen2 qwen3 mistral gemma gemma2 gemma3 olmo2 cohere granite starcoder2 "
    "stablelm nemotron smollm3 exaone4 glm4 lfm2 mpt"
)


@pytest.mark.parametrize("family", CONSERVING.split())
def test_what_tokens_softmaxes_and_biases_have_sums_to_the_logit(family):
    with probed.written(probed.of_family(family)) as session:
        answer = probed.asked(session, "attribution", method="attn-lrp")
    words = answer.panels[0].text.replace(",", "").replace(";", "").split()
    told = {
        name: float(words[words.index(name) + 1]) for name in ("tokens", "softmaxes", "biases", "remainder", "logit")
    }
    parts = told["tokens"] + told["softmaxes"] + told["biases"] + told["remainder"]
    assert abs(told["remainder"]) < 1e-4 and parts == pytest.approx(told["logit"], abs=0.01)
    assert "≈" not in answer.panels[0].title


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "olmo2", "granite", "exaone4"])
def test_with_weights_held_the_tokens_alone_sum_to_the_logit_of_a_model_without_biases(family):
    with probed.written(probed.of_family(family)) as session:
        answer = probed.asked(session, "attribution", method="attn-lrp", softmax="held")
    logit = float(answer.panels[0].text.split()[-1])
    assert sum(answer.panels[1].values) == pytest.approx(logit, rel=1e-3)


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "mamba", "bloom"])
def test_a_family_that_a_rule_lacks_for_says_which(family):
    with probed.written(probed.of_family(family)) as session:
        assert "no rule is known for its" in probed.asked(session, "attribution", method="attn-lrp").unavailable
