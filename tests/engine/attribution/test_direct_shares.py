"""Direct logit attribution: what is told of parts adds up, on models of many kinds, and equals plain passes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import probed
import pytest
import tiny
import torch
from shadow_models import pushed

from tui_entropy.core.errors import UserError
from tui_entropy.engine.attribution import direct
from tui_entropy.engine.attribution.direct import direct_shares
from tui_entropy.engine.attribution.pass_record import heard_parts
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.library.stream import logit_attribution
from tui_entropy.engine.verify.checks.probes import Evidence
from tui_entropy.engine.verify.evidence.compare import allowed, gap
from tui_entropy.records.commands import Write
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.panels import Bars, Heatmap, Table, TintedText
from tui_entropy.records.sampling import Knobs

NAME = "logit-attribution"
DENSE = "llama gpt2 gpt_neo gpt_neox opt phi qwen3 mistral olmo starcoder2 stablelm nemotron openai-gpt"
SPECIAL = "gemma2 gemma3 gpt_oss olmo2 exaone4 glm4 granite cohere gptj falcon mixtral deepseek_v3"
"""Soft caps, sinks, norms behind parts, multipliers, both parts at once, mixtures, latent attention."""
HYBRID = "hybrid jamba falcon_h1 granitemoehybrid lfm2 mamba"
FAMILIES = f"{DENSE} {SPECIAL} {HYBRID}".split()


@pytest.fixture(scope="module", params=FAMILIES)
def session(request):
    with probed.written(probed.of_family(request.param)) as session:
        yield session


@pytest.fixture(scope="module")
def llama():
    with probed.written(probed.of_family("llama")) as session:
        yield session


def taken_apart(session, position=None, token=5):
    sequence = session.state.run_of(1).sequence
    position = sequence.n_tokens - 1 if position is None else position
    rewinder = session.branches.rewinder
    with (
        torch.inference_mode(),
        heard_parts(session.state.loaded.architecture, values=True) as record,
        rewinder.replay(sequence, position - 1, position) as then,
    ):
        pass
    with torch.inference_mode():
        return record, then, direct_shares(record, then.logits, {token: 1.0}, {})


def evidence_of(session):
    sequence = session.state.run_of(1).sequence
    position = sequence.n_tokens - 1
    step = SimpleNamespace(token_id=int(sequence.ids[position]))
    return Evidence(session.state.loaded, sequence.ids, position, step)


def differences(session, probe, answer):
    """Of each number that doctor compares: how far it is off, as a share of what is allowed."""
    with torch.inference_mode():
        found = list(probe.check(answer, evidence_of(session)))
    return [gap(one, other) / allowed(torch.float32, size) for one, other, size in found]


def sums(answer):
    return {row[0]: row[1] for row in answer.panels[0].rows}


def test_all_parts_sum_to_the_logit(session):
    answer = probed.asked(session, NAME)
    told = sums(answer)
    assert answer.unavailable is None
    assert abs(told.pop("remainder")) <= 1e-4 * max(abs(logit := told.pop("logit")), 1)
    assert sum(told.values()) == pytest.approx(logit, abs=1e-4)


def test_each_block_adds_what_its_output_has_more_than_its_input_in_a_plain_pass(session):
    assert max(differences(session, logit_attribution.PROBE, probed.asked(session, NAME))) <= 1


@torch.inference_mode()
def test_the_outputs_of_heads_sum_to_that_of_their_attention_and_their_shares_to_its_share(session):
    _, _, shares = taken_apart(session)
    for heads in shares.heads:
        biases = [getattr(matrix, "bias", None) for matrix in heads.matrices]
        bias = torch.stack([torch.zeros_like(heads.whole[0]) if one is None else one for one in biases])
        torch.testing.assert_close(heads.outputs.sum(1) + bias, heads.whole, atol=1e-4, rtol=1e-4)
        attention = torch.tensor([shares.attention[block - 1] for block in heads.blocks])
        torch.testing.assert_close(
            (heads.shares.sum(-1) + heads.bias_shares).float(), attention, atol=1e-5, rtol=1e-4
        )
        norms = torch.linalg.vector_norm(heads.outputs, dim=-1)
        torch.testing.assert_close(heads.norm_shares, norms / norms.sum(-1, keepdim=True), atol=1e-5, rtol=1e-3)
        along = torch.einsum("md,md->m", bias, heads.whole) / heads.whole.square().sum(-1)
        torch.testing.assert_close(heads.signed_shares.sum(-1) + along, torch.ones(len(bias)), atol=1e-4, rtol=1e-4)


WITH_HEADS = set(FAMILIES) - {"gpt_neo", "gptj", "openai-gpt", "falcon", "mamba"}
"""Those that ask the library for their attention function in one block at least."""


def test_heads_are_told_apart_where_attention_has_any(session, request):
    family = request.node.callspec.params["session"]
    assert bool(taken_apart(session)[2].heads) == (family in WITH_HEADS)


@torch.inference_mode()
def test_a_head_split_over_the_tokens_that_it_looked_at_sums_to_its_share(session):
    record, then, shares = taken_apart(session)
    weights = logit_attribution.newest_weights(session.state.instruments.attention, then.attention_state)
    for heads in shares.heads:
        for block, toward, own in zip(heads.blocks, heads.toward, heads.shares, strict=True):
            split = direct_by_source(record, block, toward, weights[block])
            torch.testing.assert_close(split.sum(-1), own, atol=1e-5, rtol=1e-5)


def direct_by_source(record, block, toward, weights):
    return logit_attribution.by_source(record.blocks[block - 1], toward, weights)


@pytest.mark.parametrize("family", ["gemma3n", "bloom", "bert"])
def test_a_model_whose_logits_are_no_such_sum_says_why(family, monkeypatch):
    monkeypatch.setitem(tiny.FAMILIES, "gemma3n", tiny.gemma3n)
    with probed.written(probed.of_family(family)) as session:
        told = probed.asked(session, NAME)
        assert not told.panels and len(told.unavailable) > 30


def test_a_difference_of_two_candidates_is_the_difference_of_their_parts(llama):
    one, other = (probed.asked(llama, NAME, token=token) for token in (5, 9))
    both = probed.asked(llama, NAME, token=5, against=9)
    told = sums(both)
    assert told.pop("difference of logits") == pytest.approx(sums(one)["logit"] - sums(other)["logit"], abs=1e-5)
    for part, share in told.items():
        assert share == pytest.approx(sums(one)[part] - sums(other)[part], abs=1e-5)
    assert both.panels[0].columns[1].unit == "nats"


def test_what_steers_is_a_part_of_its_own():
    loaded = probed.of_family("llama")
    with probed.written(loaded, n=0) as session:
        session.state.vectors = (pushed(session),)
        session.begin(Write(probed.TEXT, None, False, 3, Knobs()))
        while session.active:
            session.advance()
        run = session.state.run
        assert run.sequence.offsets[-1]
        told = sums(answer(session, AskProbe(NAME, run.number, run.sequence.n_tokens - 1)))
    assert abs(told["vectors that steer"]) > 1e-3 and abs(told["remainder"]) < 1e-4


def test_panels_are_a_sum_the_largest_parts_heat_maps_and_bars(llama):
    answer = probed.asked(llama, NAME, k=3)
    kinds = [type(panel) for panel in answer.panels]
    assert kinds == [Table, Table, Heatmap, Heatmap, Heatmap, Bars, Bars]
    _, largest, adds, takes, norms, *_ = answer.panels
    sizes = [abs(row[1]) for row in largest.rows[:3]]
    assert sizes == sorted(sizes, reverse=True) and largest.rows[3][0].endswith("others")
    assert sum(row[1] for row in largest.rows) == pytest.approx(sums(answer)["logit"] - sums(answer)["remainder"])
    assert sum(row[2] for row in largest.rows) == pytest.approx(1)
    np.testing.assert_allclose(adds.values.numpy(), -takes.values.numpy())
    np.testing.assert_allclose(norms.values.numpy().sum(1), 1, atol=1e-5)
    assert "norm" in norms.title
    assert "cosine" in probed.asked(llama, NAME, measure="cosine").panels[4].title


def test_the_split_over_tokens_is_a_table_and_a_tint_of_the_text(llama):
    answer = probed.asked(llama, NAME, sources=True, block=2, head=3)
    _, table, tint, *_ = answer.panels
    assert isinstance(table, Table) and isinstance(tint, TintedText)
    assert {row[0] for row in table.rows} == {"block 2 head 3"}
    head = answer.panels[4].values.numpy()[1, 2]
    assert sum(tint.values) == pytest.approx(head, abs=1e-5)
    assert tint.positions == tuple(range(answer.position))


def test_a_token_that_there_is_not_is_refused_in_a_sentence(llama):
    for options in ({"token": 10**6}, {"token": 5, "against": 5}):
        with pytest.raises(UserError):
            probed.asked(llama, NAME, **options)
    assert probed.asked(llama, NAME, sources=True, block=2, head=99).unavailable


def test_doctor_sees_a_block_taken_for_the_next(llama, monkeypatch):
    honest = direct.put_together

    def off_by_one(record, offsets):
        read, parts = honest(record, offsets)
        n = len(record.blocks)
        return read, [part._replace(block=part.block % n + 1) if part.block else part for part in parts]

    monkeypatch.setattr(direct, "put_together", off_by_one)
    assert max(differences(llama, logit_attribution.PROBE, probed.asked(llama, NAME))) > 100


def test_a_token_is_named_by_its_text_or_its_id(llama):
    tokenizer = llama.state.loaded.tokenizer
    texts = (tokenizer.token_bytes(n).decode() for n in range(6, 96))
    text = next(text for text in texts if tokenizer.encode_single_token(text) not in (None, 5))
    number = tokenizer.encode_single_token(text)
    by_text = probed.asked(llama, NAME, token=5, against=text)
    by_id = probed.asked(llama, NAME, token=5, against=number)
    by_sign = probed.asked(llama, NAME, token=5, against=f"#{number}")
    assert by_text.panels == by_id.panels == by_sign.panels
    with pytest.raises(UserError, match="against is 'no such word', which is no single token of this model"):
        probed.asked(llama, NAME, against="no such word")
