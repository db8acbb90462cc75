"""The step that a CUDA graph can hold, run plain: it writes the same, says the same, and waits for nothing."""

from __future__ import annotations

import math
import types
from dataclasses import replace

import pytest
import tiny
import torch
from graph_steps import GREEDY, WITHOUT, N, close, steps
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replace_knobs
from rewind_models import DRAWN, MODELS, PROMPT, numbers, written
from small import endless
from small import loaded as small_model

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.cache.kv_cache import PreallocatedCache
from tui_entropy.engine.cuda_graph import forward_pass as forward_pass
from tui_entropy.engine.cuda_graph.forward_pass import GraphForward
from tui_entropy.engine.cuda_graph.graphs import Graphs, Waits
from tui_entropy.engine.cuda_graph.sampling_pass import GraphSampling, _chosen
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import COMMIT, RESAMPLE, decode
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.sampling.chain import stages
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.rewind import Rewinder
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Branch, Write
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.attention_rows import RowWindow
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane
from tui_entropy.records.step import Step
from tui_entropy.stages.registry import ORDERS


@pytest.fixture(scope="module", params=sorted(set(tiny.FAMILIES) - set(WITHOUT)))
def found(request):
    return endless(small_model(request.param))


@pytest.fixture
def narrow(monkeypatch):
    """So few columns that a text of forty tokens needs several graphs."""
    monkeypatch.setattr(forward_pass, "SMALLEST", 16)


@pytest.mark.parametrize("controls", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_it_writes_and_says_what_the_plain_step_does_across_several_graphs(found, narrow, controls):
    for one, other in zip(steps(found, controls), steps(found, controls, graph=False), strict=True):
        close(one, other)


def test_a_step_that_is_gone_back_to_is_the_same_to_the_bit(found, narrow):
    with open_instruments(found, graph=True) as instruments:
        sequence = TokenSequence(found, PROMPT, N)
        rewinder = Rewinder(found, instruments, bound=1 << 20)
        rewinder.activate(sequence)
        pass_numbers = written(rewinder, sequence, DRAWN)
        for step in (N - 1, 0, 20, 1, 7):
            assert (
                numbers(instruments, rewinder.recompute_step(sequence, sequence.n_prompt - 1 + step))
                == pass_numbers[step]
            ), step


def test_vectors_act_and_stop_acting_without_another_graph(llama, monkeypatch):
    keys = watched_keys(monkeypatch)
    push = {2: torch.randn(llama.card.d_model, generator=torch.Generator().manual_seed(1))}
    turns = [GREEDY, Controls(GREEDY.knobs, push), Controls(GREEDY.knobs, {1: -push[2], 3: push[2]}), GREEDY]

    def run(graph):
        n = iter(range(100))
        return steps(llama, lambda: turns[next(n) // 3 % len(turns)], n=12, graph=graph)

    for one, other in zip(run(True), run(False), strict=True):
        close(one, other)
    assert len({key for key in keys if key[0] == "pass" and key[2] == forward_pass.SMALLEST}) <= 2  # and the trial


def watched_keys(monkeypatch):
    """What would be recorded."""
    keys, run = [], Graphs.run
    monkeypatch.setattr(Graphs, "run", lambda self, key, function: keys.append(key) or run(self, key, function))
    return keys


def test_turning_a_knob_needs_no_graph_and_switching_a_stage_does(llama, monkeypatch):
    keys = watched_keys(monkeypatch)
    base = Knobs(temperature=1.3, top_k=0, top_p=1.0, min_p=0.0)
    turned = [replace_knobs(base, temperature=t, seed=seed) for t in (0.5, 0.9, 2.0) for seed in (1, 2)]
    switched = [replace_knobs(base, top_k=k, top_p=p) for k, p in ((0, 0.9), (0, 0.5), (5, 0.9), (9, 0.9))]
    every = [*turned, *switched]

    def run(graph):
        set_now = iter([every[0], *every])  # asked for once before the prompt is read
        return steps(llama, lambda: Controls(next(set_now), {}), n=len(every), graph=graph)

    for one, other in zip(run(True), run(False), strict=True):
        close(one, other)
    chosen = [key for key in keys if key[0] == "choice"]
    assert len(chosen) == len(every)
    assert len(set(chosen[: len(turned)])) == 1 and len(set(chosen[len(turned) :])) == 2


KNOBS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.5, 0.75, 1.0, 4.0]),
        "top_k": st.sampled_from([0, 1, 3, 40, 100_000]),
        "top_p": st.sampled_from([0.25, 0.5, 0.9375, 1.0]),
        "min_p": st.sampled_from([0.0, 0.125]),
        "typical_p": st.sampled_from([0.5, 0.9375, 1.0]),
        "top_n_sigma": st.sampled_from([0.0, 1.5]),
        "dynatemp_range": st.sampled_from([0.0, 0.5]),
        "dynatemp_exponent": st.sampled_from([0.5, 1.0]),
        "xtc_probability": st.sampled_from([0.0, 0.5, 1.0]),
        "xtc_threshold": st.sampled_from([0.0625, 0.5]),
        "mirostat_tau": st.sampled_from([0.0, 3.0]),
        "order": st.sampled_from(["hf", "llama.cpp"]),
        "n_candidates": st.sampled_from([1, 20]),
    }
)


@pytest.fixture(scope="module")
def opened():
    """A model of its own, whose probes stay open."""
    loaded = endless(small_model("llama"))
    with open_instruments(loaded, graph=True) as instruments:
        yield loaded, instruments


@given(values=KNOBS, seed=st.integers(0, 50), watched=st.sampled_from([(), (3, 9)]))
@settings(max_examples=60, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))  # at an edge ...
def test_whatever_is_set_the_same_is_chosen_and_nothing_is_waited_for(opened, values, seed, watched):
    """... of a stage rounding decides."""
    loaded, instruments = opened
    now = Controls(Knobs(**values | {"order": ORDERS[values["order"]]}, seed=seed), {}, watched=watched)
    sequence, choice = TokenSequence(loaded, PROMPT, 2), instruments.graph_decoder.choice
    assert choice.supports(now, sequence)
    for event in decode(loaded, instruments, sequence, lambda: now, 1, False):
        if isinstance(event, Step):
            plainly = decode(loaded, replace(instruments, graph_decoder=None), sequence, lambda: now, 1, False)
            close(event, next(plainly))
            plainly.close()
    with choice._graphs.dry_run():
        _chosen(choice._asked[len(watched)], stages(now.knobs), now.knobs)


@pytest.mark.parametrize(
    "family", sorted(set(tiny.FAMILIES) - {"hybrid", "mixtral", "gpt_oss"})
)  # torch: no experts there
@torch.inference_mode()
def test_on_a_device_that_is_not_the_host_and_holds_no_numbers_it_runs_from_end_to_end(family):
    loaded = small_model(family)
    loaded.model.to("meta")
    with open_instruments(loaded, graph=False) as instruments:
        graphs = Graphs(torch.device("meta"))
        step, choice = GraphForward(loaded, *vars_of(instruments), graphs), GraphSampling(graphs)
        cache, ids = PreallocatedCache(), torch.zeros(1, 8, dtype=torch.long, device="meta")
        forward(loaded, cache, ids[:, :-1])
        with graphs.dry_run():
            passed = step.run(cache.first(7), ids[:, -1:], 7, [{}])
        assert {tensor.device.type for tensor in passed} == {"meta"}
        knobs = Knobs(temperature=0.7, top_k=5, top_p=0.9, min_p=0.1, typical_p=0.9, top_n_sigma=1.0,
                      xtc_probability=0.5, mirostat_tau=5.0, dynatemp_range=0.2, order=ORDERS["hf"])  # fmt: skip
        measures = instruments.attention._parts(passed.measured[0])
        now, sequence = Controls(knobs, {}, watched=(1, 2)), TokenSequence(small_model(family), PROMPT, 2)
        asked = choice._fill(passed.logits[0], measures, passed.vectors[1:, 0, 0], now, sequence)
        with graphs.dry_run():
            numbers, sizes = _chosen(asked, stages(knobs), knobs)
        assert numbers.device.type == "meta" and len(numbers) == sum(sizes.values())


def vars_of(instruments):
    return instruments.attention, instruments.residual, instruments.steering


@pytest.mark.parametrize(
    "set_now",
    [
        dict(knobs=Knobs(repetition_penalty=1.2)),
        dict(knobs=Knobs(dry_multiplier=0.8)),
        dict(knobs=Knobs(adaptive="own")),
        dict(knobs=Knobs(banned=(5, 6))),
    ],
    ids=["penalty", "DRY", "adaptive", "banned"],
)
def test_what_looks_at_the_host_for_each_token_is_chosen_plainly_and_read_all_the_same(llama, set_now, monkeypatch):
    keys = watched_keys(monkeypatch)
    now = Controls(offsets={}, **set_now)
    for one, other in zip(steps(llama, now, n=10), steps(llama, now, n=10, graph=False), strict=True):
        close(one, other)
    assert {key[0] for key in keys} == {"pass"}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_whether_a_model_can_is_found_by_trying_and_said(name):
    loaded = small_model("llama")
    model = MODELS[name]()
    loaded = replace(loaded, model=model, architecture=architecture_of(model))
    with open_instruments(loaded, graph=True) as instruments:
        reasons = WITHOUT | {
            "shared_keys": "some of its layers share their keys and values",
            "both_at_once": "some of its layers keep more than keys and values",
        }
        assert instruments.no_graph_reason == reasons.get(name, "") and bool(instruments.graph_decoder) == (
            name not in reasons
        )


def test_a_model_whose_logits_hang_on_a_number_that_python_knows_is_found_out(llama):
    """A graph would hold on to the number it was recorded with."""
    head = llama.model.get_output_embeddings()
    before = head.forward
    decoder = llama.model.get_decoder()
    seen = {}
    hook = decoder.register_forward_pre_hook(
        lambda _m, args, kwargs: seen.update(n=kwargs["past_key_values"].get_seq_length()), with_kwargs=True
    )
    head.forward = lambda hidden: before(hidden) * (1 + seen["n"])
    try:
        with open_instruments(llama, graph=True) as instruments:
            assert instruments.graph_decoder is None and "logits come out" in instruments.no_graph_reason
    finally:
        hook.remove()
        del head.forward


def test_a_model_that_waits_for_the_device_is_found_out(llama):
    hook = llama.model.get_decoder().norm.register_forward_hook(
        lambda _m, _i, out: out if float(out.sum()) > -math.inf else None
    )
    try:
        with open_instruments(llama, graph=True) as instruments:
            assert instruments.graph_decoder is None
            assert instruments.no_graph_reason == "it waits for the device (float)"
    finally:
        hook.remove()


def test_what_waits_is_told_from_what_does_not():
    graphs, x = Graphs(torch.device("cpu")), torch.arange(5.0)
    with graphs.dry_run():
        assert graphs.run("key", lambda: (x * 2).sum()).shape == ()
    waiting = (
        lambda: x.sum().item(),
        lambda: x.nonzero(),
        lambda: x[x > 2],
        lambda: bool(x.any()),
        lambda: x.tolist(),
    )
    for ask in waiting:
        with torch.inference_mode(), pytest.raises(Waits, match="waits for the device"), graphs.dry_run():
            graphs.run("key", ask)


def test_the_model_is_left_as_it_was_found(llama):
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        before = llama.model(ids).logits
        steps(llama, GREEDY, n=4)
        assert torch.equal(llama.model(ids).logits, before)
    modules = list(llama.model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_attention_rows_of_what_was_read_so_are_those_of_a_plain_run(llama, narrow):
    rows = {}
    for graph in (True, False):
        with open_instruments(llama, graph=graph) as instruments:
            sequence = TokenSequence(llama, PROMPT, N)
            for _ in decode(llama, instruments, sequence, lambda: GREEDY, 1, False):
                pass
            last = sequence.n_read - 1
            rows[graph] = instruments.attention.rows(sequence.cache, RowWindow(2, None, last, 30, 0, last + 1))
    assert len(rows[True].queries) == len(rows[False].queries) == 30
    for mine, theirs in ((rows[True].weights, rows[False].weights),):
        torch.testing.assert_close(
            torch.tensor(mine.numpy()), torch.tensor(theirs.numpy()), atol=1e-4, rtol=1e-3, equal_nan=True
        )


def test_a_session_writes_branches_and_shadows_as_it_does_plainly(llama, narrow):
    steps_of = {}
    for graph in (True, False):
        events = []
        with open_instruments(llama, graph=graph) as instruments:
            session = Session(llama, instruments, events.append)
            session.begin(Write("abc", None, False, 24, Knobs(temperature=0.8, seed=4)))
            session.set_shadow(Lane("other prompt", prompt="xyz"))
            while session.active:
                session.advance()
            session.branch(Branch(1, 10, token_ids=(7,)))
            while session.active:
                session.advance()
        steps_of[graph] = [event for event in events if isinstance(event, Step)]
    assert len(steps_of[True]) > 24
    for one, other in zip(steps_of[True], steps_of[False], strict=True):
        close(one, other)
        assert (one.shadow is None) == (other.shadow is None)
        if one.shadow is not None:
            assert one.shadow.top_id == other.shadow.top_id
            assert one.shadow.kl == pytest.approx(other.shadow.kl, abs=1e-4)


def test_taking_a_step_and_proposing_it_again_use_what_was_read_last(llama):
    with open_instruments(llama, graph=True) as instruments:
        sequence = TokenSequence(llama, PROMPT, 6)
        knobs = [Knobs(temperature=0.0)]
        loop = decode(llama, instruments, sequence, lambda: Controls(knobs[0], {}), 1, False)
        first = next(event for event in loop if isinstance(event, Step))
        knobs[0] = Knobs(temperature=1.0, seed=9)
        again = loop.send(RESAMPLE)
        assert again.entropy == first.entropy and again.stages != first.stages
        knobs[0] = Knobs(temperature=0.0)
        back = loop.send(RESAMPLE)
        assert (back.token_id, back.head_entropy.numpy().tolist()) == (
            first.token_id,
            first.head_entropy.numpy().tolist(),
        )
        loop.send(COMMIT)


def test_choice_takes_only_what_lies_in_tensors(llama):
    choice, sequence = GraphSampling(Graphs(torch.device("cpu"))), TokenSequence(llama, PROMPT, 4)
    assert choice.supports(GREEDY, sequence)
    sequence.forced = [3]
    assert not choice.supports(GREEDY, sequence)
    sequence.forced, sequence.banned = [], frozenset({1})
    assert not choice.supports(GREEDY, sequence)


def records(monkeypatch, fails):
    """A device that has graphs, on which some cannot be recorded: `fails` is asked with their number."""
    asked = []

    def record(self, function):
        asked.append(function)
        if fails(len(asked)):
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")
        return types.SimpleNamespace(replay=function), function()

    monkeypatch.setattr(Graphs, "_record", record)
    before = Graphs.__init__

    def made(self, device):
        before(self, device)
        self._records = True

    monkeypatch.setattr(Graphs, "__init__", made)
    return asked


def test_a_pass_that_cannot_be_recorded_is_found_when_a_model_is_loaded_and_said(llama, monkeypatch):
    records(monkeypatch, lambda n: True)
    with open_instruments(llama, graph=True) as instruments:
        assert instruments.graph_decoder is None
        assert instruments.no_graph_reason == (
            "it could not be recorded (CUDA error: operation not permitted when stream is capturing)"
        )


def test_what_cannot_be_recorded_later_is_called_and_writes_the_same(llama, narrow, monkeypatch):
    plain = steps(llama, DRAWN, graph=False)
    asked = records(monkeypatch, lambda n: n > 2)
    with open_instruments(llama, graph=True) as instruments:
        sequence = TokenSequence(llama, PROMPT, N)
        written_steps = [
            event
            for event in decode(llama, instruments, sequence, lambda: DRAWN, 1, False)
            if isinstance(event, Step)
        ]
        session = Session(llama, instruments, lambda event: None)
        assert len(asked) == 3 and instruments.graph_decoder.step.graphs.failed
        monkeypatch.setattr(type(llama.model), "device", torch.device("cuda"), raising=False)
        assert session.state.instruments.way == "plain"
    for one, other in zip(written_steps, plain, strict=True):
        close(one, other)


def test_graphs_are_for_those_who_ask_for_them():
    assert not ModelSpec("any").graph and not small_model("llama").graph
