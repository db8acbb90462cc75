"""What is steered is continued, read and gone on with as it was: by its vectors, or not at all."""

from contextlib import closing

import pytest
from asked_sources import GREEDY, Heard, advance
from fake_lens import FakeLens
from fake_server import serving
from vector_files import Files, direction

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Continue, Load, Reopen, SetVector, Write
from tui_entropy.records.events import Differences, PromptScores
from tui_entropy.records.model import ModelSpec, ServerSpec
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer
from tui_entropy.records.probes.continuations import CONTINUATIONS, SampledContinuations
from tui_entropy.records.settings import Vector
from tui_entropy.servers.server_source import ServerSource
from tui_entropy.servers.vllm_lens import measured_stream
from tui_entropy.trace.library import reopened_spec
from tui_entropy.trace.writer import Recorder

JOY = SetVector(Vector("joy", "joy.gguf", on=True, strength=2.0))


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Nothing is late because the machine does other work."""
    monkeypatch.setattr(measured_stream, "LATE_S", 30.0)


def source_to(heard, **vectors):
    return closing(ServerSource(heard, vector_files=lambda: Files(**vectors)))


def begun(source, heard, fake):
    source.begin(Load(ModelSpec("x", server=ServerSpec(fake.url))))
    heard.emit(source.ready())


def test_continuations_are_steered_as_the_text_is():
    heard = Heard()
    with serving("vllm", lens=FakeLens()) as fake, source_to(heard, joy={2: direction()}) as source:
        begun(source, heard, fake)
        source.handle(JOY)
        source.handle(Write("The", None, False, 4, GREEDY))
        advance(source)
        assert not heard.of(PromptScores)  # the server scores it as if nothing steered
        n = len(fake.lens.asked)
        source.handle(AskProbe(CONTINUATIONS, 1, 3, {"n": 3, "tokens": 2}))
        assert len(SampledContinuations.of(heard.of(ProbeAnswer)[-1]).rows) == 3
        plans = [asked[-1] for asked in fake.lens.asked[n:]]
        assert len(plans) == 3 and all(plan["segments"] == ((0, None, ((0, 2.0, 1, 4),)),) for plan in plans)


def test_a_text_is_not_read_as_if_it_were_steered():
    heard = Heard()
    with serving("vllm", lens=FakeLens()) as fake, source_to(heard, joy={2: direction()}) as source:
        begun(source, heard, fake)
        source.handle(Write("The cat sat", None, False, 4, GREEDY, read=True))
        with pytest.raises(UserError, match="without vectors"):
            source.handle(JOY)
        advance(source)
        source.handle(JOY)
        with pytest.raises(UserError, match="without vectors"):
            source.handle(Write("The cat sat", None, False, 4, GREEDY, read=True))


@pytest.mark.parametrize("there", [{"joy": {2: direction()}}, {}])
def test_a_recording_is_gone_on_with_under_its_vectors(tmp_path, there):
    path, heard = tmp_path / "a.tui", Heard()
    with serving("vllm", lens=FakeLens()) as fake:
        with closing(Recorder(path)) as recorder, source_to(heard, joy={2: direction()}) as source:
            heard.emit = recorder.take
            begun(source, heard, fake)
            source.handle(Write("The", None, False, 3, GREEDY))
            source.advance()
            while source.session.run.steps == []:
                source.advance()
            source.handle(JOY)
            advance(source)
        again = Heard()
        with source_to(again, **there) as source:
            source.begin(Load(reopened_spec(path, {})[0], reopen=Reopen(str(path))))
            source.handle(Reopen(str(path), max_tokens=2))
            if not there:
                assert "the vector joy is missing" in again.of(Differences)[0].found[-1]
                return
            source.handle(Continue())
            advance(source)
            assert len(again.steps) == 2
            assert fake.lens.asked[-1][-1]["segments"] == ((1, None, ((0, 2.0, 1, 4),)),)
