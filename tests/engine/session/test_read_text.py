"""A text that is there already: its steps are those of a plain pass, and any is visited and gone on from."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
from msgspec.structs import replace
from rewind_models import MODELS
from small import card, endless, tokenizer
from teller import DRAWN, Teller

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.decoding import read_text
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.session import run_writer
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.commands import Write
from tui_entropy.records.events import TEXT_READ, Ended, Paused, Prefilled, Started
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.probes.visit import VISIT
from tui_entropy.records.settings import Breakpoint
from tui_entropy.records.step import Step

TEXT = "".join(chr(65 + (n * n + n // 7) % 26) for n in range(90))
STRETCH = 24


@pytest.fixture(params=MODELS)
def loaded(request):
    return made(request.param)


def made(family):
    model = MODELS[family]()
    return endless(Loaded(model, Tokenizer(tokenizer(tiny.VOCAB)), architecture_of(model), card(model)))


@pytest.fixture
def teller(loaded, monkeypatch):
    monkeypatch.setattr(read_text, "PREFILL_CHUNK", STRETCH)
    with open_instruments(loaded) as instruments:
        yield Teller(loaded, instruments)


def read_whole(teller, text=TEXT, **what):
    """Read it up to its end; what it rested with."""
    teller.session.begin(Write(text, None, False, 40, DRAWN, read=True, **what))
    while not isinstance(event := teller.session.advance(), Paused | Ended):
        assert event is not None
    return event


def plain(loaded, ids):
    """ln p of every token but the first, (n - 1,), and of all tokens there, from one pass."""
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    logp = logits.double().log_softmax(-1)[:-1]
    return logp[range(len(ids) - 1), ids[1:]].numpy(), logp.numpy()


def test_its_steps_are_those_of_a_plain_pass_and_then_it_rests(loaded, teller):
    rested = read_whole(teller)
    assert rested.reason == TEXT_READ and teller.log.state == "paused"
    steps, ids = list(teller.log.steps), loaded.tokenizer.encode(TEXT, None, False)
    assert [token.token_id for token in teller.log.started.prompt_tokens] + [one.token_id for one in steps] == ids
    assert "".join(one.text for one in steps) == TEXT[1 - (len(ids) - len(TEXT)) :]
    of_tokens, logp = plain(loaded, ids)
    np.testing.assert_allclose([-one.surprisal for one in steps], of_tokens, atol=2e-4)
    entropies = -(np.exp(logp) * logp).sum(-1)
    np.testing.assert_allclose([one.entropy for one in steps], entropies, atol=2e-4)
    for at in (0, len(steps) // 2, len(steps) - 1):
        ranks = [candidate.logprob for candidate in steps[at].candidates]
        np.testing.assert_allclose(ranks, np.sort(logp[at])[::-1][: len(ranks)], atol=2e-4)
    assert steps[-1].perplexity == pytest.approx(math.exp(-of_tokens.mean()), rel=1e-3)
    assert not any(one.forced for one in steps) and teller.log.proposed is not None
    worked = sum(one.forward_seconds + one.sample_seconds for one in steps)
    assert 0 < worked <= steps[-1].at * 1.001


def test_in_stretches_it_is_what_it_is_one_by_one(loaded, teller, monkeypatch):
    read_whole(teller)
    stretches = list(teller.log.steps)
    monkeypatch.setattr(run_writer, "reads_in_stretches", lambda loaded, sequence: False)
    read_whole(teller)
    for one, other in zip(stretches, teller.log.steps, strict=True):
        assert (one.token_id, one.text, one.position, one.index) == (
            other.token_id, other.text, other.position, other.index,
        )  # fmt: skip
        np.testing.assert_allclose(one.numbers[:3], other.numbers[:3], atol=3e-4)
        assert one.final_prob == pytest.approx(other.final_prob, abs=1e-4)
        assert [stage.name for stage in one.stages] == [stage.name for stage in other.stages]
        assert other.is_visited


def test_a_visit_has_what_only_the_pass_of_a_single_token_tells(loaded, teller, monkeypatch):
    read_whole(teller)
    visits = {}
    for position in (1, 2, STRETCH, STRETCH + 1, 60, len(TEXT) - 1):
        found = answer(teller.session, AskProbe(VISIT, teller.log.run_number, position))
        (visits[position],) = found.panels
    before = {step.position: step for step in teller.log.steps}
    monkeypatch.setattr(run_writer, "reads_in_stretches", lambda loaded, sequence: False)
    read_whole(teller)
    wanted = {step.position: step for step in teller.log.steps}
    for position, step in visits.items():
        assert step.is_visited and step.token_id == before[position].token_id
        for name in ("head_entropy", "head_varentropy", "attention", "blocks"):
            found, expected = getattr(step, name).numpy(), getattr(wanted[position], name).numpy()
            np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3, err_msg=name)
        assert step.visible_keys == wanted[position].visible_keys


def test_what_is_written_behind_it_is_what_would_be_written_behind_a_prompt(loaded, teller):
    read_whole(teller)
    behind = teller.write(8)
    teller.session.begin(Write(TEXT, None, False, 40, DRAWN))
    assert teller.write(8) == behind


def test_a_prompt_that_is_opened_has_the_steps_that_were_written_behind_it(loaded, teller):
    teller.session.begin(Write(TEXT[:20], None, False, 40, DRAWN))
    teller.write(12)
    run, written = teller.session.state.runs[teller.session.state.run_number], list(teller.log.steps)
    read_whole(teller, TEXT, token_ids=tuple(run.sequence.ids.tolist()))
    opened = {step.position: step for step in teller.log.steps}
    assert list(opened) == list(range(1, run.sequence.n_tokens))
    for step in written:
        other = opened[step.position]
        assert other.token_id == step.token_id
        np.testing.assert_allclose(other.numbers[:3], step.numbers[:3], atol=3e-4)
        assert other.final_prob == pytest.approx(step.final_prob, abs=1e-4)


def test_any_of_its_tokens_begins_a_branch_and_it_can_be_come_back_to(loaded, teller):
    read_whole(teller)
    run, text = teller.session.state.run_number, [step.token_id for step in teller.log.steps]
    branch = teller.branch(30)
    drawn = teller.write(5)
    assert [step.token_id for step in teller.log.steps][:30] == text[:30]
    assert teller.log.started.n_given == 30 and teller.log.state == "writing"
    teller.session.begin(Write(TEXT[: 30 + 1 - (len(text) + 1 - len(TEXT))], None, False, 40, DRAWN))
    assert teller.write(5) == drawn
    teller.go(run)
    assert [step.token_id for step in teller.log.steps] == text and teller.log.proposed is not None
    teller.go(branch)
    assert [step.token_id for step in teller.log.steps][30:35] == drawn


@pytest.fixture
def llama(monkeypatch):
    monkeypatch.setattr(read_text, "PREFILL_CHUNK", STRETCH)
    loaded = made("llama")
    with open_instruments(loaded) as instruments:
        yield Teller(loaded, instruments)


def test_it_can_be_left_between_two_stretches_and_gone_on_with(llama):
    llama.session.begin(Write(TEXT, None, False, 40, DRAWN, read=True))
    run = llama.session.state.run_number
    first = llama.session.advance()
    assert isinstance(first, Prefilled) and (first.done, first.total) == (1 + STRETCH, len(TEXT))
    assert llama.log.state == "reading" and len(llama.log.steps) == STRETCH
    llama.session.look_ahead()
    assert llama.log.proposed is None  # nobody chooses what stands there
    llama.branch(10)
    llama.write(3)
    llama.go(run)
    assert len(llama.log.steps) == STRETCH
    while not isinstance(llama.session.advance(), Paused):
        pass
    assert [step.token_id for step in llama.log.steps] == llama.session.state.loaded.tokenizer.encode(
        TEXT, None, False
    )[1:]


def test_a_vector_whose_strength_hangs_on_the_step_has_it_read_one_by_one(llama):
    llama.session.set_vector(replace(llama.on, schedule=((1, 1.0), (20, 0.0))))
    read_whole(llama, TEXT[:30])
    assert all(step.is_visited for step in llama.log.steps)
    llama.session.set_vector(llama.on)
    read_whole(llama, TEXT[:30])
    steered = [step.entropy for step in llama.log.steps]
    assert not any(step.is_visited for step in llama.log.steps)
    llama.session.set_vector(llama.off)
    read_whole(llama, TEXT[:30])
    assert not np.allclose([step.entropy for step in llama.log.steps], steered, atol=1e-3)


def test_the_end_token_in_a_text_does_not_end_it(monkeypatch):
    loaded = made("llama")
    loaded.tokenizer.eos_ids = frozenset(loaded.tokenizer.encode("DE", None, False))
    for one_by_one in (False, True):
        if one_by_one:
            monkeypatch.setattr(run_writer, "reads_in_stretches", lambda loaded, sequence: False)
        with open_instruments(loaded) as instruments:
            teller = Teller(loaded, instruments)
            assert isinstance(read_whole(teller, "ABCDEFG"), Paused)
            assert "".join(teller.log.steps.texts) == "BCDEFG"


def test_a_token_that_mirostat_cut_leaves_its_bound_as_it_was(llama):
    write = Write(TEXT[:30], None, False, 40, replace(DRAWN, mirostat_tau=0.1, mirostat_eta=0.5), read=True)
    llama.session.begin(write)
    while not isinstance(llama.session.advance(), Paused):
        pass
    steps = list(llama.log.steps)
    assert any(one.final_prob == 0 for one in steps)
    for one, following in pairwise(steps):
        if one.final_prob == 0:
            assert following.mirostat_mu == one.mirostat_mu


CONDITIONS = (
    "entropy > 3.9 nats", 'text ~ "H.*Q"', "rank == 1 or surprisal > 6 nats", "head[2] > 0.3 and step % 9 == 0",
)  # fmt: skip
STOPS = [
    pytest.param(family, expression, marks=[] if (of_model + of_condition) % 2 == 0 else pytest.mark.slow)
    for of_model, family in enumerate(MODELS)
    for of_condition, expression in enumerate(CONDITIONS)
]
"""Two conditions for each model, others for the next one; all four are slow."""


@pytest.mark.parametrize(("loaded", "expression"), STOPS, indirect=["loaded"])
def test_it_stops_before_the_tokens_that_it_would_stop_before_where_it_is_read_one_by_one(
    loaded, teller, monkeypatch, expression
):
    if not loaded.architecture.in_stretches or not all(loaded.card.attention):
        pytest.skip("it is read one by one anyway, or has no such number")

    def stops():
        teller.session.set_breakpoints((Breakpoint(1, expression),))
        teller.session.begin(Write(TEXT, None, False, 40, DRAWN, read=True))
        found = []
        while (event := teller.session.advance()) is None or not (
            isinstance(event, Paused) and event.reason == TEXT_READ
        ):
            if isinstance(event, Paused):
                found.append((len(teller.log.steps), teller.log.proposed.token_id))
        (one,) = teller.session.state.breakpoints.breakpoints
        return found, one.hits, [step.surprisal for step in teller.log.steps]

    in_stretches = stops()
    monkeypatch.setattr(run_writer, "reads_in_stretches", lambda loaded, sequence: False)
    one_by_one = stops()
    assert in_stretches[:2] == one_by_one[:2] and 0 < in_stretches[1] < len(TEXT)
    np.testing.assert_allclose(in_stretches[2], one_by_one[2], atol=2e-4)
    of_tokens, _ = plain(loaded, loaded.tokenizer.encode(TEXT, None, False))
    np.testing.assert_allclose([-nats for nats in in_stretches[2]], of_tokens, atol=2e-4)


def test_what_only_the_pass_of_a_token_tells_has_a_text_read_one_by_one_and_nothing_else_does(llama):
    for expression, alone in (
        ("head[2,1] > 9", True),
        ("entropy_z > 90", False),
        ("kl > 90 nats", False),
    ):
        llama.session.set_breakpoints((Breakpoint(1, expression),))
        read_whole(llama)
        visited = [step.is_visited for step in llama.log.steps]
        assert all(visited) if alone else sum(visited) <= 4, expression


def test_a_token_that_the_model_has_not_is_refused(llama):
    with pytest.raises(UserError, match="there is no token 999"):
        llama.session.begin(Write(TEXT, None, False, 5, DRAWN, read=True, token_ids=(5, 999)))


@pytest.mark.parametrize(("text", "said"), [("A", "no text to read"), ("A" * 5000, "reads at most")])
def test_what_cannot_be_read_is_said_and_what_was_there_stays(llama, text, said):
    run = llama.session.state.run_number
    with pytest.raises(UserError, match=said):
        llama.session.begin(Write(text, None, False, 5, DRAWN, read=True))
    assert llama.session.state.run_number == run and llama.session.active


def test_a_log_that_begins_again_tells_which_steps_nobody_drew(llama):
    read_whole(llama)
    llama.write(2)
    (started,) = [event for event in llama.events if isinstance(event, Started) and event.n_given]
    n = len(TEXT) - 1
    assert started.n_given == n and [llama.log.run.is_read(at) for at in (n - 1, n)] == [True, False]
    assert sum(isinstance(event, Step) for event in llama.events[llama.events.index(started) :]) == n + 2
