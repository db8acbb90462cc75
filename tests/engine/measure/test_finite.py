"""Logits that are no numbers end a run with a sentence that says how many they are and where."""

from __future__ import annotations

import math

import pytest
import torch
from asking import fan_ask
from small import endless
from small import loaded as small_model
from tiny import VOCAB

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.measure.finite import NotFinite
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Write
from tui_entropy.records.events import Ended, PromptScores
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane
from tui_entropy.records.step import Step

GREEDY, DRAWN = Knobs(temperature=0.0), Knobs(temperature=0.9, top_k=20, top_p=0.9, seed=3)
WRONG = {
    "one NaN": (lambda logits: logits.index_fill_(-1, torch.tensor([7]), math.nan), "NaN in 1", 7),
    "one +inf": (lambda logits: logits.index_fill_(-1, torch.tensor([9]), math.inf), "+inf in 1", 9),
    "two kinds": (
        lambda logits: logits.index_fill_(-1, torch.tensor([5]), math.inf).index_fill_(
            -1, torch.tensor([8, 9]), math.nan
        ),
        "NaN in 2 and +inf in 1",
        5,
    ),
    "all NaN": (lambda logits: logits.fill_(math.nan), f"NaN in {VOCAB}", 0),
    "all -inf": (lambda logits: logits.fill_(-math.inf), f"-inf in {VOCAB}", 0),
}


@pytest.fixture
def spoilt():
    """A model whose logits can be spoilt after so many good passes: one for the prompt, one for each step."""
    found = endless(small_model("llama"))
    head, left = found.model.get_output_embeddings(), [math.inf]
    change = [None]

    def spoil(module, args, logits):
        left[0] -= logits.shape[-2] == 1
        return change[0](logits.clone()) if left[0] < 0 else logits

    hook = head.register_forward_hook(spoil)

    def begin(how, good: float) -> None:
        change[0], left[0] = how, good

    yield found, begin
    hook.remove()


def session_of(found, instruments):
    events: list = []
    return Session(found, instruments, events.append), events


@pytest.mark.parametrize("captured", [False, True], ids=["plainly", "captured"])
@pytest.mark.parametrize("knobs", [GREEDY, DRAWN, Knobs(adaptive="own")], ids=["greedy", "drawn", "adaptive"])
@pytest.mark.parametrize("name", WRONG)
def test_the_run_ends_and_says_which_and_where_after_the_steps_that_were_right(spoilt, name, knobs, captured):
    found, begin = spoilt
    how, counted, first = WRONG[name]
    with open_instruments(found, graph=captured) as instruments:
        session, events = session_of(found, instruments)
        begin(how, 3)
        session.begin(Write("abc", None, False, 9, knobs, score_prompt=False))
        while session.active:
            session.advance()
    emitted = [event for event in events if isinstance(event, Step | Ended)]
    assert [type(event) for event in emitted] == [Step, Step, Ended]
    assert emitted[-1].failed
    assert emitted[-1].reason.startswith(f"{counted} of {VOCAB} logits at step 3, first token id {first}: ")


def test_logits_that_rule_tokens_out_are_as_good_as_any(spoilt):
    found, begin = spoilt
    begin(lambda logits: logits.index_fill_(-1, torch.arange(3, VOCAB - 1), -math.inf), 0)
    with open_instruments(found) as instruments:
        session, events = session_of(found, instruments)
        session.begin(Write("abc", None, False, 3, DRAWN, score_prompt=False))
        while session.active:
            session.advance()
    assert events[-1].reason == "token limit" and not events[-1].failed


def test_the_scores_of_a_prompt_say_it_too(spoilt):
    found, _ = spoilt
    norm = found.architecture.final_norm

    def spoil(module, args):
        stream = args[0].clone()
        if stream.shape[1] > 1:
            stream[:, 2] = math.nan
        return (stream, *args[1:])

    hook = norm.register_forward_pre_hook(spoil)
    with open_instruments(found) as instruments:
        session, events = session_of(found, instruments)
        session.begin(Write("abcdef", None, False, 3, GREEDY))
        while session.active:
            session.advance()
    hook.remove()
    assert not any(isinstance(event, PromptScores | Step) for event in events)
    assert events[-1].failed
    assert events[-1].reason.startswith(f"NaN in {VOCAB} of {VOCAB} logits after prompt token 3, first token id 0")


def test_a_session_writes_on_after_it(spoilt):
    found, begin = spoilt
    with open_instruments(found) as instruments:
        session, events = session_of(found, instruments)
        begin(WRONG["one NaN"][0], 2)
        session.begin(Write("abc", None, False, 9, GREEDY, score_prompt=False))
        session.look_ahead(read_all=True)
        session.advance()
        session.look_ahead()
        assert not session.active and events[-1].failed
        with pytest.raises(NotFinite, match="continuation 1") as raised:
            answer(session, fan_ask(1, session.state.run_of(1).sequence.n_prompt + 1, n=2, tokens=3))
        assert isinstance(raised.value, UserError)
        begin(None, math.inf)
        session.begin(Write("abc", None, False, 2, GREEDY))
        while session.active:
            session.advance()
    assert events[-1].reason == "token limit"


def test_a_shadow_without_numbers_is_unknown_and_the_text_goes_on(spoilt):
    found, begin = spoilt
    begin(lambda logits: logits[1:].fill_(math.nan) is not None and logits, 0)
    with open_instruments(found) as instruments:
        session, events = session_of(found, instruments)
        session.begin(Write("abc", None, False, 4, DRAWN, score_prompt=False))
        session.set_shadow(Lane("other prompt", prompt="xyz"))
        while session.active:
            session.advance()
    steps = [event for event in events if isinstance(event, Step)]
    assert len(steps) == 4 and events[-1].reason == "token limit"
    assert any(step.shadow is not None and math.isnan(step.shadow.kl) for step in steps)
