"""Probes asked and vectors set from Python."""

import math

import numpy as np
import pandas
import pytest
import torch
from made_panels import HOSTILE, diagram, panels, token_map
from scripted import step

from tui_entropy import Inspector, UserError
from tui_entropy.api.answers import Answer
from tui_entropy.engine.probes.registry import PROBES
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.state.session_view import SessionView

PROMPT = "ABCDEFGHIJ"


def test_an_answer_has_its_numbers_as_arrays_and_knows_what_it_was_asked(inspector):
    run = inspector.generate(PROMPT, max_tokens=6)
    for position in (None, -1, run[5], 15):
        answer = run.probe("lens", position, k=np.int64(2), before=1)
        assert answer.position == 15 and answer.name == "lens" and answer.options["k"] == 2
    grid = answer[0]
    assert grid.kind == "heatmap" and grid.values.shape == grid.tokens.shape == (len(grid.rows), len(grid.columns))
    assert grid.values.dtype == np.float32 and grid.to_pandas().shape == grid.values.shape
    assert len(answer) == len(list(answer)) == len(answer.panels) and answer.unavailable is None
    assert [one.name for one in run.answers] == ["lens"] and inspector.probe("lens", before=0).position == 15
    with torch.inference_mode():
        hidden = inspector.model(torch.tensor([[*run.prompt_ids, *run.token_ids[:5]]]), output_hidden_states=True)
    last = hidden.logits[0, -1].softmax(-1)
    assert float(last.max()) == pytest.approx(float(grid.values[0, -1]), abs=1e-5)


def test_of_a_run_that_is_not_written_yet_what_comes_next_can_be_asked_about(inspector):
    run = inspector.write(PROMPT, max_tokens=6)
    assert run.probe("lens").position == 10 and len(run) == 0
    other = inspector.generate("XYZ", max_tokens=3)
    assert run.probe("logit-attribution", 4).position == 4 and inspector.run is other
    assert len(run.finish()) == 6


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda run: run.probe("lense"), "there is no probe 'lense': did you mean lens\\?"),
        (lambda run: run.probe("lens", depth=3), "lens has no option 'depth': it has k,"),
        (lambda run: run.probe("lens", k=0), "k of lens cannot be 0"),
        (lambda run: run.probe("attention-rollout", residual=math.nan), "residual cannot be nan: give a number"),
        (lambda run: run.probe("lens", position=99), "position is 99 but must be a whole number between -16 and 16"),
        (lambda run: run.probe("lens", position="first"), "position is 'first'"),
        (lambda run: run.probe("lens", position=0), "no token at position 0 that something was read before"),
        (lambda run: run.probe("lens")[1]["rang"], "there is no column 'rang' in this table: it has layer"),
        (lambda run: run.visit(6), "has 6 steps, so there is no step 6"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(inspector, ask, said):
    run = inspector.generate(PROMPT, max_tokens=6)
    with pytest.raises(UserError, match=said):
        ask(run)


def test_where_a_model_has_no_answer_it_says_why_and_that_is_recorded(inspector):
    run = inspector.generate(PROMPT, max_tokens=2)
    with pytest.raises(UserError, match=r"continuations has no answer about position 3: .*prompt"):
        run.probe("continuations", 3)
    assert [one.unavailable is None for one in run.answers] == [False] and "no answer" in repr(run.answers[0])


def test_every_probe_has_a_name_to_be_asked_by(inspector):
    assert list(inspector.probes) == [probe.name for probe in PROBES] and all(inspector.probes.values())


@pytest.mark.parametrize(
    "record",
    [*panels(HOSTILE), token_map(HOSTILE), diagram(HOSTILE), step(0)],
    ids=lambda record: type(record).__name__,
)
def test_each_kind_of_panel_has_a_name_a_table_and_a_drawing(record):
    answer = Answer(ProbeAnswer("made", 1, 1, {}, (record,)), SessionView())
    (panel,) = answer
    drawn = answer.show(unit="bits").html
    assert panel.kind in repr(panel) and not any(odd in drawn for odd in ("<script", "<img src=x", "\x1b", "\u202e"))
    if panel.kind in ("note", "step"):
        with pytest.raises(UserError, match=f"a {panel.kind} has no array"):
            panel.to_pandas()
        return
    assert isinstance(panel.to_pandas(), pandas.DataFrame) and len(panel.values) == len(panel.to_pandas())
    if panel.kind == "table":
        assert panel["share"].tolist() == [0.25, 1.0] and panel.units["share"] == "share" and panel["any"][0]


# --- Vectors -------------------------------------------------------------------------------------------------


def directions(inspector, seed=5):
    return np.random.default_rng(seed).normal(size=inspector.card.d_model)


def steered_entropy(inspector, ids, pushes):
    """Of the token behind these, by a plain pass with what is added put on by hand."""
    blocks = inspector.loaded.architecture.blocks

    def adding(push):
        def hook(module, inputs, output):
            hidden = output if isinstance(output, torch.Tensor) else output[0]
            return hidden + push if isinstance(output, torch.Tensor) else (hidden + push, *output[1:])

        return hook

    hooks = [
        blocks[block - 1].register_forward_hook(adding(torch.tensor(push).float())) for block, push in pushes.items()
    ]
    try:
        with torch.inference_mode():
            logp = inspector.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    finally:
        for hook in hooks:
            hook.remove()
    return float(-(logp.exp() * logp).sum())


def test_an_array_steers_as_what_is_added_by_hand(llama):
    with Inspector(llama, temperature=0) as inspector:
        push, n = directions(inspector), inspector.card.n_layers
        plain = inspector.generate(PROMPT, max_tokens=1)
        expected = {}
        for name, value, layers, pushes in (
            ("one", push, 2, {2: 1.5 * push}),
            ("tensor", torch.tensor(push), (2, 3), {2: 1.5 * push, 3: 1.5 * push}),
            ("each", np.tile(push, (n, 1)), None, {block: 1.5 * push for block in range(1, n + 1)}),
            ("map", {1: push, 3: -push}, None, {1: 1.5 * push, 3: -1.5 * push}),
        ):
            vector = inspector.steer(value, 1.5, layers=layers, name=name)
            assert (vector.name, vector.on, vector.strength, vector.blocks) == (name, True, 1.5, tuple(pushes))
            run = inspector.generate(PROMPT, max_tokens=1)
            inspector.unsteer(name)
            expected[name] = run.entropy[0]
        assert not any(vector.on for vector in inspector.vectors)
        again = inspector.generate(PROMPT, max_tokens=1)
    with Inspector(llama, temperature=0) as inspector:
        inspector.close()
        for name, pushes in {"one": {2: 1.5 * push}, "map": {1: 1.5 * push, 3: -1.5 * push}}.items():
            by_hand = steered_entropy(inspector, plain.prompt_ids.tolist(), pushes)
            assert expected[name] == pytest.approx(by_hand, abs=1e-4)
            assert abs(by_hand - plain.entropy[0]) > 1e-3
    assert again.entropy[0] == plain.entropy[0]


def test_a_vector_acts_from_the_next_token_on_and_the_same_array_is_one_vector(inspector):
    plain = inspector.generate(PROMPT, max_tokens=6)
    run = inspector.write(PROMPT, max_tokens=6)
    run.advance(3)
    for strength in (1.0, 2.0, 30.0):
        inspector.steer(directions(inspector), strength, layers=2, name="up")
    run.finish()
    assert (run.entropy[:3] == plain.entropy[:3]).all() and (run.entropy[3:] != plain.entropy[3:]).all()
    assert [vector.name for vector in inspector.vectors] == ["up"] and inspector.vectors[0].strength == 30
    assert inspector.steer("up", -1).strength == -1 and inspector.steer(directions(inspector, 6), layers=1).name
    assert inspector.ablate("2.1", 0.5).amount == "x0.5" and inspector.ablate("1.attention").strength == 0
    inspector.unsteer()
    assert not any(vector.on for vector in inspector.vectors)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda i: i.steer(directions(i) * math.nan, layers=2), "holds numbers that are not finite"),
        (lambda i: i.steer(np.ones(7), layers=2), "control vector 'vector' is 7 wide but the model is 32"),
        (lambda i: i.steer(directions(i)), "one direction is for a block, and none is named: say layers=12"),
        (lambda i: i.steer(np.ones((3, 32))), "has the shape \\(3, 32\\)"),
        (lambda i: i.steer(directions(i), layers=9), "a block is 9 but must be a whole number between 1 and 4"),
        (lambda i: i.steer(directions(i), layers=(3, 1)), "turn them round"),
        (lambda i: i.steer(directions(i), math.inf, layers=1), "the strength is inf"),
        (lambda i: i.steer({2: "up"}), "a str is no array of numbers"),
        (lambda i: i.steer({}), "no direction for any block"),
        (lambda i: i.steer("warmth"), "there is no vector 'warmth', and no file of that name: known are none"),
        (lambda i: i.steer(directions(i), layers=2, when="entropy >"), "the condition of 'vector'"),
        (lambda i: i.ablate("99.1"), "99"),
        (lambda i: i.ablate("2.tail"), "wanted BLOCK.HEAD"),
        (lambda i: i.unsteer("warmth"), "there is no vector 'warmth'"),
    ],
)
def test_a_vector_that_cannot_be_is_refused_and_changes_nothing(inspector, ask, said):
    with pytest.raises(UserError, match=said):
        ask(inspector)
    assert inspector.vectors == () and len(inspector.generate(PROMPT, max_tokens=1)) == 1
