"""Ensembles: against a model in training mode, a model whose weights were changed, and closed forms."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import probed
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from shadow_models import pushed

from tui_entropy.core.errors import UserError
from tui_entropy.engine.ensembles.spread import Spread
from tui_entropy.engine.ensembles.weight_noise import noisy_layers, weight_noise
from tui_entropy.engine.probes.library.text import ensemble
from tui_entropy.engine.probes.library.text.ensemble import EnsembleOptions
from tui_entropy.engine.verify.checks.probes import Evidence
from tui_entropy.engine.verify.evidence.compare import allowed, gap

NAME = "ensemble"
FAMILIES = "llama gpt2 gemma2 qwen3 gpt_oss hybrid mixtral mistral olmo2 granite cohere phi gpt_neox falcon opt jamba"


@pytest.fixture(scope="module")
def gpt2():
    """Of a family that was trained with dropout."""
    with probed.written(probed.of_family("gpt2")) as session:
        yield session


@pytest.fixture(scope="module")
def llama():
    with probed.written(probed.of_family("llama")) as session:
        yield session


def tables(answered):
    assert answered.unavailable is None, answered.unavailable
    note, parts, candidates, members = answered.panels
    return note, [row[1] for row in parts.rows], candidates, members


def before(session):
    return session.state.run_of(1).sequence.ids[:-1].clone()


def test_members_that_agree_on_nothing_are_all_epistemic():
    sure = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]])
    spread = Spread.of(sure)
    assert spread.total == pytest.approx(math.log(2)) and spread.aleatoric == 0.0
    assert spread.epistemic == pytest.approx(math.log(2))
    assert spread.variance.tolist() == [0.25, 0.25], "over all of them, 1/N"


def test_copies_have_nothing_to_disagree_on():
    logp = torch.tensor([0.5, 0.25, 0.25]).log().expand(4, -1)
    spread = Spread.of(logp)
    assert spread.epistemic == pytest.approx(0.0, abs=1e-12)
    assert spread.total == spread.aleatoric == pytest.approx(1.5 * math.log(2))


@given(st.lists(st.lists(st.floats(-20, 20), min_size=5, max_size=5), min_size=1, max_size=6))
def test_the_parts_sum_to_the_whole_and_none_is_negative(logits):
    logp = torch.tensor(logits, dtype=torch.float64).log_softmax(-1)
    spread = Spread.of(logp)
    assert spread.total == pytest.approx(spread.aleatoric + spread.epistemic, abs=1e-9)
    assert 0 <= spread.epistemic <= math.log(len(logp)) + 1e-9
    assert float(spread.mean.sum()) == pytest.approx(1.0)


def test_each_pass_is_that_of_a_model_in_training_under_its_seed(gpt2):
    *_, members = tables(probed.asked(gpt2, NAME, n=3))
    reference = probed.of_family("gpt2").model.train()
    at = SimpleNamespace(position=len(before(gpt2)))
    for nth, row in enumerate(members.rows[1:]):
        torch.manual_seed(ensemble._seed(EnsembleOptions(), at, nth))
        with torch.no_grad():
            logits = reference(before(gpt2)[None], use_cache=False).logits[0, -1]
        chosen = int(gpt2.state.run_of(1).sequence.ids[-1])
        assert row[3] == pytest.approx(float(logits.softmax(-1)[chosen]), rel=1e-5)
    assert len({row[3] for row in members.rows}) == 4, "the passes differ, and from the model as it is"


def test_passes_can_be_had_again_and_the_model_and_the_draws_of_others_are_as_they_were(gpt2):
    model = gpt2.state.loaded.model
    torch.manual_seed(5)
    before_it = torch.get_rng_state()
    first = probed.asked(gpt2, NAME, n=4)
    assert torch.equal(torch.get_rng_state(), before_it)
    assert not any(module.training for module in model.modules())
    assert probed.asked(gpt2, NAME, n=4).panels == first.panels
    assert probed.asked(gpt2, NAME, n=4, seed=1).panels != first.panels
    fewer = probed.asked(gpt2, NAME, n=2).panels[3].rows
    assert fewer == first.panels[3].rows[:3], "a member does not hang on how many there are"


def test_a_model_without_dropout_says_that_it_varies_in_nothing(llama):
    note, (total, aleatoric, epistemic, entropy), candidates, members = tables(probed.asked(llama, NAME))
    assert "no active dropout" in note.text and "zero by construction" in note.text and "weight-noise" in note.text
    assert epistemic == 0.0 and total == aleatoric == entropy
    assert {row[3] for row in candidates.rows} == {0.0}
    assert len(members.rows) == 2


def test_noise_on_weights_is_that_of_a_model_whose_weights_have_it(llama):
    reference, size, seed = probed.of_family("llama"), 0.1, 11
    ids = before(llama)[None]
    layers = noisy_layers(reference.architecture.blocks)
    plain = {id(layer): layer.weight.detach().clone() for layer in layers}
    with torch.no_grad():
        as_it_is = reference.model(ids).logits
        with weight_noise(layers, size, seed):
            hooked = reference.model(ids).logits
        assert torch.equal(reference.model(ids).logits, as_it_is), "the hooks are gone"
        for place, layer in enumerate(layers):
            draws = torch.Generator().manual_seed(seed * 1_000_003 + place)
            noise = torch.randn(layer.weight.shape, generator=draws)
            layer.weight.add_(noise * size * layer.weight.square().mean().sqrt())
        changed = reference.model(ids).logits
    assert all(not torch.equal(plain[id(layer)], layer.weight) for layer in layers)
    torch.testing.assert_close(hooked, changed, rtol=1e-4, atol=1e-4)
    assert (hooked - as_it_is).abs().max() > 10 * (hooked - changed).abs().max()


def test_no_noise_is_no_doubt(llama):
    _, (total, _, epistemic, entropy), *_ = tables(probed.asked(llama, NAME, source="weight-noise", noise=0.0))
    assert epistemic == pytest.approx(0.0, abs=1e-9) and total == pytest.approx(entropy)
    louder = [tables(probed.asked(llama, NAME, source="weight-noise", noise=size))[1][2] for size in (0.01, 0.1, 0.5)]
    assert louder == sorted(louder) and louder[0] > 0


def test_vectors_are_members_each_alone():
    with probed.written(probed.of_family("llama"), n=2) as session:
        without = tables(probed.asked(session, NAME))[3].rows[0]
        vector = replace(pushed(session), on=False)
        session.state.vectors = (vector, replace(vector, strength=-1.0))
        _, parts, _, members = tables(probed.asked(session, NAME, source="vectors"))
        assert [row[0] for row in members.rows] == ["the model as it is", "no vector", "v +2", "v -1"]
        assert members.rows[0][1:] == members.rows[1][1:] == without[1:], "none is on"
        assert len({row[3] for row in members.rows}) == 3
        assert parts[2] > 0


def test_prompts_stand_before_what_is_written(llama, tmp_path):
    own = llama.state.run_of(1).started
    file = tmp_path / "prompts.txt"
    file.write_text(f"{own.prompt}\n\nanother way to ask\n")
    _, _, _, members = tables(probed.asked(llama, NAME, source="prompts", prompts=str(file)))
    assert [row[0] for row in members.rows[1:]] == [own.prompt, "another way to ask"]
    np.testing.assert_allclose(members.rows[1][2:4], members.rows[0][2:4], rtol=1e-5)
    assert members.rows[2][4] > 0


@pytest.mark.parametrize(
    ("content", "wrong"), [(None, "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"\n", "no prompt")]
)
def test_prompts_that_are_none_are_told_in_a_sentence(llama, tmp_path, content, wrong):
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=wrong):
        probed.asked(llama, NAME, source="prompts", prompts=str(file))
    with pytest.raises(UserError, match="prompts=FILE"):
        probed.asked(llama, NAME, source="prompts")


@pytest.mark.parametrize("family", FAMILIES.split())
def test_on_every_family_doctor_finds_the_model_as_it_is(family):
    with probed.written(probed.of_family(family)) as session:
        answered = probed.asked(session, NAME, n=2)
        loaded, ids = probed.of_family(family), session.state.run_of(1).sequence.ids.clone()
        evidence = Evidence(loaded, ids, len(ids) - 1, SimpleNamespace(token_id=int(ids[-1])))
        with torch.no_grad():
            found = list(ensemble.PROBE.check(answered, evidence))
        for actual, expected, size in found:
            assert gap(actual, expected) <= allowed(torch.float32, size)
