"""Runs of an Inspector: written a token at a time, changed in between, interrupted, branched, and read."""

import itertools
import threading

import numpy as np
import pytest
import small
import torch

from tui_entropy import Inspector, Step, UserError

PROMPT = "ABCDEFGHIJ"


def ids(run):
    return run.token_ids.tolist()


def test_a_loop_over_a_run_writes_it_and_afterwards_lists_it(inspector):
    run = inspector.write(PROMPT, max_tokens=5)
    seen = [step for step in run]
    assert [step.index for step in seen] == list(range(5)) == [step.index for step in run]
    assert all(isinstance(step, Step) for step in seen) and run.steps == seen and run[-1] == seen[-1]
    assert run.ended == "token limit" and run.text == "".join(run.tokens) and run[1:3] == seen[1:3]
    assert inspector.run is run and list(inspector.runs) == [run] and run.prompt == PROMPT
    assert run.prompt_ids.tolist() == [*inspector.loaded.tokenizer.encode(PROMPT, None, False)]


def test_a_loop_that_is_left_pauses_the_run_until_somebody_goes_on(inspector):
    whole = ids(inspector.generate(PROMPT, max_tokens=8))
    run = inspector.write(PROMPT, max_tokens=8)
    for step in run:
        if step.index == 2:
            break
    assert len(list(run)) == 3 and "finish" in repr(run)
    assert [step.index for step in run.advance(2)] == [3, 4]
    assert [step.index for step in itertools.islice(run.rest(), 1)] == [5]
    assert ids(run.finish()) == whole
    assert ids(inspector.write(PROMPT, max_tokens=4).finish()) == whole[:4]
    assert ids(inspector.run) + [step.token_id for step in inspector.run.advance(4)] == whole  # past its limit


def test_runs_that_are_written_by_turns_are_those_that_are_written_alone(inspector):
    alone = [ids(inspector.generate(text, max_tokens=6, seed=seed)) for text, seed in ((PROMPT, 1), ("XYZ", 2))]
    one, other = inspector.write(PROMPT, max_tokens=6, seed=1), inspector.write("XYZ", max_tokens=6, seed=2)
    assert [one.knobs.seed, other.knobs.seed] == [1, 2]
    for _ in zip(one, other, strict=True):
        pass
    assert [ids(one), ids(other)] == alone and one.ended == other.ended == "token limit"


def test_a_knob_that_is_turned_between_two_steps_acts_on_the_next_one(inspector):
    plain = inspector.generate(PROMPT, max_tokens=8)
    run = inspector.write(PROMPT, max_tokens=8)
    for step in run:
        if step.index == 3:
            inspector.set(temperature=0)
    assert ids(run)[:4] == ids(plain)[:4]
    assert all(step.token_id == step.candidates[0].token_id for step in run[4:])
    other = inspector.write("XYZ", max_tokens=3)
    run.set(top_k=7)
    other.advance()
    assert other.knobs.top_k == 0 and run.knobs.top_k == 7 and run.knobs.temperature == 0
    assert inspector.generate(PROMPT, max_tokens=8).knobs.temperature == 1.0  # the next text begins as ever


@pytest.mark.parametrize("family", ["llama", "gemma3", "hybrid"])
def test_a_branch_without_a_change_writes_the_same_and_leaves_its_parent_as_it_was(family):
    with Inspector(small.endless(small.loaded(family)), temperature=1.0, top_k=0, top_p=1.0, seed=3) as inspector:
        run = inspector.generate(PROMPT, max_tokens=9)
        before = ids(run)
        for at in (0, 4, -1):
            branch = run.branch(at).finish()
            assert ids(branch)[:9] == before and branch.parent == run.number
            np.testing.assert_allclose(branch.entropy[:9], run.entropy, atol=1e-5)
        seeds = [run.branch(4, seed=seed).finish() for seed in range(20, 26)]
        assert len({tuple(ids(one)) for one in seeds}) > 1 and all(ids(one)[:4] == before[:4] for one in seeds)
        assert ids(run) == before and run.knobs.seed == 3 and len(inspector.runs) == 10


def test_behind_the_newest_token_as_many_branches_begin_as_one_likes(inspector):
    run = inspector.write(PROMPT, max_tokens=20)
    run.advance(3)
    whole = ids(inspector.generate(PROMPT, max_tokens=20))
    branches = [run.branch(seed=seed) for seed in (3, 4, 5)]
    assert len({branch.number for branch in (run, *branches)}) == 4
    assert ids(branches[0].finish())[:20] == whole == ids(run.finish())
    assert ids(branches[1].finish())[3:] != ids(branches[2].finish())[3:]


def test_tokens_and_text_can_be_forced_and_banned_and_what_the_model_thought_of_them_is_measured(inspector):
    run = inspector.generate(PROMPT, max_tokens=6)
    rare = run[2].candidates[-1]
    for token in (rare, rare.token_id, np.int64(rare.token_id), [rare.token_id]):
        branch = run.branch(run[2], token=token, text="QQ")
        assert branch.advance(3)[0].token_id == rare.token_id and branch.text.endswith("QQ")
        assert branch[2].forced and branch[2].rank == 1 + run[2].candidates.index(rare)
    written = ids(run)[2]
    assert run.branch(2, ban=written).advance()[0].token_id != written
    going = inspector.write(PROMPT, max_tokens=9)
    going.advance(2)
    assert going.force("ZZ").advance(2)[1].text == "Z" and going.ban("A").look_ahead().text != "A"
    with pytest.raises(UserError, match="no token 99999"):
        run.branch(0, token=99999)
    with pytest.raises(UserError, match="not one token of this model"):
        run.ban("AB")
    with pytest.raises(UserError, match=r"run 1 has ended \(token limit\)"):
        run.force("A")


def test_what_comes_next_can_be_looked_at_and_changes_with_the_knobs(inspector):
    run = inspector.write(PROMPT, max_tokens=9)
    first = run.look_ahead()
    assert len(run) == 0 and run.proposed == first
    run.set(temperature=0)
    assert run.proposed.token_id == first.candidates[0].token_id == run.advance()[0].token_id


def test_a_text_that_is_read_has_the_surprisal_of_a_plain_pass(inspector):
    text = "thequickbrownfox"
    run = inspector.read(text)
    found = inspector.loaded.tokenizer.encode(text, None, False)
    with torch.inference_mode():
        logits = inspector.model(torch.tensor([found])).logits[0]
    expected = -logits.log_softmax(-1)[:-1].gather(-1, torch.tensor(found[1:])[:, None])[:, 0]
    np.testing.assert_allclose(run.surprisal, expected.numpy(), atol=1e-4)
    assert run.text == text[1:] and run.paused == "the text is read" and len(list(run)) == len(found) - 1
    assert not run[2].is_visited and run.visit(2).is_visited and run.visit(run[2]).token_id == run[2].token_id
    assert [len(one) for one in inspector.read_all([text, "other"])] == [15, 4]
    assert run.branch(5).advance(2) and len(run.advance(2)) == 2


def test_breakpoints_stop_before_a_token_and_watches_follow_one(inspector):
    plain = inspector.generate(PROMPT, max_tokens=8)
    at = int(plain.surprisal.argmax())
    inspector.breakpoints = f"surprisal > {plain.surprisal[at] - 1e-6} nats"
    inspector.watches = ["A"]
    run = inspector.write(PROMPT, max_tokens=8)
    assert len(list(run)) == at == len(list(run)) and run.paused.startswith("breakpoint: ")
    assert run.proposed.token_id == plain[at].token_id and inspector.watches == ("A",)
    assert [watched.token_id for watched in run.proposed.watched] == inspector.loaded.tokenizer.encode_continuation(
        "A"
    )
    assert inspector.breakpoints[0].hits == 1
    with pytest.raises(UserError, match="entropy"):
        inspector.breakpoints = ["entropy >"]
    inspector.breakpoints = ()
    assert ids(run.finish()) == ids(plain)


ODD = {
    "too long": lambda i: i.write("A" * 5000),
    "no text": lambda i: i.write(None),
    "bytes": lambda i: i.write(b"A"),
    "a list": lambda i: i.write(["A", "B"]),
    "no tokens": lambda i: i.write("A", max_tokens=0),
    "half a token": lambda i: i.write("A", max_tokens=1.5),
    "true tokens": lambda i: i.write("A", max_tokens=True),
    "an unknown knob": lambda i: i.write("A", temprature=1),
    "a knob of text": lambda i: i.write("A", temperature="hot"),
    "a knob that is no number": lambda i: i.write("A", temperature=float("nan")),
    "a knob that is too large": lambda i: i.write("A", top_p=2),
    "an unknown order": lambda i: i.write("A", order="mine"),
    "a ban of nothing": lambda i: i.write("A", banned=[10**6]),
    "nothing to read": lambda i: i.read(""),
    "no messages": lambda i: i.read([]),
    "half a message": lambda i: i.read([{"role": "user"}]),
    "one text for many": lambda i: i.read_all("A"),
    "a wrong one of many": lambda i: i.write_all({"x": "A", "y": 3}),
    "nothing yet": lambda i: i.run,
    "no such run": lambda i: i.go(9),
    "no such step": lambda i: i.write("A", max_tokens=2).branch(7),
    "a step of text": lambda i: i.write("A", max_tokens=2).branch("first"),
    "a chat without a template": lambda i: i.write("A", chat=True),
    "steps that are none": lambda i: i.write("A").advance(0),
    "an unknown series": lambda i: i.generate("A", max_tokens=1)["entropie"],
    "an unknown unit": lambda i: i.generate("A", max_tokens=1).show(unit="bytes"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_cannot_be_is_refused_in_a_sentence_and_all_goes_on(inspector, what):
    with pytest.raises(UserError) as mistake:
        ODD[what](inspector)
    assert len(str(mistake.value).splitlines()) == 1 and not str(mistake.value).endswith(".")
    assert len(inspector.generate(PROMPT, max_tokens=2)) == 2


def test_an_empty_prompt_begins_where_a_text_begins(inspector):
    run = inspector.generate("", max_tokens=2)
    assert len(run) == 2 and run.prompt_ids.tolist() == [inspector.tokenizer.bos_token_id]


def test_a_run_that_is_broken_off_rests_and_goes_on_as_if_nothing_had_been(inspector):
    whole = ids(inspector.generate(PROMPT, max_tokens=8))
    run, seen = inspector.write(PROMPT, max_tokens=8), []

    def interrupt(*_):
        if len(seen) == 3:
            raise KeyboardInterrupt

    hook = inspector.model.get_output_embeddings().register_forward_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            for step in run:
                seen.append(step)
    finally:
        hook.remove()
    assert len(run) == 3 == len(list(run)) and run.knobs.seed == 3
    assert len(inspector.generate("XYZ", max_tokens=2)) == 2
    assert ids(run.finish()) == whole


def test_calls_of_ones_own_to_the_model_change_nothing_and_are_neither_watched_nor_steered(inspector):
    other = torch.tensor([[40, 41, 42]])
    with inspector.unwatched() as model, torch.inference_mode():
        plain = model(other).logits
    push = np.ones(inspector.card.d_model)
    inspector.steer(push, 2.0, layers=2)
    whole = inspector.generate(PROMPT, max_tokens=8)
    rows = whole.probe("attention", layer=1, head=1)[0].values
    run = inspector.write(PROMPT, max_tokens=8)
    for _ in run:
        with inspector.unwatched() as model, torch.inference_mode():
            assert torch.equal(model(other).logits, plain)
            with pytest.raises(UserError, match="is at work"):
                inspector.write("A")
    assert ids(run) == ids(whole) and np.array_equal(run.head_entropy, whole.head_entropy)
    assert np.array_equal(run.probe("attention", layer=1, head=1)[0].values, rows, equal_nan=True)


def test_a_model_that_puts_out_no_numbers_ends_its_run_in_a_sentence(inspector):
    run = inspector.write(PROMPT, max_tokens=8)
    run.advance(2)
    hook = inspector.model.get_output_embeddings().register_forward_hook(lambda *args: args[2] * float("nan"))
    try:
        with pytest.raises(UserError, match="NaN in"):
            run.finish()
    finally:
        hook.remove()
    assert len(run) == 2 and "NaN" in run.ended and len(inspector.generate(PROMPT, max_tokens=2)) == 2


def test_it_is_closed_as_often_as_one_likes_opened_again_and_says_so_in_between(llama):
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in llama.model.modules()]
    inspector = Inspector(llama)
    with inspector as same:
        run = same.generate(PROMPT, max_tokens=3)
    inspector.close()
    inspector.close()
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in llama.model.modules()]
    assert (
        inspector.closed and "closed" in repr(inspector) and run.entropy.shape == (3,) and "<div" in run.show().html
    )
    for act in (lambda: inspector.write("A"), run.advance, lambda: run.probe("lens"), lambda: inspector.set(top_k=3)):
        with pytest.raises(UserError, match="this Inspector is closed"):
            act()
    with inspector:
        assert len(inspector.generate(PROMPT, max_tokens=2)) == 2 and len(inspector.runs) == 1
        with pytest.raises(UserError, match="this Inspector is closed"):
            run.advance()


def test_two_of_them_are_open_on_two_models_and_not_on_one(llama):
    with Inspector(llama, seed=3) as one, Inspector(small.endless(small.loaded("gemma3")), seed=3) as other:
        alone = [ids(each.generate(PROMPT, max_tokens=5)) for each in (one, other)]
        runs = [each.write(PROMPT, max_tokens=5) for each in (one, other)]
        for _ in zip(*runs, strict=True):
            pass
        assert [ids(run) for run in runs] == alone
        with pytest.raises(UserError, match="another Inspector is open on this very tiny"):
            Inspector(llama)
        assert ids(one.generate(PROMPT, max_tokens=5)) == alone[0]
    for step in Inspector(llama).write(PROMPT, max_tokens=2):  # nobody else keeps it
        assert isinstance(step, Step)
    del step
    with Inspector(llama) as again:
        assert again.loaded is llama


def test_a_call_from_another_thread_waits_for_nobody(inspector):
    inside, leave, said = threading.Event(), threading.Event(), []

    def wait(*_):
        inside.set()
        leave.wait(30)

    hook = inspector.model.get_output_embeddings().register_forward_hook(wait)
    at_work = threading.Thread(target=lambda: said.append(len(inspector.generate(PROMPT, max_tokens=2))))
    at_work.start()
    try:
        assert inside.wait(60)
        with pytest.raises(UserError, match="is at work"):
            inspector.write("A")
    finally:
        leave.set()
        at_work.join(60)
        hook.remove()
    assert said == [2]


def test_a_model_that_transformers_has_loaded_is_taken_as_it_is(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(small.saved(tmp_path / "model"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with Inspector(model, tokenizer=tokenizer, temperature=1.0, seed=3) as given, Inspector(folder, seed=3) as named:
        assert given.model is model and given.tokenizer is tokenizer and given.card.name == folder
        one, other = given.generate(PROMPT, max_tokens=5), named.generate(PROMPT, max_tokens=5, temperature=1.0)
        assert ids(one) == ids(other)
        np.testing.assert_allclose(one.entropy, other.entropy, atol=1e-5)
        assert given.probe("attribution", one[0]).panels
    for odd, said in (
        (lambda: Inspector(model), "comes with its tokenizer"),
        (lambda: Inspector(folder, tokenizer=tokenizer), "a name brings its own"),
        (lambda: Inspector(model.train(), tokenizer=tokenizer), "is in training"),
    ):
        with pytest.raises(UserError, match=said):
            odd()
