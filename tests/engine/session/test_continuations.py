"""Continuations from one place: the first is the run's own, the others have other luck, and nothing is disturbed."""

import math
from itertools import pairwise

import pytest
from asking import fan_ask, rows_ask
from lane_runs import HOT, alone, begun, write
from msgspec.structs import replace
from shadow_models import PRESETS, PROMPT, model, steps

from tui_entropy.core.errors import UserError
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.library.text import continuations as fans
from tui_entropy.engine.probes.library.text.continuations import Row, group_continuations
from tui_entropy.records.commands import Write
from tui_entropy.records.probes.continuations import ContinuationOptions, SampledContinuations, normalize_answer

AT = len(PROMPT)
"""The position of the first token that is written: a letter is a token."""


def spread(loaded, ask, written=4, n=20, knobs=HOT):
    """The fan, and what was written around it."""
    with begun(loaded, n, knobs, at=written) as (session, events):
        session.look_ahead()
        row = rows_ask(2, 1, len(PROMPT) + 1, 2, 0, 30)
        before = answer(session, row).panels, session.state.proposed
        fan = SampledContinuations.of(answer(session, ask))
        session.set_knobs(replace(knobs, n_candidates=7))
        session.set_knobs(knobs)
        assert (answer(session, row).panels, session.state.proposed) == before
        write(session)
    return fan, steps(events)


@pytest.mark.parametrize("step", [4, 2, 0])
def test_row_n_is_what_a_run_with_that_seed_writes_from_there_and_nothing_is_disturbed(family, step):
    fan, text = spread(family, fan_ask(1, AT + step, n=3, tokens=5))
    whole = [one.token_id for one in alone(family, 20)]
    assert [one.token_id for one in text] == whole
    assert list(fan.rows[0].token_ids) == whole[step : step + 5]
    nll = sum(one.surprisal for one in text[step : step + 5])
    assert fan.rows[0].logprob == pytest.approx(-nll, abs=1e-3)
    if step == 0:
        for n in (1, 2):
            other = alone(family, 5, replace(HOT, seed=HOT.seed + n))
            assert list(fan.rows[n].token_ids) == [one.token_id for one in other]


@pytest.mark.parametrize("knobs", [PRESETS[name] for name in ("greedy", "penalties", "llama.cpp", "mirostat")])
def test_every_row_is_shaped_by_the_knobs_with_its_own_past(llama, knobs):
    fan, text = spread(llama, fan_ask(1, AT + 4, n=4, tokens=8), knobs=knobs)
    assert list(fan.rows[0].token_ids) == [one.token_id for one in text[4:12]]
    if knobs.temperature == 0:
        assert len({row.token_ids for row in fan.rows}) == 1 and fan.entropy == 0


def test_rows_that_do_not_fit_beside_each_other_come_one_after_the_other(llama, monkeypatch):
    beside, _ = spread(llama, fan_ask(1, AT + 4, n=5, tokens=6))
    monkeypatch.setattr(fans, "MOST_BYTES", 1)
    after, _ = spread(llama, fan_ask(1, AT + 4, n=5, tokens=6))
    assert [row.token_ids for row in after.rows] == [row.token_ids for row in beside.rows]


def test_a_row_ends_with_the_text(llama):
    plain, _ = spread(llama, fan_ask(1, AT + 4, n=4, tokens=8))
    ending = model("llama")
    end = plain.rows[0].token_ids[3]
    object.__setattr__(ending.tokenizer, "eos_ids", frozenset({end}))
    fan, _ = spread(ending, fan_ask(1, AT + 4, n=4, tokens=8))
    for row, whole in zip(fan.rows, plain.rows, strict=True):
        ids = list(whole.token_ids)
        assert list(row.token_ids) == (ids[: ids.index(end) + 1] if end in ids else ids)
        assert row.ended == (end in ids) and len(row.text) <= len(whole.text)


def test_groups_say_the_same_and_their_entropy_is_that_of_their_sizes(llama):
    ids = {"Cat.": 3, "CAT": 2, "dog": 2, "dog!": 1, "": 1}
    rows = [
        Row(list(llama.tokenizer.encode(text, None, False)) if text else [], -1.0, True)
        for text in ids
        for _ in range(ids[text])
    ]
    sampled = group_continuations(ContinuationOptions(n=9), rows, llama.tokenizer, [])
    assert [row.group for row in sampled.rows] == [0] * 5 + [1] * 3 + [2]
    shares = (5 / 9, 3 / 9, 1 / 9)
    assert sampled.entropy == pytest.approx(-sum(p * math.log(p) for p in shares))
    exact = group_continuations(ContinuationOptions(n=9, same="exact"), rows, llama.tokenizer, [])
    assert [row.group for row in exact.rows] == [0] * 3 + [1] * 2 + [2] * 2 + [3, 4]
    assert normalize_answer("An  Answer, the\nanswer ") == "answer answer"
    assert all(a.group <= b.group for a, b in pairwise(exact.rows))


def test_a_step_that_is_not_there_is_refused(llama):
    for ask in (fan_ask(1, AT + 5), fan_ask(2, AT), fan_ask(1, 0)):
        with pytest.raises(UserError, match=r"position|run"):
            spread(llama, ask)


def test_it_spreads_from_any_run_that_there_was(family):
    with begun(family, 10, at=6) as (session, events):
        session.begin(Write("KLMNOP", None, False, 10, HOT))
        write(session, 6)
        session.look_ahead()
        proposed = session.state.proposed
        sampled = SampledContinuations.of(answer(session, fan_ask(1, AT + 3, n=2, tokens=3)))
        session.set_knobs(replace(HOT, n_candidates=7))
        session.set_knobs(HOT)
        assert session.state.proposed == proposed
        write(session)
    first, second = ([one.token_id for one in steps(events) if one.run == run] for run in (1, 2))
    assert list(sampled.rows[0].token_ids) == first[3:6]
    assert second == [one.token_id for one in alone(family, 10, prompt="KLMNOP")]
