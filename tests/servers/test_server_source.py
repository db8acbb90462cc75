"""A model behind a server, from the first question to the last token: no number but those that it told."""

import math

import pytest
from asked_sources import GREEDY, advance, source_of, write
from fake_model import VOCABULARY, FakeModel, bytes_of, tokenize
from fake_requests import Odd
from fake_server import Wire, serving
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Advance, Branch, Continue, Go, Pause, SetBreakpoints, SetKnobs, Stop
from tui_entropy.records.events import Ended, KnobsChanged, Paused, PromptScores, Proposed, Refused, Started
from tui_entropy.records.settings import Breakpoint
from tui_entropy.records.step import NO_ID
from tui_entropy.transport.plausible import contradiction

KINDS = ("openai", "vllm", "llamacpp", "sglang")
WITH_IDS = ("vllm", "llamacpp", "sglang")


def token_of(kind, step):
    """Its place in the vocabulary of the fake."""
    return step.token_id if kind in WITH_IDS else VOCABULARY.index(step.token_bytes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_the_one_that_the_server_has_for_this_token(kind):
    model = FakeModel(seed=3)
    with serving(kind, model=model) as fake, source_of(fake.url, vocab=len(VOCABULARY)) as (source, heard):
        assert source.ready().card.server.kind == kind
        write(source, n=15, knobs=replace(GREEDY, temperature=1.3))
        n_prompt = len(tokenize("The"))
        assert len(heard.steps) == 15 and heard.of(Ended)[0].reason == "token limit"
        for step in heard.steps:
            place, token = n_prompt + step.index, token_of(kind, step)
            whole = [logprob for _, logprob in model.ranked(place)]
            entropy = -sum(math.exp(one) * one for one in whole)
            assert step.surprisal == pytest.approx(-model.logprob(place, token), abs=1e-5)
            low, high = step.bounds_of("entropy") or (step.entropy, step.entropy)
            assert low - 1e-4 <= entropy <= high + 1e-4
            assert not step.rank or step.rank == 1 + sum(one > -step.surprisal + 1e-9 for one in whole)
            assert contradiction(step, source.ready().card) == ""
        ids = [token_of(kind, step) for step in heard.steps]
        assert heard.text.encode() == bytes_of(ids)


ODD = {
    "several an event": Odd(tokens_per_event=5), "missing": Odd(missing_every=3), "merged": Odd(merged_every=4),
    "null": Odd(null_every=3), "not finite": Odd(not_finite_every=3), "no usage": Odd(no_usage=True),
    "bare events": Odd(bare_events=True), "several, missing": Odd(tokens_per_event=4, missing_every=3),
    "cap": Odd(cap=5),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("model", [FakeModel(), FakeModel(split_every=3), FakeModel(outside_every=4, twice=True)])
def test_no_number_is_ever_that_of_another_token(kind, odd, model):
    if odd.cap and kind in ("llamacpp", "sglang"):
        return  # these have no bound
    with serving(kind, model=model, odd=odd) as fake, source_of(fake.url, vocab=len(VOCABULARY)) as (source, heard):
        write(source, n=24)
        n_prompt = len(tokenize("The"))
        written = [model.take(n_prompt + n, n, 0.0, 0, {}) for n in range(24)]
        # Without ids nothing tells where an entry is missing.
        is_aligned = not (odd.merged_every or odd.missing_every)
        for step in heard.steps:
            whole = [logprob for _, logprob in model.ranked(n_prompt + step.index)]
            if (bounds := step.bounds_of("entropy")) and (kind in WITH_IDS or is_aligned):
                entropy = -sum(math.exp(one) * one for one in whole)
                assert bounds[0] - 1e-4 <= entropy <= bounds[1] + 1e-4
            if kind in WITH_IDS and step.token_id != NO_ID:
                assert step.token_id == written[step.index]
            if kind in WITH_IDS and not math.isnan(step.surprisal):
                told = -model.logprob(n_prompt + step.index, written[step.index])
                assert step.surprisal == pytest.approx(told, abs=1e-5)
        if kind in WITH_IDS and "merged" not in str(odd):
            assert len(heard.steps) == 24
        if not odd.merged_every and not (kind == "sglang" and model.split_every):
            assert heard.text == bytes_of(written).decode("utf-8", "replace").rstrip("\ufffd")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (Wire(error_after=3), "in the midst"), (Wire(ends_after=3), "ended before"), (Wire(cut_after=3), "reached"),
        (Wire(garbage_after=3), "no JSON"),
    ],
)  # fmt: skip
def test_a_server_that_breaks_off_leaves_a_text_that_can_be_gone_on_with(kind, wire, said):
    with serving(kind) as fake, source_of(fake.url) as (source, heard):
        fake.wire = wire
        write(source, n=8)
        assert source.state == "paused" and said in heard.of(Paused)[-1].reason
        assert len(heard.steps) <= 3
        fake.wire = Wire()
        source.handle(Continue())
        advance(source)
        if kind in WITH_IDS:
            assert len(heard.steps) == 8 and [step.index for step in heard.steps] == list(range(8))


@pytest.mark.parametrize("wire", [Wire(comments=True), Wire(crlf=True), Wire(piece_bytes=1), Wire(huge_after=2)])
def test_however_its_bytes_come_the_text_is_the_same(wire):
    with serving("vllm", wire=wire) as fake, source_of(fake.url) as (source, heard):
        write(source, n=6)
        assert len(heard.steps) == 6


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (Wire(api_key="secret"), "wants a key"), (Wire(loading=1), "not ready yet"),
        (Wire(status=500, html=True), "500"), (Wire(status=429), "429"),
    ],
)  # fmt: skip
def test_a_refusal_is_a_sentence(wire, said):
    with (
        serving("openai", wire=wire) as fake,
        pytest.raises(UserError, match=said) as refused,
        source_of(fake.url) as (source, heard),
    ):
        write(source)
        raise UserError(next(event.sentence for event in heard.of(Refused)))
    assert "\n" not in str(refused.value) and "<html" not in str(refused.value)[:20]


def test_the_key_is_sent_and_never_told(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    with (
        serving("vllm", wire=Wire(api_key="secret")) as fake,
        source_of(fake.url, key_env="MY_KEY") as (source, heard),
    ):
        write(source, n=2)
        assert len(heard.steps) == 2 and "secret" not in repr(heard.events) + repr(source.ready())


def test_zeros_in_place_of_probabilities_make_no_numbers():
    with serving("vllm", odd=Odd(zero_logprobs=True)) as fake, source_of(fake.url) as (source, heard):
        write(source, n=3)
        assert all(math.isnan(step.surprisal) and not step.bounds for step in heard.steps)
        assert any("more than 1" in told.sentence for told in heard.of(Refused))


def test_a_server_without_log_probabilities_still_writes():
    with serving("openai", odd=Odd(no_logprobs=True)) as fake, source_of(fake.url) as (source, heard):
        card = source.ready().card
        write(source, n=5)
        assert card.server.n_logprobs == 0 and not source.capabilities.knows("entropy")
        assert heard.text and all(math.isnan(step.surprisal) for step in heard.steps)


@pytest.mark.parametrize("odd", [Odd(), Odd(processed=True)])
def test_whose_distribution_it_is_is_found_out(odd):
    with serving("vllm", odd=odd) as fake, source_of(fake.url) as (source, _):
        (fact,) = (fact for fact in source.ready().card.server.facts if fact.name == "their distribution")
        assert fact.value.startswith("processed" if odd.processed else "raw") and fact.known


def test_the_tokens_of_a_prompt_are_scored_where_the_server_does():
    model = FakeModel()
    with serving("vllm", model=model) as fake, source_of(fake.url) as (source, heard):
        write(source, "The cat sat", n=1)
        (told,) = heard.of(PromptScores)
        ids = tokenize("The cat sat")
        assert told.first == 1 and told.names[0] == "surprisal" and len(ids) > 2
        expected = [-model.logprob(place, token) for place, token in enumerate(ids)][1:]
        assert told.scores.column(0) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", WITH_IDS)
def test_back_and_on_with_another_token(kind):
    with serving(kind) as fake, source_of(fake.url, vocab=len(VOCABULARY)) as (source, heard):
        write(source, n=6)
        fourth = heard.steps[3]
        other = fourth.candidates[2]
        source.handle(Branch(1, 3, (other.token_id,)))
        advance(source)
        branch = [step for step in heard.steps if step.run == 2]
        assert heard.of(Started)[-1].shared == 3 and [step.index for step in branch] == [3, 4, 5]
        assert branch[0].token_id == other.token_id and branch[0].forced
        assert -branch[0].surprisal == pytest.approx(other.logprob)
        sent = fake.asked_for_text()[-1].body
        ids = sent.get("prompt", sent.get("input_ids"))
        prompt = [one.token_id for one in heard.of(Started)[0].prompt_tokens]
        assert ids == [*prompt, *(step.token_id for step in heard.steps[:3]), other.token_id]


def test_messages_alone_cannot_be_gone_on_with_and_the_reason_is_told():
    with serving("openai") as fake, source_of(fake.url, api="chat") as (source, heard):
        write(source, n=3, chat=True)
        assert heard.text and not source.capabilities.can("branch")
        assert "sent back" in dict(source.capabilities.reasons)["branch"]
        with pytest.raises(UserError, match="sent back"):
            source.session.branch(Branch(1, 1))


def test_stops_steps_knobs_and_runs():
    with serving("llamacpp") as fake, source_of(fake.url) as (source, heard):
        source.handle(SetBreakpoints((Breakpoint(1, "rank >= 1"),)))
        write(source, n=10)
        assert source.state == "paused" and heard.of(Proposed)[0].step.index == 0 and not heard.steps
        source.handle(SetBreakpoints(()))
        source.handle(Advance(2))
        advance(source)
        assert len(heard.steps) == 2 and source.state == "paused"
        source.handle(SetKnobs(replace(GREEDY, temperature=0.9, lens=1)))
        source.handle(Continue())
        advance(source)
        assert heard.of(KnobsChanged)[0].index == 2 and len(heard.steps) == 10
        assert fake.asked_for_text()[-1].body["temperature"] == 0.9
        source.handle(Branch(1, 4))
        source.handle(Pause())
        source.handle(Go(1))
        source.handle(Stop())
        assert source.state == "ended"


@pytest.mark.parametrize(
    "url", ["foo", "ftp://x", "http://", "", "http://127.0.0.1:1", "http://no.such.host.invalid"]
)
def test_an_address_where_nothing_answers(url):
    with pytest.raises(UserError), source_of(url, timeout=2.0):
        pass


def test_a_model_that_it_lacks_is_named_with_those_that_it_has():
    with serving("vllm") as fake, pytest.raises(UserError, match="its own: "), source_of(fake.url, model="other"):
        pass
