"""A recording that is gone on with: what is written is what the session would have written that never ended."""

import numpy as np
import pytest
from msgspec.structs import replace
from recorded_sessions import DRAWN, RecordedTeller, unbroken_and_reopened, vector_file
from small import endless
from small import loaded as small_model

from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane, scaled_part

FAMILIES = ["llama", "gemma3", "hybrid", "mixtral", "gpt_oss"]
"""A plain cache, windows, layers that carry a state, a mixture, sinks with windows."""
GREEDY = Knobs(temperature=0.0)
FEW, MANY = 20, 60
"""Tokens that are read again one by one, and so many that they are read in stretches."""


@pytest.fixture(params=FAMILIES)
def loaded(request):
    return endless(small_model(request.param))


@pytest.fixture
def llama():
    return endless(small_model("llama"))


def texts(teller: RecordedTeller) -> dict[int, list[int]]:
    return {number: list(run.steps.ids) for number, run in teller.log.runs.items()}


def settings(teller: RecordedTeller) -> tuple[object, ...]:
    """All that a person sets, and where they are."""
    state = teller.session.state
    runs = {number: (run.name, run.starred, run.deleted, run.ended) for number, run in state.runs.items()}
    told = {
        n: (view.knobs, view.vectors, [m for m in view.marks if "shadow" not in m.label])
        for n, view in teller.log.runs.items()
    }
    breakpoints = state.breakpoints
    return (
        state.run_number, state.knobs, state.vectors, runs, told, breakpoints.breakpoints, breakpoints.watches,
    )  # fmt: skip


def alike(whole: RecordedTeller, again: RecordedTeller, to_the_bit: bool = False) -> None:
    """The same tokens and settings, and the same numbers of every step but for rounding."""
    assert texts(whole) == texts(again)
    assert settings(whole) == settings(again)
    for number, run in whole.log.runs.items():
        for one, other in zip(run.steps, again.log.runs[number].steps, strict=True):
            if to_the_bit:
                assert one.numbers == other.numbers and one.candidates == other.candidates
            assert np.allclose(
                np.array(one.numbers, float), np.array(other.numbers, float), rtol=1e-3, atol=1e-3, equal_nan=True
            )
            assert (one.state, one.strays, one.stages) == (other.state, other.strays, other.stages) or not to_the_bit
            assert one.mirostat_mu == pytest.approx(other.mirostat_mu, abs=1e-3)
            assert one.entropy_z == pytest.approx(other.entropy_z, abs=1e-2)
            assert one.attention_z == pytest.approx(other.attention_z, abs=1e-2)


@pytest.mark.parametrize("how", ["stopped", "killed"])
@pytest.mark.parametrize("knobs", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_the_tokens_are_those_of_a_session_that_never_ended(loaded, tmp_path, knobs, how):
    def before(teller):
        teller.begin(knobs=knobs)
        teller.write(MANY)

    with open_instruments(loaded) as instruments:
        whole, again = unbroken_and_reopened(
            loaded, instruments, tmp_path, before, lambda teller: teller.write(30), how
        )
    alike(whole, again)


def test_what_was_read_one_by_one_is_the_same_to_the_bit(loaded, tmp_path):
    def before(teller):
        teller.begin()
        teller.write(FEW)

    with open_instruments(loaded) as instruments:
        whole, again = unbroken_and_reopened(loaded, instruments, tmp_path, before, lambda teller: teller.write(30))
    alike(whole, again, to_the_bit=True)


@pytest.mark.parametrize(
    "knobs",
    [
        replace(DRAWN, mirostat_tau=3.0),
        replace(DRAWN, adaptive="own"),
        replace(DRAWN, repetition_penalty=1.3, dry_multiplier=0.8, temperature=0.8),
    ],
    ids=["mirostat", "adaptive", "penalties"],
)
def test_a_sampler_goes_on_with_its_state(llama, tmp_path, knobs):
    def before(teller):
        teller.begin(knobs=knobs)
        teller.write(40)

    with open_instruments(llama) as instruments:
        whole, again = unbroken_and_reopened(llama, instruments, tmp_path, before, lambda teller: teller.write(40))
    alike(whole, again)


def test_with_knobs_and_vectors_changed_on_the_way(loaded, tmp_path):
    push = vector_file(tmp_path)

    def before(teller):
        session = teller.session
        teller.begin()
        teller.write(10)
        session.set_vector(push)
        teller.write(10)
        session.set_knobs(replace(DRAWN, temperature=0.6))
        session.set_vector(replace(push, strength=-0.5, schedule=((1, 0.0), (40, 1.0))))
        teller.write(10)
        session.set_vector(replace(push, condition="rank > 3"))
        teller.write(10)
        session.set_vector(replace(push, strength=0.7), rebuild=True)
        teller.write(5)
        session.set_vector(replace(push, on=False))
        teller.write(3)
        session.set_vector(replace(push, condition="entropy > 2 bits"))  # not acting yet
        session.set_knobs(replace(DRAWN, temperature=0.9))

    with open_instruments(loaded) as instruments:
        whole, again = unbroken_and_reopened(loaded, instruments, tmp_path, before, lambda teller: teller.write(20))
        offsets = [teller.session.state.sequence.offsets for teller in (whole, again)]
    alike(whole, again)
    assert offsets[0] == offsets[1]


def test_with_a_head_and_a_feed_forward_network_scaled_on_the_way(loaded, tmp_path):
    def before(teller):
        teller.begin()
        teller.write(10)
        teller.session.set_vector(scaled_part("2.1"))
        teller.write(10)
        teller.session.set_vector(scaled_part("1.feed-forward=0.5"))
        teller.write(10)

    with open_instruments(loaded) as instruments:
        whole, again = unbroken_and_reopened(loaded, instruments, tmp_path, before, lambda teller: teller.write(20))
        offsets = [teller.session.state.sequence.offsets for teller in (whole, again)]
    alike(whole, again)
    assert offsets[0] == offsets[1] and len(offsets[0][-1].scales) == 2


def test_a_vector_that_was_named_by_a_relative_path_is_found_from_another_folder(loaded, tmp_path, monkeypatch):
    push = replace(vector_file(tmp_path), source="push.safetensors")
    monkeypatch.chdir(tmp_path)
    with open_instruments(loaded) as instruments:
        teller = RecordedTeller(loaded, instruments, tmp_path / "a.tui")
        teller.begin()
        for strength in (1.0, 0.5):  # the same one
            teller.session.set_vector(replace(push, strength=strength))
            teller.write(3)
        teller.recorder.close()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        again = RecordedTeller(loaded, instruments, tmp_path / "b.tui", origin=tmp_path / "a.tui")
    assert again.reopened.differences == ()
    assert [(one.name, one.strength, one.on) for one in again.session.state.vectors] == [("push", 0.5, True)]


def test_a_tree_of_runs_is_gone_on_with_anywhere(loaded, tmp_path):
    push = vector_file(tmp_path)

    def before(teller):
        session = teller.session
        teller.begin()
        teller.write(20)
        session.branches.label(labelled(1, name="trunk", starred=True))
        teller.branch(8, ban=(teller.log.steps.ids[8],))
        teller.write(12)
        session.set_vector(push)
        teller.write(5)
        teller.branch(15, token_ids=(30, 31, 32, 33))
        teller.write(2)  # two of four that are forced
        session.go(1)
        teller.write(4)
        session.begin(edited(teller))
        teller.write(6)
        session.go(3)

    def after(teller):
        session = teller.session
        teller.write(10)
        session.go(2)
        teller.write(10)
        session.go(1)
        teller.write(10)
        teller.branch(5, run=2)
        teller.write(5)
        session.go(4)
        teller.write(5)

    with open_instruments(loaded) as instruments:
        whole, again = unbroken_and_reopened(loaded, instruments, tmp_path, before, after)
        shared = [
            [one.sequence.common_prefix(other.sequence) for one in runs for other in runs]
            for runs in (list(teller.session.state.runs.values()) for teller in (whole, again))
        ]
    alike(whole, again)
    assert shared[0] == shared[1]
    assert [run.sequence.interventions for run in whole.session.state.runs.values()] == [
        run.sequence.interventions for run in again.session.state.runs.values()
    ]


def labelled(run, **what):
    from tui_entropy.records.commands import Label

    return Label(run, **what)


def edited(teller):
    from tui_entropy.records.commands import Write

    return Write("KLMNOP", None, False, 100, teller.session.state.knobs, parent=1)


def test_a_branch_that_nothing_was_written_in_still_has_its_ban(llama, tmp_path):
    def before(teller):
        teller.begin(knobs=GREEDY)
        teller.write(10)
        teller.branch(5, ban=(teller.log.steps.ids[5],))

    with open_instruments(llama) as instruments:
        whole, again = unbroken_and_reopened(
            llama, instruments, tmp_path, before, lambda teller: teller.write(10), "killed"
        )
    assert texts(whole)[2][5] != texts(whole)[1][5]
    alike(whole, again)


@pytest.mark.parametrize("n_read", [0, 12])
def test_a_text_that_was_read_half_is_read_to_its_end(loaded, tmp_path, n_read):
    """And then gone on with, as one that was read whole."""
    text = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def before(teller):
        teller.begin(prompt=text, read=True)
        if n_read:
            teller.session.set_vector(replace(vector_file(tmp_path), schedule=((1, 0.0), (9, 1.0))))
            teller.write(n_read)

    def after(teller):
        teller.write(40)

    with open_instruments(loaded) as instruments:
        whole, again = unbroken_and_reopened(loaded, instruments, tmp_path, before, after)
    assert len(whole.log.steps) == 40 + n_read
    alike(whole, again)


def test_a_shadow_is_on_again(llama, tmp_path):
    lane = Lane("cold", knobs=replace(DRAWN, temperature=0.3))

    def before(teller):
        teller.begin()
        teller.write(5)
        teller.session.set_shadow(lane)
        teller.write(10)

    with open_instruments(llama) as instruments:
        whole, again = unbroken_and_reopened(llama, instruments, tmp_path, before, lambda teller: teller.write(10))
    alike(whole, again)
    assert again.log.run.shadow == lane
    shadows = [[step.shadow for step in list(teller.log.steps)[-10:]] for teller in (whole, again)]
    assert shadows[0] == shadows[1] and None not in shadows[0]
