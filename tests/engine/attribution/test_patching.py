"""States put into a text: laws that hold on models of many kinds, and passes by other means that say the same."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import probed
import pytest
import torch
from shadow_models import pushed

from tui_entropy.core.errors import UserError
from tui_entropy.engine.attribution import patching as mechanism
from tui_entropy.engine.attribution.patching import Cell, PatchedText, read_states, sites
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.library.stream import patching
from tui_entropy.engine.probes.probe import ProbeCancelled
from tui_entropy.engine.verify.checks.probes import Evidence
from tui_entropy.engine.verify.evidence.compare import allowed, gap
from tui_entropy.records.commands import Branch
from tui_entropy.records.probes.ask import AskProbe

DENSE = "llama gpt2 gpt_neox opt bloom phi gemma2 gemma3_text gpt_oss olmo2 granite cohere falcon mixtral"
SPECIAL = "deepseek_v3 qwen3_5_text bamba mamba falcon_h1 jamba bert openai-gpt gemma4_text"
FAMILIES = f"{DENSE} {SPECIAL}".split()
"""Dense, both parts at once, soft caps, sinks, norms behind parts, multipliers, mixtures, states in place of keys, no
cache, and blocks that cannot be left out since others use their keys."""
CLEAN, CORRUPTED = [5, 9, 31, 7, 12, 40, 8, 3], [5, 9, 88, 7, 12, 61, 8, 3]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    loaded = probed.of_family(request.param)
    with open_instruments(loaded, graph=False) as watching:
        yield loaded, watching


def states(model, ids, place="block", n=8, offsets=None):
    return read_states(*model, torch.tensor(ids), offsets or [{}] * len(ids), n, place)


@torch.inference_mode()
def plain(model, ids):
    loaded, _ = model
    return loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def close(one, other):
    torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


def put(model, there, here, layer, cells, place="block"):
    """cells: (row, position there, position here)."""
    taken = [here.states[site][[at for *_, at in cells]] for site in sites(model[0].architecture, layer, place)]
    return PatchedText(*model, there).logits(layer, place, taken, [Cell(row, position) for row, position, _ in cells])


def test_all_positions_of_a_layer_of_the_clean_text_make_the_other_say_what_the_clean_one_says(model):
    clean, corrupted = states(model, CLEAN), states(model, CORRUPTED)
    close(clean.logits, plain(model, CLEAN)[-1])
    n_layers = model[0].architecture.n_layers
    beside = model[0].model.config.model_type == "gemma4_text"  # its blocks read more than the stream
    for layer in (n_layers,) if beside else range(n_layers + 1):
        (row,) = put(model, corrupted, clean, layer, [(0, at, at) for at in range(8)])
        close(row, clean.logits)


def test_a_state_put_where_it_is_already_changes_nothing(model):
    corrupted = states(model, CORRUPTED)
    for layer in range(model[0].architecture.n_layers + 1):
        for row in put(model, corrupted, corrupted, layer, [(at, at, at) for at in range(8)]):
            close(row, corrupted.logits)


def test_the_last_state_of_the_last_layer_is_what_the_text_says_there_and_no_other_is_looked_at(model):
    clean, corrupted = states(model, CLEAN), states(model, CORRUPTED)
    every = plain(model, CLEAN)
    rows = put(model, corrupted, clean, model[0].architecture.n_layers, [(at, 7, at) for at in range(8)])
    close(rows, every)
    for row in put(model, corrupted, clean, model[0].architecture.n_layers, [(at, at, at) for at in range(7)]):
        close(row, corrupted.logits)


def test_positions_before_those_that_were_kept_are_of_no_account(model):
    """Of a long text only the newest states are kept."""
    clean, corrupted = states(model, CLEAN, n=3), states(model, CORRUPTED, n=3)
    n = clean.n_kept
    close(
        put(model, corrupted, clean, 2, [(0, 7, n - 1)]),
        put(model, *[states(model, one) for one in (CORRUPTED, CLEAN)], 2, [(0, 7, 7)]),
    )


PARTS = {
    "llama": ("self_attn", "mlp"),
    "gpt2": ("attn", "mlp"),
    "gemma2": ("self_attn", "mlp"),
    "cohere": ("self_attn", "mlp"),
    "gpt_neox": ("attention", "mlp"),
    "olmo2": ("self_attn", "mlp"),
    "falcon": ("self_attention", "mlp"),
}


@pytest.mark.parametrize("family", PARTS)
@pytest.mark.parametrize("place", ["attention", "feed-forward"])
def test_a_part_that_is_put_in_is_what_a_module_puts_out_in_a_plain_pass(family, place):
    loaded = probed.of_family(family)
    name = PARTS[family][place == "feed-forward"]
    with torch.inference_mode():
        seen = {}
        with ExitStack() as hooks:
            for block in loaded.architecture.blocks:
                part = getattr(block, name)
                hook = part.register_forward_hook(
                    lambda at, _, out: seen.update({at: (out if isinstance(out, torch.Tensor) else out[0]).clone()})
                )
                hooks.callback(hook.remove)
            plain((loaded, None), CLEAN)
        with open_instruments(loaded, graph=False) as watching:
            model = loaded, watching
            clean, corrupted = states(model, CLEAN, place), states(model, CORRUPTED, place)
            for layer in range(1, loaded.architecture.n_layers + 1):
                rows = put(model, corrupted, clean, layer, [(row, at, at) for row, at in enumerate((2, 5, 7))], place)
                for row, at in zip(rows, (2, 5, 7), strict=True):
                    part = getattr(loaded.architecture.blocks[layer - 1], name)

                    def instead(module, _, out, at=at, part=part):
                        vectors = (out if isinstance(out, torch.Tensor) else out[0]).clone()
                        vectors[:, at] = seen[part][:, at]
                        return vectors if isinstance(out, torch.Tensor) else (vectors, *out[1:])

                    hook = part.register_forward_hook(instead)
                    expected = plain(model, CORRUPTED)[-1]
                    hook.remove()
                    close(row, expected)


# --- The probe -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session():
    with probed.written(probed.of_family("llama"), n=8) as session:
        yield session


def differences(session, found):
    sequence = session.state.run_of(1).sequence
    position = sequence.n_tokens - 1
    evidence = Evidence(
        session.state.loaded, sequence.ids, position, SimpleNamespace(token_id=int(sequence.ids[position]))
    )
    with torch.inference_mode():
        return max(gap(a, b) / allowed(torch.float32, size) for a, b, size in patching.PROBE.check(found, evidence))


@pytest.mark.parametrize("family", FAMILIES)
def test_doctor_finds_the_grid_of_every_family_right(family):
    with probed.written(probed.of_family(family)) as session:
        found = probed.asked(session, "patching")
        assert found.unavailable is None
        assert differences(session, found) <= 1


def test_doctor_finds_out_a_state_that_is_put_in_a_layer_too_high(session, monkeypatch):
    honest = mechanism.sites

    def shifted(architecture, layer, place):
        return honest(architecture, min(layer + 1, architecture.n_layers), place)

    monkeypatch.setattr(patching, "sites", shifted)
    assert differences(session, probed.asked(session, "patching")) > 1


def test_a_model_whose_stream_is_several_says_why_there_is_no_such_answer():
    with probed.written(probed.of_family("gemma3n_text")) as session:
        assert "several side by side" in probed.asked(session, "patching").unavailable
    with probed.written(probed.of_family("bert")) as session:
        assert "is no sum" in probed.asked(session, "patching", at="attention").unavailable


def test_another_prompt_stands_before_what_was_written_and_what_both_have_is_not_put_in(session):
    found = probed.asked(session, "patching", into="a keeper of the night", before=63)
    table, grid, *_ = found.panels
    sequence, tokenizer = session.state.run_of(1).sequence, session.state.loaded.tokenizer
    prompt = tokenizer.encode("a keeper of the night", None, False)
    other = prompt + sequence.written[:-1].tolist()
    logits = plain((session.state.loaded, None), other)[-1]
    token = int(sequence.ids[-1])
    assert table.rows[1][1] == pytest.approx(float(logits.softmax(-1)[token]), rel=1e-4)
    first = next(at for at, (a, b) in enumerate(zip(sequence.ids.tolist(), other, strict=False)) if a != b)
    values = grid.values.numpy()
    shared = len(prompt) == sequence.n_prompt
    assert shared and (values[:, : first - (found.position - grid.columns.n)] == table.rows[1][1]).all()
    assert values[0, -1] == pytest.approx(table.rows[0][1], rel=1e-4)


def test_texts_of_other_lengths_are_laid_side_by_side_from_their_ends_and_it_is_said(session):
    found = probed.asked(session, "patching", into="keeper of a dark and a long night", before=1)
    assert found.panels[-1].title == "positions are counted from the end"
    assert found.panels[1].values.numpy()[0, -1] == pytest.approx(found.panels[0].rows[0][1], rel=1e-4)


def test_a_difference_of_two_tokens_is_that_of_their_logits(session):
    sequence = session.state.run_of(1).sequence
    logits = plain((session.state.loaded, None), sequence.ids[:-1].tolist())[-1]
    table, grid, *_ = probed.asked(session, "patching", token=5, against=9).panels
    assert grid.unit == "nats" and table.rows[0][1] == pytest.approx(float(logits[5] - logits[9]), abs=1e-4)
    assert grid.values.numpy()[0, -1] == table.rows[0][1]  # the newest state is there already


def test_another_run_of_the_tree_has_the_states_put_in(session):
    session.branch(Branch(1, 2, token_ids=(77,)))
    while session.active:
        session.advance()
    found = probed.asked(session, "patching", into="#2")
    other = session.state.run_of(2).sequence.ids[: found.position].tolist()
    logits = plain((session.state.loaded, None), other)[-1]
    token = int(session.state.run_of(1).sequence.ids[found.position])
    assert found.panels[0].rows[1][:2] == ("run 2", pytest.approx(float(logits.softmax(-1)[token]), rel=1e-4))
    with pytest.raises(UserError, match="there is no run 7"):
        probed.asked(session, "patching", into="#7")


def test_what_cannot_be_put_in_is_told_in_a_sentence(session):
    with pytest.raises(UserError, match="source is 900, and the text before this token has positions 0 to"):
        probed.asked(session, "patching", source=900)
    with pytest.raises(UserError, match="shorten it"):
        probed.asked(session, "patching", into="keeper " * 3000)


def test_given_up_it_leaves_the_model_as_it_was_found(session):
    blocks = session.state.loaded.architecture.blocks
    hooks = [(len(block._forward_hooks), len(block._forward_pre_hooks)) for block in blocks]
    told = []

    def progress(done, total):
        told.append(done / total)
        if len(told) == 3:
            raise ProbeCancelled

    position = session.state.run_of(1).sequence.n_tokens - 1
    with pytest.raises(ProbeCancelled):
        answer(session, AskProbe("patching", 1, position, {}), progress)
    assert told == sorted(told) and told[-1] < 1
    assert hooks == [(len(block._forward_hooks), len(block._forward_pre_hooks)) for block in blocks]
    assert not any("forward" in vars(block) for block in blocks)


def test_a_text_that_was_steered_is_read_under_what_its_tokens_were_read_under():
    loaded = probed.of_family("llama")
    with probed.written(loaded, n=3) as session:
        pushed(session)
        session.branch(Branch(1, 1))
        while session.active:
            session.advance()
        number = session.state.run_number
        sequence = session.state.run_of(number).sequence
        position = sequence.n_tokens - 1
        told = answer(session, AskProbe("patching", number, position, {"token": 5}))
        seen = session.branches.rewinder.recompute_step(sequence, position - 1).logits
        assert told.panels[0].rows[0][1] == pytest.approx(float(seen.softmax(-1)[5]), rel=1e-3)
        grid = told.panels[1]
        assert grid.values.numpy()[:, -1] == pytest.approx(told.panels[0].rows[0][1], rel=1e-3)
        assert len({*map(id, sequence.offsets)}) > 1
