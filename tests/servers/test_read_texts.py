"""A text that is there is read through a server: each token with the numbers of its place, and branched anywhere."""

import math
from contextlib import closing

import pytest
from asked_sources import GREEDY, Heard, advance, source_of
from fake_model import VOCABULARY, FakeModel, tokenize
from fake_requests import Odd
from fake_server import N_CTX, Wire, serving
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import (
    Advance,
    Branch,
    Continue,
    Go,
    Load,
    Pause,
    Reopen,
    SetBreakpoints,
    SetKnobs,
    Write,
)
from tui_entropy.records.events import TEXT_READ, Ended, NextTokens, Paused, PromptScores, Started
from tui_entropy.records.settings import Breakpoint
from tui_entropy.servers.kinds.prompt_tokens import tokens_of_text
from tui_entropy.servers.server_source import ServerSource
from tui_entropy.trace.library import reopened_spec
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.writer import Recorder
from tui_entropy.transport.plausible import contradiction

WITH_IDS = ("vllm", "llamacpp", "sglang")
TEXT = "The cat sat on the other word 😀 and not là."
IDS = tokenize(TEXT)


def read(source, text=TEXT, n=3, **more):
    source.handle(Write(text, None, False, n, GREEDY, False, read=True, **more))


@pytest.mark.parametrize("kind", WITH_IDS)
@pytest.mark.parametrize("vocab", [0, len(VOCABULARY)])
def test_every_token_has_the_numbers_of_its_place(kind, vocab):
    model = FakeModel(seed=3)
    with serving(kind, model=model) as fake, source_of(fake.url, vocab=vocab, n_logprobs=20) as (source, heard):
        read(source)
        advance(source)
        assert [step.token_id for step in heard.steps] == IDS[1:] and heard.text == TEXT.removeprefix("The")
        (started,) = heard.of(Started)
        assert (started.n_given, started.prompt, started.chat) == (len(IDS) - 1, TEXT, False)
        assert heard.of(NextTokens)[0].given == tuple(IDS[1:])
        assert [one.reason for one in heard.of(Paused)] == [TEXT_READ] and source.state == "paused"
        assert not heard.of(PromptScores)
        for step in heard.steps:
            whole = [logprob for _, logprob in model.ranked(step.position)]
            assert step.surprisal == pytest.approx(-model.logprob(step.position, step.token_id), abs=1e-4)
            low, high = step.bounds_of("entropy") or (step.entropy, step.entropy)
            assert low - 1e-4 <= -sum(math.exp(one) * one for one in whole) <= high + 1e-4
            assert not step.rank or step.rank == 1 + sum(one > -step.surprisal + 1e-9 for one in whole)
            assert len(step.candidates) == 20 and not step.forced
            assert contradiction(step, source.ready().card) == ""


def test_a_long_text_is_scored_in_a_few_requests():
    with serving("vllm") as fake, source_of(fake.url) as (source, heard):
        read(source, "The" + " word" * 3000)
        advance(source)
        scored = [one.body for one in fake.requests if "prompt_logprobs" in (one.body or {})]
        assert len(heard.steps) == 3000 and len(scored) <= 6
        assert sum(len(body["prompt"]) for body in scored) <= 3 * 3001


@pytest.mark.parametrize("kind", WITH_IDS)
def test_it_goes_on_behind_the_text(kind):
    with serving(kind) as fake, source_of(fake.url) as (source, heard):
        read(source)
        advance(source)
        source.handle(Continue())
        advance(source)
        assert len(heard.steps) == len(IDS) - 1 + 3 and heard.of(Ended)[0].reason == "token limit"
        sent = fake.asked_for_text()[-1].body
        assert sent.get("prompt", sent.get("input_ids")) == IDS


@pytest.mark.parametrize("kind", WITH_IDS)
def test_another_token_is_taken_anywhere_in_it(kind):
    with serving(kind) as fake, source_of(fake.url) as (source, heard):
        read(source)
        advance(source)
        other = heard.steps[4].candidates[1].token_id
        source.handle(Branch(1, 4, (other,)))
        advance(source)
        branch = [step for step in heard.steps if step.run == 2]
        assert [step.index for step in branch] == [4, 5, 6] and branch[0].token_id == other
        started = heard.of(Started)[-1]
        assert (started.shared, started.n_given) == (4, 4)


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_it_may_rest_in_the_middle_and_goes_on_there(kind):
    with serving(kind) as fake, source_of(fake.url) as (source, heard):
        read(source)
        while len(heard.steps) < 3:
            source.advance()
        source.handle(Pause())
        source.handle(SetKnobs(replace(GREEDY, temperature=0.5)))
        source.handle(Branch(1, 3, (260,), pause=True))
        advance(source)
        assert heard.steps[-1].run == 2 and heard.steps[-1].token_id == 260
        source.handle(Go(1))
        source.handle(Advance(2))
        advance(source)
        source.handle(Continue())
        advance(source)
        text = [step for step in heard.steps if step.run == 1]
        assert [step.token_id for step in text] == IDS[1:] and [step.index for step in text] == [*range(len(IDS) - 1)]
        assert heard.of(Paused)[-1].reason == TEXT_READ
        assert heard.of(Started)[-1].knobs.temperature == 0.5


def test_breakpoints_stop_in_it():
    with serving("vllm") as fake, source_of(fake.url) as (source, heard):
        source.handle(SetBreakpoints((Breakpoint(1, "step == 5"),)))
        read(source)
        advance(source)
        assert heard.of(Paused)[-1].breakpoint == 1 and len(heard.steps) == 4
        source.handle(Continue())
        advance(source)
        assert len(heard.steps) == len(IDS) - 1


@pytest.mark.parametrize("kind", WITH_IDS)
def test_a_server_that_breaks_off_is_asked_again_for_the_rest(kind):
    with serving(kind) as fake, source_of(fake.url) as (source, heard):
        fake.wire = Wire(status=500)
        try:
            read(source)
            advance(source)
            assert source.state == "paused" and "500" in heard.of(Paused)[-1].reason
            fake.wire = Wire()
            source.handle(Continue())
            advance(source)
            assert [step.token_id for step in heard.steps] == IDS[1:]
        except UserError as refused:  # where the text is asked for by the same route
            assert kind == "sglang" and "500" in str(refused)


def test_a_prompt_is_opened_by_its_ids():
    with serving("llamacpp") as fake, source_of(fake.url) as (source, heard):
        source.handle(Write(TEXT, None, False, 4, GREEDY))
        advance(source)
        ids = (*IDS, *(step.token_id for step in heard.steps))
        heard.events.clear()
        source.handle(Write(TEXT + "x", None, False, 4, GREEDY, read=True, token_ids=ids, parent=1))
        advance(source)
        assert [step.token_id for step in heard.steps] == list(ids[1:])
        assert heard.text.startswith(TEXT.removeprefix("The")) and heard.of(Started)[0].parent == 1


@pytest.mark.parametrize("odd", [Odd(no_logprobs=True), Odd()])
def test_where_no_ids_are_told_no_text_is_read(odd):
    with serving("openai", odd=odd) as fake, source_of(fake.url) as (source, _):
        with pytest.raises(UserError, match="tells no token ids"):
            read(source)
        facts = {fact.name: fact.value for fact in source.ready().card.server.facts}
        assert "not through this server" in facts["a text that is read"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("a", "one token at most"), ("\x01" * N_CTX, "shorten the text")],
    ids=["one token", "too long"],
)
def test_what_cannot_be_read_is_refused(text, said):
    with serving("llamacpp") as fake, source_of(fake.url) as (source, _), pytest.raises(UserError, match=said):
        read(source, text)


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_a_recording_of_half_a_text_reads_the_other_half(kind, tmp_path):
    path = tmp_path / "a.tui"
    with serving(kind) as fake, source_of(fake.url) as (source, heard):
        with closing(Recorder(path)) as recorder:
            recorder.take(source.ready())
            read(source)
            while len(heard.steps) < 4:
                source.advance()
            source.handle(Pause())
            for event in heard.events:
                recorder.take(event)
        again = Heard()
        with closing(ServerSource(again)) as source:
            source.begin(Load(reopened_spec(path, {})[0], reopen=Reopen(str(path))))
            source.handle(Reopen(str(path)))
            source.handle(Continue())
            advance(source)
            assert [step.token_id for step in again.steps] == IDS[5:]
            assert again.text == TEXT.encode()[sum(len(VOCABULARY[one]) for one in IDS[:5]) :].decode()
            assert source.session.run.n_left == 3
        assert Trace.open(path).log().run.started.n_given == len(IDS) - 1


@pytest.mark.parametrize(
    ("texts", "whole", "said"),
    [
        (["a", "\ufffd", "\ufffd", "b"], "aéb", ["a", "", "é", "b"]),
        (["\ufffd", "\ufffd\ufffd"], "漢", ["", "漢"]),
        (["<s>", "a", " b"], "a b", ["<s>", "a", " b"]),
        (["a", "x", "\ufffd"], "abc", ["a", "x", "\ufffd"]),
    ],
)
def test_parts_of_a_character_say_it_together(texts, whole, said):
    tokens = tokens_of_text(range(len(texts)), texts, whole)
    assert [token.text for token in tokens] == said
