"""Shadows, twins and graded sets from Python."""

import json

import numpy as np
import pandas
import pytest
import torch

from tui_entropy import Inspector, UserError, run_grading

PROMPT = "ABCDEFGHIJ"
GRADED = [
    {"prompt": "The sky is", "sentence": "blue today", "correct": True},
    {"prompt": "The sky is", "sentence": "green", "correct": False},
    {"sentence": "Grass is green", "correct": np.True_},
]


# --- Lanes ------------------------------------------------------------------------------------------------------


def test_a_shadow_is_what_the_model_says_behind_the_other_prompt(inspector):
    run = inspector.write(PROMPT, max_tokens=6, chat=False)
    run.advance(2)
    steps = run.shadow(prompt="KLM").advance(2)
    run.unshadow()
    assert [step.shadow is None for step in run.finish()] == [True, True, False, False, True, True]
    ids = inspector.write("KLM", chat=False).prompt_ids
    with torch.inference_mode():
        logits = inspector.model(torch.tensor([[*ids, *run.token_ids[:3]]])).logits[0, -1]
    logp = logits.log_softmax(-1)
    assert steps[1].shadow.surprisal == pytest.approx(-float(logp[run.token_ids[3]]), abs=1e-4)
    assert steps[1].shadow.top_id == int(logits.argmax())


def test_a_shadow_without_vectors_tells_what_they_do(inspector):
    inspector.steer(np.ones(inspector.card.d_model), 3.0, layers=2, name="up")
    run = inspector.write(PROMPT, max_tokens=4, chat=False)
    assert run.shadow(vectors=()).advance()[0].shadow.kl > 1e-6
    assert run.shadow(vectors={"up": -3}).advance()[0].shadow.kl > 1e-6
    assert run.shadow(vectors=["up"]).advance()[0].shadow.kl == pytest.approx(0, abs=1e-6)
    run.unshadow()


def test_a_twin_under_the_same_noise_parts_only_where_its_settings_tell(inspector):
    run = inspector.generate(PROMPT, max_tokens=8, chat=False)
    first, second = run.twin(3, temperature=1.0)  # as it is
    assert first.finish().text == second.text and first.number != run.number
    assert first.text.startswith(run.text)  # a branch has room of its own
    assert second.twin_of == first.number and run.twin_of is None
    _, other = run.twin(0, temperature=0)
    inspector.run.finish()
    alone = inspector.generate(PROMPT, max_tokens=8, chat=False, temperature=0)
    assert other.token_ids.tolist() == alone.token_ids.tolist()


def test_whoever_goes_to_another_run_ends_the_pair_and_each_can_be_written_on(inspector):
    first, second = inspector.write(PROMPT, max_tokens=6, chat=False).twin(temperature=0.5)
    first.advance(2)
    assert len(second) == 2 and second.ended is None
    inspector.write("XYZ", max_tokens=2, chat=False).finish()
    assert second.ended == "stopped"
    assert len(second.finish()) == 6 and len(first.finish()) == 6


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda run: run.shadow(), "would be this run once more"),
        (lambda run: run.shadow(system="x"), "a system prompt goes with a prompt"),
        (lambda run: run.shadow(temprature=1), "did you mean temperature"),
        (lambda run: run.shadow(vectors=["left"]), "there is no vector 'left'"),
        (lambda run: run.shadow(vectors={"left": 1}), "there is no vector 'left'"),
        (lambda run: run.twin(9, temperature=0), "step is 9"),
        (lambda run: run.twin(1, prompt="x"), "begin the two at the first token"),
    ],
)
def test_a_lane_that_cannot_be_is_refused_and_the_run_goes_on(inspector, ask, said):
    run = inspector.write(PROMPT, max_tokens=4, chat=False)
    run.advance(2)
    with pytest.raises(UserError, match=said):
        ask(run)
    assert len(run.finish()) == 4 and all(step.shadow is None for step in run)


# --- Grading ----------------------------------------------------------------------------------------------------


def test_a_graded_set_is_the_same_as_a_file_as_mappings_and_as_a_table(llama, tmp_path):
    file = tmp_path / "graded.jsonl"
    file.write_text("".join(json.dumps({**one, "correct": bool(one["correct"])}) + "\n" for one in GRADED))
    table = pandas.DataFrame(GRADED).fillna({"prompt": ""})
    found = [run_grading(one, llama, scores="Perplexity") for one in (file, GRADED, table)]
    assert len({tuple(one.scores["Perplexity"]) for one in found}) == 1
    assert found[0].correct.tolist() == [True, False, True] and len(found[0]) == 3
    told = found[1].to_pandas()
    assert told.columns.tolist() == ["prompt", "sentence", "correct", "Perplexity"] and len(told) == 3
    wrong = ~found[0].correct
    expected = (found[0].scores["Perplexity"][wrong] > found[0].scores["Perplexity"][~wrong]).mean()
    assert found[0].auroc == {"Perplexity": pytest.approx(expected)} and "1 of 3 sentences wrong" in repr(found[0])


def test_what_cannot_be_graded_is_refused_in_a_sentence_and_one_that_holds_nothing_is_named(llama):
    assert run_grading([*GRADED, {"sentence": "x"}], llama, scores="Perplexity").left_out == (
        "row 4 is left out: it has no field 'correct'",
    )
    for given, options, said in (
        ([], {}, "nothing to grade"),
        (3, {}, "a int is no graded set"),
        (GRADED, {"scores": "none"}, "no uncertainty score 'none'"),
        (GRADED, {"samples": 1}, "samples"),
        (GRADED, {"bos": "maybe"}, "bos is 'maybe'"),
    ):
        with pytest.raises(UserError, match=said):
            run_grading(given, llama, **options)
    with Inspector(llama), pytest.raises(UserError, match="another Inspector is open"):
        run_grading(GRADED, llama)
