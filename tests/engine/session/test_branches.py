"""The runs of a session: any of them goes on as if it had been written straight through, wherever one was between."""

import pytest
from asking import rows_ask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from small import endless
from small import loaded as small_model
from straight_runs import alike, straight
from teller import DRAWN, PLENTY, PROMPT, Teller

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.probes.answer import answer
from tui_entropy.records.commands import Branch, Label, Write
from tui_entropy.records.events import Labelled, Started, VectorsChanged
from tui_entropy.records.probes.attention_rows import AttentionRows
from tui_entropy.records.sampling import Knobs


def model(family):
    return endless(small_model(family))


@pytest.fixture(scope="module", params=["llama", "gemma3", "gpt_oss", "hybrid"])
def loaded(request):
    return model(request.param)


def ids(log, run=None):
    return [step.token_id for step in (log.runs[run] if run else log.run).steps]


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
    with open_instruments(llama) as instruments:
        teller = Teller(llama, instruments, bound, PRESETS[preset])
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
        exact = [alike(a, b) for a, b in zip(teller.log.run.steps, straight(teller, 1), strict=True)]
        assert all(exact), exact


@pytest.mark.parametrize("bound", [PLENTY, 0])
def test_a_parent_that_was_left_for_a_branch_is_written_on_as_if_it_never_was(loaded, bound):
    with open_instruments(loaded) as instruments:
        teller = Teller(loaded, instruments, bound, n=100)
        teller.write(50)
        teller.session.look_ahead()
        proposed = teller.log.proposed
        teller.branch(11, token_ids=(40, 41), ban=(42,))
        assert teller.log.run.started.shared == 11 and teller.log.run.started.parent == 1
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
    runs = [run for run in session.state.runs.values() if not run.deleted]
    match move:
        case "write", n:
            teller.write(n)
        case "branch", step, forced:
            teller.branch(min(step, session.state.n_written), token_ids=tuple(forced))
        case "go", at:
            teller.go(runs[at % len(runs)].number)
        case ("ahead",):
            session.look_ahead()
        case "turn", heat:
            session.set_knobs(replace(session.state.knobs, temperature=heat))
        case "toggle", on, rebuild:
            session.set_vector(teller.on if on else teller.off, rebuild)
        case "delete", at:
            if (run := runs[at % len(runs)]) is not session.state.run:
                session.branches.label(Label(run.number, deleted=True))
        case "look", at, step:
            run = runs[at % len(runs)]
            if run.sequence.n_prompt + step <= len(run.sequence.prefix_ids) and step <= run.sequence.n_written:
                session.branches.step_with(run, step, DRAWN)


@pytest.mark.parametrize(
    ("family", "bound"), [("llama", PLENTY), ("llama", 20_000), ("hybrid", PLENTY), ("mistral", 0)]
)
def test_any_run_says_what_it_would_if_it_were_written_straight(family, bound):
    loaded = model(family)

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(MOVES, min_size=3, max_size=14))
    def check(moves):
        with open_instruments(loaded) as instruments:
            teller = Teller(loaded, instruments, bound)
            for move in moves:
                made(teller, move)
                assert teller.kept.bytes <= bound
            for run in [run.number for run in teller.session.state.runs.values() if not run.deleted]:
                teller.go(run)
                assert (
                    teller.session.state.knobs == teller.log.run.knobs
                    and teller.session.state.vectors == teller.log.run.vectors
                )
                teller.write(3)
                for step, wanted in zip(teller.log.run.steps, straight(teller, run), strict=True):
                    assert alike(step, wanted, exact=bound == PLENTY), (run, step.index)

    check()


def test_a_step_reconsidered_is_the_one_that_was_written_until_a_knob_is_turned(loaded, monkeypatch):
    with open_instruments(loaded) as instruments:
        teller = Teller(loaded, instruments)
        teller.write(15)
        branches = teller.session.branches
        other = teller.branch(6, token_ids=(50,), ban=(60,))
        teller.write(5)
        teller.session.set_knobs(replace(DRAWN, temperature=0.3))
        teller.write(5)
        for run, step in [(other, 3), (other, 6), (other, 9), (1, 3), (1, 14), (other, 14)]:
            view = teller.log.runs[run]
            knobs = next(knobs for first, knobs in reversed(view.knob_changes) if first <= step)
            again = branches.step_with(teller.session.state.run_of(run), step, knobs)
            assert alike(again, list(view.steps)[step]), (run, step)
        asked = []
        recompute_step = branches.rewinder.recompute_step
        monkeypatch.setattr(
            branches.rewinder, "recompute_step", lambda *args: asked.append(1) or recompute_step(*args)
        )
        first = teller.session.state.run_of(1)
        steps = [branches.step_with(first, 8, replace(DRAWN, temperature=t)) for t in (0, 0.5, 1, 2)]
        assert len(asked) == 1
        assert len({step.entropy for step in steps}) == 1
        heats = [step.final_entropy for step in steps]
        assert heats == sorted(heats) and heats[0] == 0
        teller.write(5)
        assert all(alike(a, b) for a, b in zip(teller.log.run.steps, straight(teller, other), strict=True))


def test_what_is_read_again_for_a_branch_is_read_under_what_it_was_read_under_first(llama):
    """Without steering too, though a vector is on by now and nothing was kept."""
    with open_instruments(llama) as instruments:
        teller = Teller(llama, instruments, bound=0)
        teller.write(12)
        first = teller.session.state.sequence
        teller.session.begin(Write(PROMPT[::-1], None, False, 5, DRAWN))
        teller.session.set_vector(teller.on)
        teller.branch(8, run=1)
        teller.write(1)
        again = teller.session.state.sequence
        n = first.n_prompt + 7
        assert again.prefix_ids[:n] == first.prefix_ids[:n] and again.common_prefix(first) == n
        assert not any(again.offsets[:n]) and again.offsets[n]


def test_at_a_stop_a_vector_changes_what_is_held_up_and_that_is_what_is_written(loaded):
    with open_instruments(loaded) as instruments:
        teller = Teller(loaded, instruments)
        teller.write(10)
        teller.session.look_ahead()
        before = teller.log.proposed
        teller.session.set_vector(teller.on)
        steered = teller.log.proposed
        assert steered.entropy != before.entropy
        teller.session.set_vector(teller.off)
        assert alike(teller.log.proposed, before)
        teller.session.set_vector(teller.on)
        assert alike(teller.log.proposed, steered)
        teller.write(1)
        assert alike(list(teller.log.steps)[10], steered)
        teller.write(4)
        assert all(alike(a, b) for a, b in zip(teller.log.steps, straight(teller, 1), strict=True))


def test_rebuilt_all_that_was_written_counts_as_read_under_the_vectors_that_are_set(loaded):
    with open_instruments(loaded) as instruments:
        teller = Teller(loaded, instruments)
        teller.write(8)
        teller.session.set_vector(teller.on, rebuild=True)
        change = next(event for event in reversed(teller.events) if isinstance(event, VectorsChanged))
        assert change.rebuilt and change.index == 8 and change.seconds > 0
        assert not any(
            event.rebuilt for event in teller.events if isinstance(event, VectorsChanged) and event is not change
        )
        teller.write(4)
        fresh = Teller(loaded, instruments)
        fresh.session.set_vector(fresh.on)
        fresh.session.begin(Write(PROMPT, None, False, 60, DRAWN))
        fresh.session.branch(Branch(2, 0, token_ids=tuple(ids(teller.log, 1)[:8])))
        fresh.write(12)
        for a, b in zip(list(teller.log.steps)[8:], list(fresh.log.steps)[8:], strict=True):
            assert alike(a, b, exact=False)


def test_here_tokens_are_forced_and_banned_in_the_run_itself(llama):
    with open_instruments(llama) as instruments:
        teller = Teller(llama, instruments)
        teller.write(5)
        teller.session.look_ahead()
        first = teller.log.proposed.token_id
        assert teller.branch(5, ban=(first,)) == 1
        assert teller.log.proposed.token_id != first and teller.log.proposed.stages[0].name == "banned"
        assert teller.branch(5, token_ids=(first,), text="KLM") == 1
        assert teller.log.proposed.token_id == first
        assert teller.write(4) == [first, *llama.tokenizer.encode_continuation("KLM")]
        assert [step.stages[-1].name for step in list(teller.log.steps)[5:]] == ["forced"] * 4
        teller.write(3)
        assert all(alike(a, b) for a, b in zip(teller.log.steps, straight(teller, 1), strict=True))


def test_a_run_that_ended_is_gone_on_with_in_a_branch_of_it(llama):
    with open_instruments(llama) as instruments:
        teller = Teller(llama, instruments, n=6)
        teller.write(10)
        assert teller.log.state == "ended" and len(teller.log.steps) == 6
        run = teller.branch(6)
        assert run == 2 and teller.log.run.started.how == "kept"
        teller.write(10)
        assert len(teller.log.steps) == 12
        whole = Teller(llama, instruments, n=12)
        whole.write(12)
        assert all(alike(a, b) for a, b in zip(teller.log.steps, whole.log.steps, strict=True))
        teller.go(1)
        assert teller.log.state == "ended" and not teller.session.active


def test_what_cannot_be_is_refused_and_changes_nothing(llama):
    with open_instruments(llama) as instruments:
        teller = Teller(llama, instruments)
        teller.write(4)
        session, before = teller.session, len(teller.events)
        wrong = [
            lambda: teller.branch(5),
            lambda: teller.branch(-1),
            lambda: teller.branch(1, run=7),
            lambda: teller.branch(1, token_ids=(96,)),
            lambda: teller.branch(1, ban=(-1,)),
            lambda: teller.go(9),
            lambda: session.branches.label(Label(1, deleted=True)),
            lambda: session.branches.step_with(session.state.run_of(1), 9, DRAWN),
            lambda: session.branches.step_with(session.state.run_of(1), 1, replace(DRAWN, top_p=-1.0)),
            lambda: session.begin(Write(PROMPT, None, False, 9, DRAWN, parent=9)),
        ]
        for act in wrong:
            with pytest.raises(UserError):
                act()
        assert len(teller.events) == before and session.active
        teller.branch(2)
        session.branches.label(Label(1, name="first", starred=True))
        session.branches.label(Label(1, deleted=True))
        assert teller.events[-1] == Labelled(1, "first", True, True)
        assert teller.kept.bytes == 4 * 2 * 2 * 8 * 4  # one token, which the branch has too
        with pytest.raises(UserError):
            teller.go(1)
        session.branches.label(Label(1, deleted=False))
        teller.go(1)
        teller.write(3)
        assert all(alike(a, b) for a, b in zip(teller.log.steps, straight(teller, 1), strict=True))


def test_every_step_of_a_long_text_has_attention_rows(loaded):
    layer = loaded.architecture.attention.index(True) + 1
    with open_instruments(loaded, keep=8) as instruments:
        teller = Teller(loaded, instruments)
        teller.write(20)
        with_all = [
            AttentionRows.of(answer(teller.session, rows_ask(layer, None, at, 3, 0, 40))) for at in range(2, 29)
        ]
        assert all(rows.unavailable is None and len(rows.queries) == 3 for rows in with_all)
        for rows in with_all:
            for row, elsewhere in zip(rows.weights.rows(), rows.elsewhere, strict=True):
                assert 0 < sum(w for w in row if w == w) + elsewhere < 1 + 1e-5
        newest = AttentionRows.of(answer(teller.session, rows_ask(layer, 2, 28, 8, 0, 40)))
        whole = AttentionRows.of(answer(teller.session, rows_ask(layer, 2, 25, 2, 0, 40)))
        near = dict(zip(newest.queries, newest.weights.rows(), strict=True))
        for at, row in zip(whole.queries, whole.weights.rows(), strict=True):
            assert row == pytest.approx(near[at], abs=1e-5, nan_ok=True)
        teller.write(5)
        assert all(alike(a, b) for a, b in zip(teller.log.steps, straight(teller, 1), strict=True))


@pytest.mark.parametrize("family", ["llama", "hybrid"])
@pytest.mark.parametrize(
    "act",
    [
        lambda teller: teller.branch(3, token_ids=(9,)) and teller.write(2),
        lambda teller: teller.go(2) or teller.write(2),
        lambda teller: teller.session.set_vector(teller.on, True) or teller.write(2),
        lambda teller: teller.session.branches.step_with(teller.session.state.run_of(1), 4, DRAWN),
        lambda teller: teller.write(2),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
def test_after_a_failure_in_the_middle_every_run_is_still_what_it_was(family, act, after, monkeypatch):
    loaded = model(family)
    with open_instruments(loaded) as instruments:
        teller = Teller(loaded, instruments)
        teller.write(12)
        teller.branch(5, token_ids=(9,))
        teller.write(4)
        teller.go(1)
        block, calls = loaded.architecture.blocks[2], [after]

        def fail(*_):
            if calls[0] == 0:
                raise MemoryError
            calls[0] -= 1

        hook = block.register_forward_pre_hook(fail)
        try:
            act(teller)
        except MemoryError:
            teller.session.abandon()
        finally:
            hook.remove()
        for run in list(teller.session.state.runs):
            teller.go(run)
            teller.write(3)
            for a, b in zip(teller.log.steps, straight(teller, run), strict=True):
                assert alike(a, b, exact=False)


def test_an_edited_prompt_is_a_run_with_a_parent(llama):
    with open_instruments(llama) as instruments:
        teller = Teller(llama, instruments)
        teller.write(3)
        teller.session.begin(Write("ABCDEX", None, False, 9, DRAWN, parent=1))
        started = next(event for event in reversed(teller.events) if isinstance(event, Started))
        assert (started.run, started.parent, started.shared) == (2, 1, 0)
        teller.write(4)
        teller.go(1)
        assert teller.log.state == "ended"
