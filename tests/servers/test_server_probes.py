"""What a server is asked about a token: continuations are its own, from the very tokens before, many at a time."""

import math

import pytest
from asked_sources import GREEDY, Heard, advance, source_of, write
from fake_model import VOCABULARY, FakeModel, bytes_of, tokenize
from fake_requests import Odd
from fake_server import Wire, serving
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Branch, Continue, Pause, Write
from tui_entropy.records.events import Started
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeProgress
from tui_entropy.records.probes.continuations import CONTINUATIONS, SampledContinuations
from tui_entropy.servers.probes.continuations import AT_ONCE

KINDS = ("openai", "vllm", "llamacpp", "sglang")
WITH_IDS = ("vllm", "llamacpp", "sglang")
N_PROMPT = len(tokenize("The"))
HOT = replace(GREEDY, temperature=1.5, seed=7)


def fan(source, heard, step, **options):
    """The continuations from before a step of run 1."""
    source.handle(AskProbe(CONTINUATIONS, 1, N_PROMPT + step, options))
    answer = heard.of(ProbeAnswer)[-1]
    assert answer.unavailable is None
    return SampledContinuations.of(answer)


@pytest.mark.parametrize("kind", KINDS)
def test_continuations_are_what_the_server_writes_there_with_as_many_seeds(kind):
    model = FakeModel(seed=3)
    with serving(kind, model=model) as fake, source_of(fake.url, vocab=len(VOCABULARY)) as (source, heard):
        write(source, n=6, knobs=HOT)
        sampled = fan(source, heard, 4, n=5, tokens=3, same="exact")
        expected = {}
        for nth in range(5):
            places = [N_PROMPT + 4 + at for at in range(3)]
            ids = [model.take(place, at, 1.5, 7 + 4 + nth, {}) for at, place in enumerate(places)]
            logprob = sum(model.logprob(place, token) for place, token in zip(places, ids, strict=True))
            expected[bytes_of(ids).decode()] = logprob
        assert {row.text for row in sampled.rows} == set(expected) and len(sampled.rows) == 5
        for row in sampled.rows:
            assert row.logprob == pytest.approx(expected[row.text], abs=1e-4) and not row.ended
        n = [sum(row.group == group for row in sampled.rows) for group in range(len(expected))]
        assert n == sorted(n, reverse=True)
        assert sampled.entropy == pytest.approx(-sum(one / 5 * math.log(one / 5) for one in n))


@pytest.mark.parametrize("kind", WITH_IDS)
def test_the_tokens_before_are_sent_as_they_are(kind):
    with serving(kind) as fake, source_of(fake.url) as (source, heard):
        write(source, n=5)
        fan(source, heard, 3, n=2, tokens=1)
        prompt = [one.token_id for one in heard.of(Started)[0].prompt_tokens]
        for request in fake.asked_for_text()[-2:]:
            sent = request.body.get("prompt", request.body.get("input_ids"))
            assert sent == [*prompt, *(step.token_id for step in heard.steps[:3])]


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_taken_is_written(kind):
    with serving(kind) as fake, source_of(fake.url, vocab=len(VOCABULARY)) as (source, heard):
        write(source, n=6)
        row = fan(replaced(source, HOT), heard, 2, n=4, tokens=3).rows[-1]
        source.handle(Branch(1, 2, row.token_ids))
        advance(source)
        branch = [step for step in heard.steps if step.run == 2]
        assert "".join(step.text for step in branch[:3]) == row.text and len(branch) == 4


def replaced(source, knobs):
    source.session.knobs = knobs
    return source


def test_the_text_is_as_if_nobody_had_asked_and_goes_on():
    with serving("vllm") as fake, source_of(fake.url) as (source, heard):
        source.handle(Write("The", None, False, 8, GREEDY))
        while len(heard.steps) < 3:
            source.advance()
        source.handle(Pause())
        before = source.session.proposed
        fan(source, heard, 3, n=3, tokens=2)
        assert source.session.proposed == before and source.state == "paused"
        source.handle(Continue())
        advance(source)
        greedy = [FakeModel().take(N_PROMPT + at, at, 0.0, 0, {}) for at in range(8)]
        assert [step.token_id for step in heard.steps] == greedy


def test_so_many_at_a_time_and_no_more():
    wire = Wire(seconds_per_event=0.01)
    with serving("openai", wire=wire) as fake, source_of(fake.url) as (source, heard):
        write(source, n=1)
        assert len(fan(source, heard, 0, n=24, tokens=4).rows) == 24
        assert 1 < fake.most_open <= AT_ONCE


@pytest.mark.parametrize("odd", [Odd(no_logprobs=True), Odd(zero_logprobs=True), Odd(null_every=2)])
def test_what_the_server_does_not_tell_is_unknown(odd):
    with serving("openai", odd=odd) as fake, source_of(fake.url) as (source, heard):
        write(source, n=1)
        sampled = fan(source, heard, 0, n=2, tokens=3)
        assert all(math.isnan(row.logprob) and row.text for row in sampled.rows)
        assert sampled.panels[1].rows[0][2] is None


def test_of_messages_only_the_beginning_of_an_answer_is_to_be_had():
    with serving("openai") as fake, source_of(fake.url, api="chat") as (source, heard):
        write(source, n=3, chat=True)
        at = len(heard.of(Started)[0].prompt_tokens)
        source.handle(AskProbe(CONTINUATIONS, 1, at, {"n": 2, "tokens": 2}))
        assert len(SampledContinuations.of(heard.of(ProbeAnswer)[-1]).rows) == 2
        source.handle(AskProbe(CONTINUATIONS, 1, at + 1, {"n": 2}))
        answer = heard.of(ProbeAnswer)[-1]
        assert not answer.panels and "sent back" in answer.unavailable


def test_given_up_they_are_closed(monkeypatch):
    monkeypatch.setattr(Heard, "hears_cancel", lambda heard: True)
    wire = Wire(seconds_per_event=0.05)
    with serving("vllm", wire=wire) as fake, source_of(fake.url) as (source, heard):
        write(source, n=1)
        source.handle(AskProbe(CONTINUATIONS, 1, N_PROMPT, {"n": 64, "tokens": 128}))
        assert heard.of(ProbeProgress) and heard.of(ProbeAnswer)[-1].unavailable == "given up"
        assert sum(request.body["max_tokens"] == 128 for request in fake.asked_for_text()) <= 2 * AT_ONCE


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (AskProbe("lens", 1, N_PROMPT), "nothing of its inside"),
        (AskProbe(CONTINUATIONS, 1, 99), "no token at position 99"),
        (AskProbe(CONTINUATIONS, 2, N_PROMPT), "no run 2"),
        (AskProbe(CONTINUATIONS, 1, N_PROMPT, {"n": 0}), "cannot be 0"),
        (AskProbe(CONTINUATIONS, 1, N_PROMPT, {"m": 1}), "it has n, tokens, same"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(ask, said):
    with serving("vllm") as fake, source_of(fake.url) as (source, _):
        write(source, n=2)
        with pytest.raises(UserError, match=said):
            source.handle(ask)


@pytest.mark.parametrize("wire", [Wire(error_after=1), Wire(ends_after=1), Wire(status=500)])
def test_a_server_that_breaks_off_is_told_of(wire):
    with serving("vllm") as fake, source_of(fake.url) as (source, _):
        write(source, n=2)
        fake.wire = wire
        with pytest.raises(UserError):
            source.handle(AskProbe(CONTINUATIONS, 1, N_PROMPT))
        fake.wire = Wire()
        source.handle(AskProbe(CONTINUATIONS, 1, N_PROMPT))
