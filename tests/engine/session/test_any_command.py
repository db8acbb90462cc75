"""Any command in any state is obeyed, or refused in a sentence: random walks of all of them over a tiny model."""

from __future__ import annotations

import typing

import pytest
from asking import fan_ask, step_ask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from small import endless
from small import loaded as small_model

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.model_source import ModelSource
from tui_entropy.engine.probes.registry import PROBES
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import (
    Advance,
    Branch,
    Command,
    Continue,
    Follow,
    Go,
    Label,
    Load,
    Pause,
    Quit,
    Relayed,
    Reopen,
    SelectHead,
    SetBreakpoints,
    SetKnobs,
    SetShadow,
    SetVector,
    SetWatches,
    Stop,
    TakeControl,
    Twin,
    Write,
)
from tui_entropy.records.events import Failed, Refused
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import AskProbe, CancelProbe
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Lane, Vector
from tui_entropy.records.step import Step
from tui_entropy.serving.worker import Worker
from tui_entropy.state.session_view import SessionView

OF_THE_AUDIENCE = (Quit, Follow, TakeControl)
"""They are answered before the worker hears of them."""
END = 1000
"""Stands for the number of steps that a run has when its turn comes."""
FAMILIES = ["llama", "gemma3", "hybrid"]
"""A cache that can be cropped, one with windows, and layers that carry a state."""

texts = st.sampled_from(["", "A", "ABCDEFGHIJ", "x\ny. z", "\x00\x1b[2J", "é" * 3, "B" * 700])
runs = st.sampled_from([1, 2, 3, 1, 2, 0, -1, 9])
steps = st.sampled_from([END, END - 1, END + 1, 0, 1, 2, 5, -1, 40])
knobs = st.sampled_from(
    [
        Knobs(temperature=1.0, top_k=0),
        Knobs(temperature=0.0),
        Knobs(temperature=1.2, mirostat_tau=3.0),
        Knobs(temperature=1.0, adaptive="own"),
        Knobs(repetition_penalty=1.3, dry_multiplier=0.8, penalty_last_n=3),
        Knobs(temperature=-1.0),
        Knobs(temperature=float("nan")),
        Knobs(banned=tuple(range(3, 60))),
        Knobs(n_candidates=1),
        Knobs(order=("top_k",)),
        Knobs(seed=2**62),
    ]
)
vectors = st.builds(
    Vector,
    st.sampled_from(["warm", "formal", "nobody"]),
    st.sampled_from(["built in", "warm", "formal", "/nowhere.gguf"]),
    st.sampled_from([(1, 2), (), (99,)]),
    strength=st.sampled_from([1.0, -0.5, 0.0]),
    on=st.booleans(),
)
lanes = st.builds(
    Lane,
    st.just("other"),
    vectors=st.none() | st.tuples(vectors) | st.just(()),
    knobs=st.none() | knobs,
    prompt=st.none() | texts,
    system=st.none() | texts,
)
tokens = st.lists(st.sampled_from([3, 40, 0, -1, 10**6]), max_size=3).map(tuple)
names = st.none() | texts
breakpoints = st.builds(
    Breakpoint, st.integers(1, 3), st.sampled_from(["step == 3", "rank > 1", "entropy >", "token == 'A'", "nonsense"])
)

COMMANDS: dict[type, st.SearchStrategy] = {
    Load: st.just(Load(ModelSpec("another"))),
    Write: st.builds(
        Write,
        texts,
        names,
        st.sampled_from([None, False, True]),
        st.sampled_from([6, 30, 0, 1]),
        knobs,
        st.booleans(),
        st.none() | runs,
        stop=st.sampled_from([(), ("A", "BC"), ("",)]),
        request=st.sampled_from(["", "", "one", "two"]),
    ),
    SetKnobs: st.builds(SetKnobs, knobs),
    SetVector: st.builds(SetVector, vectors, st.booleans()),
    Pause: st.just(Pause()),
    Continue: st.just(Continue()),
    Advance: st.builds(
        Advance, st.sampled_from([1, 2, 0, -3]), st.sampled_from(["", "", "sentence", "line", "moon"])
    ),
    Stop: st.builds(Stop, st.sampled_from(["", "one", "nobody's"])),
    Relayed: st.builds(Relayed, st.just("one"), st.sampled_from(["", "/v1/completions"]), st.binary(max_size=9)),
    AskProbe: st.builds(
        AskProbe,
        st.sampled_from([*(probe.name for probe in PROBES), "moon"]),
        runs,
        st.sampled_from([0, 1, 3, 9, 12, 15, -1, 10**6]),
        st.dictionaries(
            st.sampled_from(["layer", "head", "n_queries", "n_keys", "n", "tokens", "same", "k", "temperature", "x"]),
            st.sampled_from([None, True, 0, 1, 2, 99, -1, 0.5, "exact", "moon", (1, 2)]),
            max_size=2,
        ),
        st.booleans(),
    ),
    CancelProbe: st.just(CancelProbe()),
    SetBreakpoints: st.builds(SetBreakpoints, st.lists(breakpoints, max_size=2).map(tuple)),
    SetWatches: st.builds(SetWatches, st.lists(texts, max_size=2).map(tuple)),
    Branch: st.builds(Branch, runs, steps, tokens, texts, tokens, st.booleans()),
    Go: st.builds(Go, runs),
    Label: st.builds(Label, runs, names, st.none() | st.booleans(), st.none() | st.booleans()),
    SelectHead: st.builds(
        SelectHead, st.sampled_from([1, 2, 4, 0, -1, 99]), st.sampled_from([None, 1, 4, 0, -1, 99])
    ),
    SetShadow: st.builds(SetShadow, st.none() | lanes),
    Twin: st.builds(Twin, runs, steps, lanes),
    Reopen: st.builds(Reopen, st.sampled_from(["", "/nowhere.tui"]), st.none() | runs, st.none(), st.booleans()),
}
commands = st.one_of(*COMMANDS.values())
turns = st.integers(1, 9)
"""So many tokens are written before the next command, if the text goes on."""
walks = st.lists(commands | commands | turns, min_size=1, max_size=14)


def test_the_walk_knows_every_command_that_a_worker_obeys():
    assert set(COMMANDS) | set(OF_THE_AUDIENCE) == set(typing.get_args(Command))


class Broadcaster:
    """Takes down what is said, as events of a log and answers to one screen."""

    def __init__(self) -> None:
        self.log = SessionView()
        self.events: list = []
        self.describe = None

    def emit(self, event) -> None:
        self.events.append(event)
        self.log.append(event)

    answer = emit
    open_probes = frozenset()

    def hears_cancel(self) -> bool:
        return False

    def record(self, path, origin=None) -> str:
        return ""

    def settle(self, load) -> None:
        """Nobody leaves here."""

    def overtaking(self, wish):
        return wish


class Model(ModelSource):
    """The real one but for loading and the size of its process."""

    def __init__(self, audience, make) -> None:
        super().__init__(audience)
        self._make = make

    def bring_up(self, load):
        return self._make(self.emit)

    def memory(self):
        """It would be of this process."""


class Engine(Worker):
    """The real one without a socket."""

    def __init__(self, make) -> None:
        super().__init__(Broadcaster(), lambda audience, load: Model(audience, make))

    def act(self, turn) -> None:
        if isinstance(turn, int):
            for _ in range(turn):
                if self.writing:
                    self.advance()
            return
        self.obey(self._meant(turn))

    def _meant(self, command):
        """With END as the number of steps there are."""
        if self.source is None or getattr(command, "step", 0) < END - 1:
            return command
        run = self.source.session.state.runs.get(command.run)
        return replace(command, step=command.step - END + (run.sequence.n_written if run else 0))


@pytest.fixture(scope="module", params=FAMILIES)
def make(request):
    """Makes a session that tells what happens, on one model for all walks."""
    loaded = endless(small_model(request.param))
    with open_instruments(loaded, record="shown") as instruments:
        yield lambda emit: Session(loaded, instruments, emit, 1 << 16)


def walk(make, turns) -> None:
    engine = Engine(make)
    heard = engine.broadcaster.events
    for turn in [Write("too early", None, None, 4, Knobs()), Load(ModelSpec("tiny")), *turns]:
        before = len(heard)
        engine.act(turn)
        failed = [event for event in heard[before:] if isinstance(event, Failed)]
        assert not failed, f"{turn}: {failed[0].sentence}\n{failed[0].detail}"
        for event in heard[before:]:
            if isinstance(event, Refused):
                sentence, *picture = event.sentence.split("\n")  # an expression that is wrong, with a caret below
                assert len(sentence) > 15 and (not picture or picture[-1].strip() == "^"), event
    whole(engine)


def whole(engine: Engine) -> None:
    """What the log was told is what the engine has: every run with its steps one after the other."""
    session, log = engine.source.session, engine.broadcaster.log
    for number, run in session.state.runs.items():
        assert len(log.runs[number].steps) == run.sequence.n_written, number
    begun = {event.run: event.shared for event in engine.broadcaster.events if hasattr(event, "shared")}
    for run, shared in begun.items():
        indices = [event.index for event in engine.broadcaster.events if isinstance(event, Step) and event.run == run]
        assert indices == list(range(shared, shared + len(indices)))


WALKS = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False
)


@given(turns=walks)
@WALKS
def test_every_command_is_obeyed_or_refused_in_a_sentence_in_every_state(make, turns):
    walk(make, turns)


@pytest.mark.slow
@given(turns=walks)
@settings(WALKS, max_examples=1500)
def test_the_same_at_length(make, turns):
    walk(make, turns)


SHORT = Write("ABCDEFGHIJ", None, False, 20, Knobs(temperature=1.0))


@pytest.mark.parametrize("asked", [fan_ask(1, 10, 2, 3), step_ask(1, 10, Knobs(temperature=1.0))])
def test_what_was_never_read_is_refused_in_a_sentence(make, asked):
    walk(make, [SHORT, Stop(), asked])
