"""A recording that a server wrote is gone on with there, from the very tokens, and not unless it is the same."""

from contextlib import closing, contextmanager

import pytest
from asked_sources import GREEDY, Heard, advance, source_of, write
from fake_model import VOCABULARY, FakeModel, bytes_of, tokenize
from fake_requests import Odd
from fake_server import serving
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Branch, Continue, Go, Label, Load, Pause, Reopen, SetKnobs, Stop, Write
from tui_entropy.records.events import Differences, Paused, Started
from tui_entropy.records.model import ModelSpec, ServerSpec
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer
from tui_entropy.records.settings import Breakpoint
from tui_entropy.records.step import NO_ID, PromptToken
from tui_entropy.servers.proxied.source import ProxySource
from tui_entropy.servers.server_source import ServerSource
from tui_entropy.trace.library import reopened_spec
from tui_entropy.trace.reader import Trace
from tui_entropy.trace.writer import Recorder

WITH_IDS = ("vllm", "llamacpp", "sglang")
N_PROMPT = len(tokenize("The"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.tui"


def record(path, url, n=6, act=lambda source: None, chat=False, **spec):
    """A text of a server, and what is done with it, in a file."""
    heard = Heard()
    with closing(Recorder(path)) as recorder, closing(ServerSource(heard)) as source:
        heard.emit = recorder.take
        source.begin(Load(ModelSpec("x", server=ServerSpec(url, **spec))))
        recorder.take(source.ready())
        write(source, n=n, chat=chat)
        act(source)


@contextmanager
def reopened(path, given=None):
    """A source that began with the recording, and what it told; before anybody went on with it."""
    heard = Heard()
    with closing(ServerSource(heard)) as source:
        source.begin(Load(reopened_spec(path, {}, given or {})[0], reopen=Reopen(str(path))))
        heard.emit(source.ready())
        yield source, heard


@contextmanager
def go_on(path, **ask):
    with reopened(path) as (source, heard):
        source.handle(Reopen(str(path), **ask))
        yield source, heard


@pytest.mark.parametrize("kind", ["openai", *WITH_IDS])
def test_a_text_goes_on_behind_its_very_tokens(path, kind):
    model = FakeModel(seed=3, outside_every=4)
    with serving(kind, model=model) as fake:
        record(path, fake.url, vocab=len(VOCABULARY))
        with go_on(path, max_tokens=4) as (source, heard):
            assert source.state == "paused" and heard.of(Paused)[-1].reason.startswith("as recorded")
            source.handle(Continue())
            advance(source)
        was = list(Trace.open(path).steps(1))
        assert [step.index for step in heard.steps] == [6, 7, 8, 9]
        sent = fake.asked_for_text()[-1].body
        if kind in WITH_IDS:
            ids = [step.token_id for step in (*was, *heard.steps)]
            prompt = [one.token_id for one in Trace.open(path).log().run.started.prompt_tokens]
            assert sent.get("prompt", sent.get("input_ids")) == [*prompt, *ids[:6]]
        else:
            assert sent["prompt"] == "The" + "".join(step.text for step in was)
        greedy = [model.take(N_PROMPT + 6 + at, at, 0.0, 0, {}) for at in range(4)]
        assert heard.text.encode() == bytes_of(greedy)
        assert heard.steps[-1].perplexity == heard.steps[-1].perplexity


def branched(source):
    source.handle(Branch(1, 3, (260,), pause=True))
    advance(source)
    source.handle(Label(2, "other", True))
    source.handle(SetKnobs(replace(GREEDY, temperature=0.8)))
    source.handle(Go(1))


def test_every_run_is_there_as_it_was_left(path):
    with serving("vllm") as fake:
        record(path, fake.url, act=branched)
        with go_on(path, run=2) as (source, heard):
            runs = source.session.runs
            assert list(runs) == [1, 2] and (runs[2].name, runs[2].starred) == ("other", True)
            assert [step.token_id for step in runs[2].steps][:4][-1] == 260 and len(runs[2].steps) == 4
            assert source.session.run is runs[2] and source.session.knobs.temperature == 0.8
            source.handle(Go(1))
            source.handle(Branch(2, 4))
            assert heard.of(Started)[-1].run == 3 and heard.of(Started)[-1].parent == 2
            advance(source)
            assert [step.index for step in heard.steps] == [4, 5]


def forced(source):
    source.handle(Branch(1, 2, (260, 261, 262), pause=False))
    source.advance()
    source.handle(Pause())


def test_what_was_forced_and_had_not_come_yet_still_comes(path):
    with serving("llamacpp") as fake:
        record(path, fake.url, act=forced)
        with go_on(path) as (source, heard):
            source.handle(Continue())
            while len(heard.steps) < 2:
                source.advance()
        n = len(source.session.run.steps) - 2
        assert [step.token_id for step in heard.steps] == [260, 261, 262][n - 2 :][:2]


def test_breakpoints_stay(path):
    with serving("vllm") as fake:
        record(
            path,
            fake.url,
            act=lambda source: source.session.breakpoints.set_breakpoints([Breakpoint(1, "rank >= 1")]),
        )
        with go_on(path) as (source, heard):
            source.handle(Continue())
            advance(source)
            assert heard.of(Paused)[-1].breakpoint == 1 and not heard.steps


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("vllm", {}, "was written by llama.cpp"),
        ("llamacpp", {"kind": "openai"}, "this is an OpenAI-compatible server"),
    ],
)
def test_what_is_not_as_it_was_is_told_and_asked_about(path, kind, given, said):
    with serving("llamacpp") as fake, serving(kind) as other:
        record(path, fake.url)
        with reopened(path, {"url": other.url, **given}) as (source, heard):
            source.handle(AskProbe("continuations", 1, 2))
            assert heard.of(ProbeAnswer)[-1].unavailable == "this recording is not gone on with yet"
            with pytest.raises(UserError, match="not gone on with yet"):
                source.handle(Continue())
            source.handle(Reopen(str(path)))
            assert said in ", ".join(heard.of(Differences)[-1].found) and source.state == "ready"
            source.handle(Reopen(str(path), max_tokens=2, despite=True))
            source.handle(Continue())
            advance(source)
            assert len(heard.steps) == 2


def test_other_numbers_are_told_of(path):
    with serving("vllm") as fake:
        record(path, fake.url)
        fake.model = FakeModel(seed=99)
        with go_on(path, max_tokens=1) as (source, heard):
            assert heard.of(Paused)[-1].reason.startswith("NOT as recorded")
        fake.odd = Odd(processed=True)
        with reopened(path) as (source, heard):
            source.handle(Reopen(str(path)))
            assert any("were raw and are processed" in one for one in heard.of(Differences)[0].found)


def test_an_answer_to_messages_is_shown_and_another_one_begun(path):
    with serving("openai") as fake:
        record(path, fake.url, n=3, chat=True, api="chat", act=lambda source: source.handle(Stop()))
        with go_on(path, max_tokens=5) as (source, heard):
            assert "sent back" in heard.of(Paused)[-1].reason
            source.handle(Continue())
            advance(source)
            assert source.state == "paused" and not heard.steps
            source.handle(Write("The", None, True, 2, GREEDY))
            advance(source)
            assert [step.run for step in heard.steps] == [2, 2]


def test_a_text_that_was_stopped_is_not_begun_anew_where_only_messages_are_taken():
    with serving("openai") as fake, source_of(fake.url, api="chat") as (source, heard):
        source.handle(Write("The", None, True, 9, GREEDY))
        while len(heard.steps) < 2:
            source.advance()
        source.handle(Stop())
        source.handle(Continue())
        advance(source)
        assert len(heard.steps) == 2 and "cannot be gone on with" in heard.of(Paused)[-1].reason


def test_a_server_that_is_gone_is_a_sentence(path):
    with serving("vllm") as fake:
        record(path, fake.url)
    with pytest.raises(UserError, match=r"cannot be reached.*open --server URL"), reopened(path):
        pass


def test_what_is_no_text_of_this_server_is_refused(path, tmp_path):
    with serving("openai") as fake, serving("vllm") as with_ids:
        record(path, fake.url)
        with pytest.raises(UserError, match="no token ids"), reopened(path, {"url": with_ids.url}):
            pass
        record(tmp_path / "b.tui", with_ids.url)
        with pytest.raises(UserError, match="has 7: name"), reopened(tmp_path / "b.tui", {"vocab": 7}):
            pass
        with pytest.raises(UserError, match="say nothing"):
            reopened_spec(path, {"name": "gpt2"})
        assert reopened_spec(path, {})[0] == ModelSpec("fake", server=reopened_spec(path, {})[0].server)


def test_what_passed_through_a_proxy_is_looked_at_and_no_more(path):
    heard, asked = Heard(), ServerSpec("http://127.0.0.1:1", proxied=True)
    with closing(Recorder(path)) as recorder, closing(ProxySource(heard)) as source:
        source.begin(Load(ModelSpec("x", server=asked)))
        recorder.take(source.ready())
        recorder.take(Started(1, "The", None, False, (PromptToken(NO_ID, b"The", "The"),), GREEDY, (), 4))
    with pytest.raises(UserError, match="through a proxy"):
        reopened_spec(path, {})
