"""Attribution to the tokens before: against captum, plain passes and gradients through eager attention."""

from __future__ import annotations

from types import SimpleNamespace

import captum.attr
import numpy as np
import probed
import pytest
import torch
from shadow_models import pushed

from tui_entropy.engine.attribution import embedded_text as embedded
from tui_entropy.engine.attribution.embedded_text import embedded_text, mean_embedding
from tui_entropy.engine.attribution.integrated import integrated_gradients
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.library.text import attribution
from tui_entropy.engine.verify.checks.probes import Evidence
from tui_entropy.engine.verify.evidence.compare import allowed, gap
from tui_entropy.records.commands import Write
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.panels import Note, Table, TintedText
from tui_entropy.records.sampling import Knobs

NAME = "attribution"
FAMILIES = (
    "llama gpt2 gemma2 gemma3 qwen3 gpt_oss hybrid mixtral mistral olmo2 granite cohere phi gpt_neox falcon opt "
    "deepseek_v3 jamba"
)


@pytest.fixture(scope="module")
def llama():
    with probed.written(probed.of_family("llama")) as session:
        yield session


def tint(answered):
    assert answered.unavailable is None
    (text,) = (panel for panel in answered.panels if isinstance(panel, TintedText))
    return np.array(text.values)


def plain(session, family="llama"):
    """ids before the last token, that token, and ln p of it as a function of (rows, n, d) embeddings, by a model of
    the same weights that nobody watches."""
    ids = session.state.run_of(1).sequence.ids.clone()
    loaded = probed.of_family(family)

    def logp(vectors):
        return loaded.model(inputs_embeds=vectors, use_cache=False).logits[:, -1].log_softmax(-1)[:, int(ids[-1])]

    return loaded, ids[:-1], int(ids[-1]), logp


def differences(session, family="llama"):
    """How far the answer is off, as a share of what is allowed."""
    answered, (loaded, ids, token, _) = probed.asked(session, NAME), plain(session, family)
    evidence = Evidence(loaded, torch.cat([ids, ids[:1]]), len(ids), SimpleNamespace(token_id=token))
    return [
        gap(one, other) / allowed(torch.float32, size)
        for one, other, size in attribution.PROBE.check(answered, evidence)
    ]


def test_saliency_and_input_x_gradient_are_captums(llama):
    reference, ids, _, logp = plain(llama)
    vectors = reference.architecture.embedding(ids[None]).detach().requires_grad_()
    saliency = captum.attr.Saliency(logp).attribute(vectors)[0]
    np.testing.assert_allclose(tint(probed.asked(llama, NAME, method="saliency")), saliency.sum(-1), rtol=1e-4)
    length = tint(probed.asked(llama, NAME, method="saliency", norm="l2"))
    np.testing.assert_allclose(length, torch.linalg.vector_norm(saliency, dim=-1), rtol=1e-4)
    products = captum.attr.InputXGradient(logp).attribute(vectors)[0].detach()
    np.testing.assert_allclose(tint(probed.asked(llama, NAME)), products.sum(-1), rtol=1e-3, atol=1e-5)


def test_integrated_gradients_from_another_token_are_captums(llama):
    reference, ids, token, _ = plain(llama)
    loaded = llama.state.loaded

    def logp(rows):
        return reference.model(rows).logits[:, -1].log_softmax(-1)[:, token]

    layer = captum.attr.LayerIntegratedGradients(logp, reference.architecture.embedding)
    expected = layer.attribute(ids[None], baselines=torch.full_like(ids, 7)[None], n_steps=400)[0].sum(-1).detach()
    with embedded_text(loaded, llama.state.instruments, ids, [{}] * len(ids), {token: 1.0}) as text:
        baseline = loaded.architecture.embedding(torch.full_like(ids, 7)).detach()
        found = integrated_gradients(text.gradient, text.vectors, baseline, 1e-4, 513)
    assert found.gap_share < 0.01
    np.testing.assert_allclose(found.attributions, expected, atol=0.02 * float(expected.abs().max()))


def test_integrated_gradients_tell_their_gap_and_are_marked_where_the_budget_is_short(llama, monkeypatch):
    rows = probed.asked(llama, NAME, method="integrated-gradients").panels
    assert isinstance(rows[0], Note) and rows[0].text.startswith("gap ") and "≈" not in rows[0].title
    monkeypatch.setattr(attribution, "MAX_GAP", 1e-9)
    rows = probed.asked(llama, NAME, method="integrated-gradients", budget=17).panels
    assert rows[0].title.startswith("≈") and "budget of 17" in rows[0].text and "gap " in rows[0].text
    assert all(row.title.startswith("≈") for row in rows)


def test_a_cell_that_misses_most_is_halved_until_all_adds_up():
    path = torch.ones(1, 1)
    asked = []

    def sharp(vector):
        at = float(vector)
        asked.append(at)
        return float(np.tanh(80 * (at - 0.3))), torch.full((1, 1), 80 / np.cosh(80 * (at - 0.3)) ** 2)

    found = integrated_gradients(sharp, path, torch.zeros(1, 1), 0.001, 200)
    assert found.gap_share <= 0.001 and float(found.attributions) == pytest.approx(2, rel=0.002)
    assert len(asked) == len(set(asked)) == found.steps < 100
    assert sum(0.2 < at < 0.4 for at in asked) > len(asked) / 2


def test_the_path_begins_at_the_mean_embedding_and_leaves_the_first_token_out(llama):
    assert tint(probed.asked(llama, NAME, method="integrated-gradients"))[0] == 0
    architecture = llama.state.loaded.architecture
    vectors = architecture.embedding(torch.arange(architecture.vocab)).detach()
    torch.testing.assert_close(mean_embedding(architecture, vectors), vectors.mean(0))


def test_leave_one_out_is_a_plain_pass_without_each_token(llama):
    reference, ids, token, _ = plain(llama)
    model = reference.model

    def logp(text):
        with torch.no_grad():
            return float(model(text[None]).logits[0, -1].log_softmax(-1)[token])

    expected = [logp(ids) - logp(torch.cat([ids[:n], ids[n + 1 :]])) for n in range(len(ids))]
    np.testing.assert_allclose(tint(probed.asked(llama, NAME, method="leave-one-out")), expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES.split())
def test_the_default_is_a_gradient_through_the_models_own_eager_attention(family):
    with probed.written(probed.of_family(family)) as session:
        assert max(differences(session, family)) <= 1


def test_doctor_sees_a_gradient_taken_a_layer_late(llama, monkeypatch):
    honest = embedded._vectors

    def late(architecture, ids):
        return architecture.blocks[0].mlp(honest(architecture, ids)[None]).detach()[0]

    monkeypatch.setattr(embedded, "_vectors", late)
    assert max(differences(llama)) > 100


def test_a_difference_of_two_tokens_is_the_difference_of_their_values(llama):
    one, other = (tint(probed.asked(llama, NAME, token=token)) for token in (5, 9))
    np.testing.assert_allclose(tint(probed.asked(llama, NAME, token=5, against=9)), one - other, atol=1e-5)


def test_panels_are_a_note_a_tint_of_the_text_and_a_table(llama):
    answered = probed.asked(llama, NAME, k=4)
    note, text, table = answered.panels
    assert isinstance(note, Note) and text.positions == tuple(range(answered.position)) and len(table.rows) == 4
    sizes = [abs(row[2]) for row in table.rows]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == pytest.approx(max(abs(np.array(text.values))))


def test_the_deletion_test_tells_the_fall_of_the_top_tenth_and_of_random_ones(llama):
    first, again = (probed.asked(llama, NAME, method="leave-one-out", deletion=True).panels[-1] for _ in range(2))
    assert isinstance(first, Table) and first == again
    nothing, top, random = first.rows
    assert nothing[2] == 0 and top[2] > random[2] and "8 random" in first.title


def test_what_steers_the_text_steers_its_gradients():
    with probed.written(probed.of_family("llama"), n=0) as session:
        session.state.vectors = (pushed(session),)
        session.begin(Write(probed.TEXT, None, False, 3, Knobs()))
        while session.active:
            session.advance()
        sequence = session.state.run.sequence
        position, seen = sequence.n_tokens - 1, {}
        offsets = sequence.offsets[:position]
        assert any(offsets)
        token = int(sequence.ids[position])
        with embedded_text(
            session.state.loaded, session.state.instruments, sequence.ids[:position], offsets, {token: 1.0}
        ) as text:
            seen["value"], _ = text.gradient(text.vectors)
        logits = session.branches.rewinder.recompute_step(sequence, position - 1).logits
        assert seen["value"] == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-4)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("method", ["integrated-gradients", "leave-one-out", "attn-lrp"])
def test_one_that_is_given_up_leaves_the_model_as_it_was(llama, method):
    model = llama.state.loaded.model
    before = [parameter.requires_grad for parameter in model.parameters()]
    forwards = [vars(module).get("forward") for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    run = llama.state.run_of(1)
    told = []

    def give_up(done, total):
        told.append((done, total))
        if len(told) == 3:
            raise Stopped

    ask = AskProbe(NAME, 1, run.sequence.n_tokens - 1, {"method": method, "deletion": True})
    with pytest.raises(Stopped):
        answer(llama, ask, give_up)
    assert all(0 <= done < total for done, total in told)
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert [vars(module).get("forward") for module in model.modules()] == forwards
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert probed.asked(llama, "lens").panels
