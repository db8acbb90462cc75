"""Where transformers differs from itself doctor says so in a line, with which of its ways the program follows; it
calls no model failed for that, and none right that says something else than either."""

import families
import pytest
import small
import tiny
import torch
from transformers import FalconConfig, PreTrainedModel

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability import report
from tui_entropy.engine.reliability.report import EAGER, FAIL, NOTED, ONE_PASS, PASS, SKIPPED, Check
from tui_entropy.engine.reliability.trust import trust
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.engine.verify import costs, doctor
from tui_entropy.engine.verify.evidence import compare, library


def falcon() -> PreTrainedModel:
    """The library adds alibi to eager scores before it scales them, and to others as it is."""
    shape = dict(vocab_size=tiny.VOCAB, hidden_size=32, num_hidden_layers=3, num_attention_heads=4)
    return tiny.built(FalconConfig(**shape, alibi=True, new_decoder_architecture=False))


def deepseek() -> PreTrainedModel:
    """With so few heads in its index many keys tie at no score at all, and which of them it leaves hangs on how many
    there are to choose from."""
    config = families.config_of("deepseek_v32")
    config.index_topk, config.index_n_heads = 16, 4
    return tiny.built(config)


def loaded_of(model: PreTrainedModel) -> Loaded:
    return Loaded(model, Tokenizer(small.tokenizer(tiny.VOCAB)), architecture_of(model), small.card(model))


def compared(loaded: Loaded) -> library.Library:
    ids = loaded.tokenizer.encode(compare.PROMPT, None, chat=False)[: compare.N_PROMPT]
    with torch.inference_mode():
        return library.library(loaded, torch.tensor(ids))


def verdicts(loaded: Loaded) -> dict[str, str]:
    return {check.name: check.verdict for check in compared(loaded).checks}


@pytest.mark.parametrize("family", ["llama", "qwen3", "hybrid"])
def test_of_a_model_whose_ways_agree_nothing_is_said(family):
    found = compared(small.loaded(family))
    assert [(check.verdict, check.note) for check in found.checks] == [(PASS, "")] * 3
    assert found.unfollowed == frozenset()


def test_one_attention_is_no_fault_and_is_told():
    """Gemma 2 caps scores, for which transformers has eager attention alone."""
    assert verdicts(small.loaded("gemma2")) == {
        library.PASSES: PASS, library.ATTENTIONS: SKIPPED, library.FOLLOWED: PASS
    }  # fmt: skip


def test_falcon_with_alibi_is_told_to_differ_between_attentions():
    found = compared(loaded_of(falcon()))
    passes, attentions, followed = found.checks
    assert (passes.verdict, attentions.verdict, followed.verdict) == (PASS, NOTED, PASS)
    assert attentions.worst > 0.1 and f"{attentions.worst:.2g} nats" in attentions.note
    assert attentions.note.startswith("transformers differs from itself: its eager attention is")
    assert attentions.note.endswith("the program follows its sdpa attention") and "\n" not in attentions.note
    assert found.unfollowed == {EAGER}


def test_deepseek_with_an_index_is_told_to_differ_between_its_passes(monkeypatch):
    monkeypatch.setattr(costs, "ROUNDS", 2)
    loaded = loaded_of(deepseek())
    found = doctor.doctor(loaded, lambda progress: None)
    checks = {check.name: check for check in found.checks}
    assert found.passed and checks[library.PASSES].verdict == NOTED and checks[library.FOLLOWED].verdict == PASS
    assert checks[library.PASSES].note.endswith("the program follows its generate")
    unproven = [check for check in found.checks if ONE_PASS in check.skipped]
    assert {check.name for check in unproven} >= {"written steps", "residual norm", "prompt surprisal"}
    assert all(ONE_PASS in check.rests_on for check in unproven)
    trusts = trust(loaded.architecture, loaded.card, found)
    assert checks[library.PASSES].note in trusts["logits"].reason
    assert (
        trusts["series residual norm"].level == "unchecked"
        and "not what is followed" in trusts["series residual norm"].reason
    )


def test_roberta_counts_positions_otherwise_where_it_is_not_told_them_and_generate_is_followed():
    found = compared(loaded_of(families.built("roberta")))
    assert found.unfollowed == {ONE_PASS} and found.checks[2].verdict == PASS


def test_a_program_that_follows_no_way_fails(monkeypatch):
    """Eager attention is nearer to sdpa than what is wrong is to either."""
    loaded = loaded_of(falcon())
    honest = library.forward_logits
    monkeypatch.setattr(library, "forward_logits", lambda *given: honest(*given).roll(1, -1))
    followed = compared(loaded).checks[2]
    assert followed.verdict == FAIL and verdicts(loaded)[library.ATTENTIONS] == NOTED


def test_a_program_that_reads_something_else_where_transformers_agrees_with_itself_fails(monkeypatch):
    loaded = small.loaded("gpt2")
    honest = library.new_cache

    def one_more(*given):
        cache = honest(*given)
        library.forward_logits(loaded.model, torch.tensor([5]), cache)
        return cache

    monkeypatch.setattr(library, "new_cache", one_more)
    assert verdicts(loaded) == {library.PASSES: PASS, library.ATTENTIONS: PASS, library.FOLLOWED: FAIL}


@pytest.mark.parametrize("unfollowed", [frozenset(), {ONE_PASS}, {EAGER}])
@pytest.mark.parametrize("rests_on", [(), (ONE_PASS,), (ONE_PASS, EAGER)])
@pytest.mark.parametrize("worst", [0.0, 2.0])
def test_only_what_fails_against_a_way_that_is_not_followed_is_left_open(worst, rests_on, unfollowed):
    check = Check("a", "logits", "this against that", "nats", worst, 1.0, rests_on=rests_on)
    judged = library.Library((), frozenset(unfollowed)).judged(check)
    if worst > 1 and set(rests_on) & unfollowed:
        assert judged.verdict == SKIPPED and all(way in judged.skipped for way in set(rests_on) & unfollowed)
    else:
        assert judged == check


def test_a_model_that_transformers_cannot_run_by_itself_is_examined_all_the_same(monkeypatch):
    def refused(*given):
        raise RuntimeError("no generation\nfor this one")

    monkeypatch.setattr(library, "by_generate", refused)
    found = compared(small.loaded())
    assert {check.skipped for check in found.checks} == {"transformers cannot: no generation"}


def test_the_twin_shares_every_weight_and_chooses_its_attention_when_it_is_built():
    model = falcon()
    made = library.twin(model, "eager")
    assert (made.config._attn_implementation, model.config._attn_implementation) == ("eager", "sdpa")
    shared = model.state_dict()
    assert all(shared[name].data_ptr() == weight.data_ptr() for name, weight in made.state_dict().items())


def test_it_is_told_in_the_report():
    check = Check("a", "logits", "this against that", "nats", 2.0, 1.0, note="it differs from itself")
    found = with_noted(check)
    assert found.passed and b'"verdict": "noted"' in report.as_json(found)


def with_noted(check: Check) -> report.Report:
    return report.Report("tiny", None, "cpu", "float32", "here", {}, "2026-01-01", 24, (check,), ())
