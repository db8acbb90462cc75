"""The runs of a session: any of them goes on as if it had been written straight through, wherever one was between."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from small import loaded as small_model

from tui_entropy.engine.decode import Context, Controls, decode, instruments
from tui_entropy.engine.session import Session
from tui_entropy.engine.vectors import ControlVector, setting
from tui_entropy.log import Log
from tui_entropy.records import (
    Branch,
    Knobs,
    Label,
    Reconsider,
    Step,
    Write,
)

DRAWN = Knobs(temperature=1.0, top_k=0, top_p=1.0, seed=3)
PROMPT = "ABCDEFGHIJ"
PLENTY = 1 << 24


def model(family):
    found = small_model(family)
    object.__setattr__(found.codec, "eos_ids", frozenset())  # random weights may say the end token at any time
    return found


@pytest.fixture(scope="module", params=["llama", "gemma3", "gpt_oss", "hybrid"])
def loaded(request):
    return model(request.param)


@pytest.fixture(scope="module")
def llama():
    return model("llama")


class Teller:
    """A session with all that it told, and a vector that can be switched on."""

    def __init__(self, loaded, probes, bound=PLENTY, knobs=DRAWN, n=60):
        self.log, self.events = Log(), []
        self.session = Session(loaded, probes, self.take, bound)
        noise = torch.Generator().manual_seed(5)
        push = ControlVector("push", {2: torch.randn(32, generator=noise).numpy() * 2})
        self.session.directions["push"] = push
        self.off = replace(setting(push, "test"), on=False)
        self.on = replace(self.off, on=True)
        self.session.vectors += (self.off,)
        self.session.begin(Write(PROMPT, None, False, n, knobs))

    def take(self, event):
        self.log.append(event)
        self.events.append(event)

    @property
    def kept(self):
        return self.session.branches.travel.kept

    def write(self, n):
        """n tokens more, as far as it goes; what was written of them."""
        before = len(self.log.steps)
        while self.session.active and len(self.log.steps) < before + n:
            self.session.advance()
        return [step.token_id for step in list(self.log.steps)[before:]]

    def branch(self, step, run=None, **what):
        self.session.branches.branch(Branch(run or self.session.run, step, **what))
        return self.session.run

    def go(self, run):
        self.session.branches.go(run)


def ids(log, run=None):
    return [step.token_id for step in (log.runs[run] if run else log.now).steps]


def alike(one: Step, other: Step, exact=True) -> bool:
    """All but what a clock says, and which run it is."""
    if not exact:
        return one.token_id == other.token_id and one.entropy == pytest.approx(other.entropy, abs=1e-4)
    still = dict(run=0, at=0.0, forward_seconds=0.0, sample_seconds=0.0)
    return str(replace(one, **still)) == str(replace(other, **still))


def straight(teller, run):
    """The steps of a run, written by the loop alone in a context that nothing else ever used."""
    told, kept = teller.log.runs[run], teller.session.branches.runs[run].context
    loaded, session = teller.session.loaded, teller.session
    known: dict = {}

    def pushes(vectors):
        on = tuple(vector for vector in vectors if vector.on)
        if on not in known:
            known[on] = {
                k: torch.from_numpy(v) for vector in on for k, v in session.directions[vector.name].directions.items()
            }
        return known[on]

    def now():
        at = context.n_written
        knobs = next(knobs for first, knobs in reversed(told.turned) if first <= at)
        vectors = next(change.vectors for change in reversed(told.toggled) if change.index <= at)
        return Controls(knobs, pushes(vectors), None, loaded.codec.containing(knobs.dry_breakers))

    context = Context(loaded, kept.prompt.tolist(), 200)
    probes = session.probes
    writing = decode(loaded, probes, context, now)
    steps: list[Step] = []
    while len(steps) < len(told.steps):
        at = len(steps)
        for change in told.toggled:
            if change.index == at and change.rebuilt:
                writing.close()
                context.let_go()
                context.pushes, context.stamps = [], []
                context.note(context.n_tokens - 1, pushes(change.vectors))
                writing = decode(loaded, probes, context, now)
        context.forced, context.banned = kept.meddled.get(at, ([], frozenset()))
        while not isinstance(event := next(writing), Step):
            pass
        writing.send("take")
        steps.append(event)
    return steps


PRESETS = {
    "default": Knobs(),
    "greedy": Knobs(temperature=0),
    "every stage": Knobs(temperature=1.2, top_k=30, top_p=0.9, min_p=0.01, typical_p=0.95, top_n_sigma=3.0),
    "penalties": Knobs(repetition_penalty=1.2, frequency_penalty=0.3, presence_penalty=0.2, penalty_last_n=12),
    "dynamic temperature": Knobs(dynatemp_range=0.5),
    "xtc": Knobs(temperature=1.0, xtc_probability=0.7, xtc_threshold=0.05),
    "dry": Knobs(temperature=1.0, dry_multiplier=2.0, dry_allowed_length=1),
    "mirostat": Knobs(temperature=1.0, top_k=0, top_p=1.0, mirostat_tau=3.0),
    "S1": Knobs(temperature=1.0, adaptive="S1"),
    "S3": Knobs(temperature=1.0, adaptive="S3"),
    "own": Knobs(temperature=1.0, adaptive="own"),
}


@pytest.mark.parametrize("bound", [PLENTY, 0])
@pytest.mark.parametrize("preset", PRESETS)
def test_back_and_on_again_writes_the_same_with_every_preset(llama, preset, bound):
    with instruments(llama) as probes:
        teller = Teller(llama, probes, bound, PRESETS[preset])
        teller.write(24)
        first = list(teller.log.steps)
        run = teller.branch(20)
        teller.write(4)
        assert all(alike(a, b) for a, b in zip(teller.log.steps, first, strict=True))
        teller.branch(5, token_ids=(9,))
        teller.write(10)
        teller.go(run)
        teller.write(6)
        teller.go(1)
        teller.write(6)
        assert ids(teller.log, run) == ids(teller.log, 1)
        exact = [alike(a, b) for a, b in zip(teller.log.now.steps, straight(teller, 1), strict=True)]
        assert all(exact), exact


@pytest.mark.parametrize("bound", [PLENTY, 0])
def test_a_parent_that_was_left_for_a_branch_is_written_on_as_if_it_never_was(loaded, bound):
    with instruments(loaded) as probes:
        teller = Teller(loaded, probes, bound, n=100)
        teller.write(50)
        teller.session.look_ahead()
        proposed = teller.log.proposed
        teller.branch(11, token_ids=(40, 41), ban=(42,))
        assert teller.log.now.started.shared == 11 and teller.log.now.started.parent == 1
        assert teller.write(6)[:2] == [40, 41]
        teller.go(1)
        exact = bound > 0
        assert alike(teller.log.proposed, proposed, exact)
        teller.write(10)
        wanted = straight(teller, 1)
        assert all(alike(a, b, exact) for a, b in zip(teller.log.steps, wanted, strict=True))
        wanted = straight(teller, 2)
        assert all(alike(a, b, exact) for a, b in zip(teller.log.runs[2].steps, wanted, strict=True))


MOVES = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 12)),
    st.tuples(st.just("branch"), st.integers(0, 60), st.lists(st.integers(3, 95), max_size=2)),
    st.tuples(st.just("go"), st.integers(0, 9)),
    st.tuples(st.just("ahead")),
    st.tuples(st.just("turn"), st.sampled_from([0.0, 0.7, 1.3])),
    st.tuples(st.just("toggle"), st.booleans(), st.booleans()),
    st.tuples(st.just("delete"), st.integers(0, 9)),
    st.tuples(st.just("look"), st.integers(0, 9), st.integers(0, 60)),
)


def made(teller, move):
    session = teller.session
    runs = [run for run in session.branches.runs.values() if not run.deleted]
    match move:
        case "write", n:
            teller.write(n)
        case "branch", step, forced:
            teller.branch(min(step, session.n_written), token_ids=tuple(forced))
        case "go", at:
            teller.go(runs[at % len(runs)].number)
        case ("ahead",):
            session.look_ahead()
        case "turn", heat:
            session.set_knobs(replace(session.knobs, temperature=heat))
        case "toggle", on, rebuild:
            session.set_vector(teller.on if on else teller.off, rebuild)
        case "delete", at:
            if (run := runs[at % len(runs)]) is not session.now:
                session.branches.label(Label(run.number, deleted=True))
        case "look", at, step:
            run = runs[at % len(runs)]
            if run.context.n_prompt + step <= len(run.context.stamps) and step <= run.context.n_written:
                session.branches.reconsider(Reconsider(run.number, step, DRAWN))


@pytest.mark.parametrize(
    ("family", "bound"), [("llama", PLENTY), ("llama", 20_000), ("hybrid", PLENTY), ("mistral", 0)]
)
def test_any_run_says_what_it_would_if_it_were_written_straight(family, bound):
    loaded = model(family)

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(MOVES, min_size=3, max_size=14))
    def check(moves):
        with instruments(loaded) as probes:
            teller = Teller(loaded, probes, bound)
            for move in moves:
                made(teller, move)
                assert teller.kept.bytes <= bound
            for run in [run.number for run in teller.session.branches.runs.values() if not run.deleted]:
                teller.go(run)
                assert (
                    teller.session.knobs == teller.log.now.knobs and teller.session.vectors == teller.log.now.vectors
                )
                teller.write(3)
                for step, wanted in zip(teller.log.now.steps, straight(teller, run), strict=True):
                    assert alike(step, wanted, exact=bound == PLENTY), (run, step.index)

    check()
