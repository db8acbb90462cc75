"""Heads, attentions and feed-forward networks that are scaled: what comes of it on models of many kinds, and wherever
a text is read."""

from __future__ import annotations

from contextlib import contextmanager, suppress

import probed
import pytest
import torch
from msgspec.structs import replace
from small import endless
from small import loaded as small_model
from teller import Teller

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.sites import Site
from tui_entropy.engine.attribution.scaled_parts import scaled_part as found_part
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decomposition.block_parts import watching_blocks
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.steering.hooks import ScaledPart
from tui_entropy.engine.steering.plan import OffsetCache, Offsets, SteeringPlan, offsets_by_token, same_offsets
from tui_entropy.records.commands import Twin, Write
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane, scaled_part

WHOLE = "llama gpt2 gpt_neox opt bloom phi gemma2 gemma3_text gpt_oss olmo2 granite cohere falcon mixtral"
SPECIAL = "deepseek_v3 qwen3_5_text bamba falcon_h1 jamba gpt_neo gptj"
FAMILIES = f"{WHOLE} {SPECIAL}".split()
BLOCK = 2
IDS = torch.tensor([[5, 9, 31, 7, 12, 40]])


def offsets(*texts):
    return OffsetCache().of(SteeringPlan(tuple(map(scaled_part, texts))).at(1, ()), {})


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    loaded = probed.of_family(request.param)
    with open_instruments(loaded, graph=False) as watching:
        yield loaded, watching


@torch.inference_mode()
def added(model, *texts):
    """Logits, and what each block adds with these parts scaled."""
    loaded, watching = model
    for vector in map(scaled_part, texts):
        place = vector.blocks[0], vector.part
        watching.steering.parts[place] = found_part(loaded, watching, *place)
    with watching.nobody_looking(loaded):
        watching.steering.set(offsets(*texts))
        with watching_blocks(loaded.architecture, 6) as blocks:
            logits = forward(loaded, None, IDS)
        return logits, blocks.parts()


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("part", ["attention", "feed-forward"])
@pytest.mark.parametrize("factor", [0.0, 0.5, -2.0])
def test_a_part_adds_so_many_times_what_it_would_and_all_before_it_is_as_it_was(model, part, factor):
    name = part.replace("-", "_")
    (_, before) = added(model)
    plain = getattr(before[BLOCK - 1], name)
    if plain is None:
        with pytest.raises(UserError, match=f"block {BLOCK} has no {part}"):
            added(model, f"{BLOCK}.{part}={factor}")
        return
    _, after = added(model, f"{BLOCK}.{part}={factor}")
    close(getattr(after[BLOCK - 1], name), plain * factor)
    close(after[BLOCK - 1].stream, before[BLOCK - 1].stream)
    close(after[BLOCK - 2].output, before[BLOCK - 2].output)
    if part == "feed-forward" and before[BLOCK - 1].attention is not None:
        close(after[BLOCK - 1].attention, before[BLOCK - 1].attention)


def test_all_heads_ablated_leave_of_an_attention_what_it_adds_of_itself_and_each_changes_its_own(model):
    loaded, _ = model
    n_heads = loaded.architecture.n_heads
    try:
        _, parts = added(model, *[f"{BLOCK}.{head}" for head in range(1, n_heads + 1)])
    except UserError as reason:
        assert "cannot be told apart" in str(reason)
        assert loaded.architecture.attention_modules[BLOCK - 1] is None or "gpt" in loaded.model.config.model_type
        return
    rows = parts[BLOCK - 1].attention
    if "mamba" not in "".join(dict(loaded.architecture.blocks[BLOCK - 1].named_children())):
        close(rows, rows[:1].expand_as(rows))  # a bias, or nothing: the same at each position
    each = [added(model, f"{BLOCK}.{head}")[0] for head in range(1, n_heads + 1)]
    plain, _ = added(model)
    assert all(not torch.equal(one, plain) for one in each)
    close(added(model, f"{BLOCK}.1=1")[0], plain)


def test_a_model_that_is_left_has_no_hook_of_it(model):
    loaded, watching = model
    before = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in loaded.model.modules()]
    with pytest.raises(UserError):
        found_part(loaded, watching, BLOCK, "99")
    with pytest.raises(UserError, match="there is no block 9"):
        found_part(loaded, watching, 9, "attention")
    with suppress(UserError):
        added(model, f"{BLOCK}.attention")
    assert before == [len(one._forward_hooks) + len(one._forward_pre_hooks) for one in loaded.model.modules()]


def test_a_family_whose_blocks_do_not_only_add_says_so():
    loaded = probed.of_family("bert")
    with open_instruments(loaded, graph=False) as watching, pytest.raises(UserError, match="is no sum"):
        found_part(loaded, watching, 1, "attention")


@pytest.mark.parametrize(
    ("family", "path"), [("llama", "self_attn.o_proj"), ("gpt2", "attn.c_proj"), ("gpt_oss", "self_attn.o_proj")]
)
def test_a_head_is_its_columns_of_what_the_output_projection_is_given(family, path):
    loaded = probed.of_family(family)
    with open_instruments(loaded, graph=False) as watching, torch.inference_mode():
        actual, _ = added((loaded, watching), "3.2=0.25")
    matrix = loaded.architecture.blocks[2].get_submodule(path)

    def scale(module, args):
        given = args[0].clone()
        width = given.shape[-1] // loaded.architecture.n_heads
        given[..., width : 2 * width] *= 0.25
        return (given, *args[1:])

    hook = matrix.register_forward_pre_hook(scale)
    with torch.inference_mode():
        expected = loaded.model(IDS, use_cache=False).logits[:, -1]
    hook.remove()
    close(actual, expected)


# --- The plan ------------------------------------------------------------------------------------------------


def test_a_part_is_a_value_of_the_plan_like_a_vector():
    once, again = offsets("2.3=0.5"), offsets("2.3=0.5")
    assert once and same_offsets(once, again) and not same_offsets(once, offsets("2.3=0.25"))
    assert not same_offsets(once, {}) and not offsets("2.3=1") and same_offsets(offsets("2.3=1"), {})
    each = offsets_by_token([{}, once, offsets("2.attention")])
    assert isinstance(each, Offsets) and {place: scale.tolist() for place, scale in each.scales.items()} == {
        (2, "3"): [1.0, 0.5, 1.0],
        (2, "attention"): [1.0, 1.0, 0.0],
    }


def test_a_schedule_goes_from_leaving_it_to_its_factor():
    vector = replace(scaled_part("2.3=0"), schedule=((1, 0.0), (5, 1.0)))
    assert [vector.strength_at(step) for step in (1, 2, 3, 5, 9)] == [1.0, 0.75, 0.5, 0.0, 0.0]
    assert SteeringPlan((vector,)).at(1, ()) == () and SteeringPlan((vector,)).at(2, ())[0].strength == 0.75


@pytest.mark.parametrize(
    "text", ["", "3", "3.", "3.0", "x.1", "3.mlp", "3.1=x", "3.1=nan", "3.1=inf", "3.1=1e9", "-1.2"]
)
def test_what_names_no_part_is_refused(text):
    with pytest.raises(ValueError, match="wanted BLOCK"):
        scaled_part(text)


# --- A text --------------------------------------------------------------------------------------------------


@contextmanager
def writing(family="llama", **more):
    loaded = endless(small_model(family))
    with open_instruments(loaded, **more) as watching:
        yield Teller(loaded, watching)


def test_it_acts_from_the_next_token_on_is_told_and_a_visit_has_the_same_numbers():
    with writing() as teller:
        teller.write(5)
        teller.session.set_vector(scaled_part("2.attention=0"))
        teller.write(10)
        teller.session.set_vector(replace(scaled_part("2.attention"), on=False))
        teller.write(5)
        changes = teller.log.run.vector_changes[1:]
        told = [(at.index, [one.name for one in at.vectors if one.on]) for at in changes]
        assert told == [(5, []), (5, ["2.attention"]), (15, [])]
        sequence = teller.session.state.sequence
        steps = list(teller.log.steps)
        for step in (3, 9, 17):
            seen = teller.session.branches.rewinder.recompute_step(sequence, sequence.n_prompt + step - 1).logits
            logp = seen.log_softmax(-1)[steps[step].token_id]
            assert float(-logp) == pytest.approx(steps[step].surprisal, abs=1e-5)
        assert torch.equal(
            teller.session.branches.rewinder.recompute_step(sequence, sequence.n_read - 1).logits, sequence.logits
        )


def test_going_back_to_before_it_and_on_again_writes_the_same():
    with writing() as teller:
        teller.write(4)
        teller.session.set_vector(scaled_part("2.feed-forward=-1"))
        first = teller.write(12)
        teller.branch(8)
        assert teller.write(8) == first[4:]


def test_a_twin_without_it_writes_what_a_text_without_it_does():
    with writing() as alone:
        plain = alone.write(20)
    with writing() as teller:
        teller.session.set_vector(scaled_part("2.attention=-3"))
        off = tuple(replace(one, on=False) for one in teller.session.state.vectors)
        teller.session.begin_twin(Twin(1, 0, Lane("no vectors", vectors=off)))
        for _ in range(40):
            teller.session.advance()
        runs = teller.log.runs
        twin = next(run for run in runs.values() if run.started.twin_of)
        assert [step.token_id for step in twin.steps][:20] == plain
        first = [step.token_id for step in runs[twin.started.twin_of].steps][:20]
        assert first != plain
    with writing() as teller:
        teller.session.set_vector(scaled_part("2.attention=-3"))
        assert teller.write(20) == first


def test_a_shadow_without_it_thinks_otherwise_and_one_under_it_the_same():
    for on in (False, True):
        with writing() as teller:
            teller.session.set_vector(scaled_part("1.3=4"))
            lane = tuple(replace(one, on=on and one.name == "1.3") for one in teller.session.state.vectors)
            teller.session.set_shadow(Lane("x", vectors=lane))
            teller.write(6)
            differ = [step.shadow.kl for step in teller.log.steps]
            assert max(differ) < 1e-6 if on else min(differ) > 0


def test_the_way_of_a_graph_is_left_while_a_part_is_scaled():
    texts = []
    for graph in (False, True):
        with writing(graph=graph) as teller:
            text = teller.write(4)
            teller.session.set_vector(scaled_part("2.attention=0"))
            text += teller.write(8)
            teller.session.set_vector(replace(scaled_part("2.attention"), on=False))
            texts.append(text + teller.write(4))
    assert texts[0] == texts[1]


def test_each_token_of_a_pass_can_have_a_factor_of_its_own():
    loaded = probed.of_family("openai-gpt")
    scaled, none = offsets("2.1=0.5"), {}
    with open_instruments(loaded, graph=False) as watching, torch.inference_mode():
        with pytest.raises(UserError, match="cannot be told apart"):
            found_part(loaded, watching, 2, "1")
        matrix = loaded.architecture.blocks[1].attn.c_proj
        watching.steering.parts[2, "1"] = ScaledPart((Site(matrix, False),), slice(0, 8))
        watching.steering.set(offsets_by_token([none, none, scaled, scaled, none, scaled]))
        actual = loaded.model(IDS).logits[0]

        def scale(module, args):
            given = args[0].clone()
            given[:, [2, 3, 5], :8] *= 0.5
            return (given,)

        watching.steering.set(none)
        hook = matrix.register_forward_pre_hook(scale)
        close(actual, loaded.model(IDS).logits[0])
        hook.remove()


def test_a_part_that_there_is_not_is_refused_and_nothing_changes():
    with writing() as teller:
        teller.write(2)
        before = teller.session.state.vectors
        for text in ("9.1", "2.77"):
            with pytest.raises(UserError):
                teller.session.set_vector(scaled_part(text))
        with pytest.raises(UserError, match="no part that is scaled"):
            teller.session.set_vector(replace(scaled_part("2.1"), part="mlp", name="y", source="y"))
        assert teller.session.state.vectors == before
        teller.write(2)


def test_probes_see_the_model_as_it_was_when_it_chose_the_token():
    with probed.written(probed.of_family("llama"), n=4) as session:
        session.set_vector(scaled_part("2.attention=0.5"))
        session.begin(Write(probed.TEXT, None, False, 6, Knobs()))
        while session.active:
            session.advance()
        number = session.state.run_number
        sequence = session.state.run_of(number).sequence
        position = sequence.n_tokens - 1
        seen = session.branches.rewinder.recompute_step(sequence, position - 1).logits.log_softmax(-1)
        patched = answer(session, AskProbe("patching", number, position))
        token = int(sequence.ids[position])
        assert patched.panels[0].rows[0][1] == pytest.approx(float(seen[token].exp()), rel=1e-4)
        direct = answer(session, AskProbe("logit-attribution", number, position))
        assert direct.unavailable is None
        told = {row[0]: row[1] for row in direct.panels[0].rows}
        assert abs(told["remainder"]) <= 1e-4 * max(abs(told["logit"]), 1)
        attribution = answer(session, AskProbe("attribution", number, position))
        assert attribution.unavailable is None
