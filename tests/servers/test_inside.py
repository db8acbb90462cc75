"""The inside of a model behind vLLM with vllm-lens: numbers of the right token or none, vectors that are checked."""

from __future__ import annotations

import base64
import math
import struct
from contextlib import closing

import fake_lens
import numpy as np
import pytest
from asked_sources import GREEDY, Heard, advance, source_of, write
from fake_lens import FakeLens
from fake_model import FakeModel
from fake_requests import Odd
from fake_server import serving
from msgspec.structs import replace
from vector_files import Files, direction

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Branch, Go, Load, Pause, SetKnobs, SetVector
from tui_entropy.records.events import Paused, Refused, SettingsPending, Started, VectorsChanged
from tui_entropy.records.model import ModelSpec, ServerSpec
from tui_entropy.records.settings import Vector, scaled_part
from tui_entropy.servers.examination import Examination
from tui_entropy.servers.http.client import HttpClient
from tui_entropy.servers.kinds.registry import identified
from tui_entropy.servers.server_source import ServerSource
from tui_entropy.servers.vllm_lens import measured_stream, numbers_poll
from tui_entropy.transport.plausible import contradiction

N_PROMPT = 1
"""Tokens of "The"."""


@pytest.fixture
def patient(monkeypatch):
    """Nothing is late because the machine does other work."""
    monkeypatch.setattr(measured_stream, "LATE_S", 30.0)


@pytest.fixture
def hasty(monkeypatch):
    """What does not come is soon given up."""
    monkeypatch.setattr(measured_stream, "LATE_S", 0.05)
    monkeypatch.setattr(numbers_poll, "GAP_S", 0.001)


def norms(step):
    return step.blocks.column(2)


def are_of(step, position):
    """Whether these are the numbers of the pass that read the token at a position."""
    return norms(step) == [fake_lens.norm(position, block) for block in range(1, 5)]


def is_unknown(step):
    return all(map(math.isnan, [*norms(step), *step.head_entropy.flat])) and not step.lens_rows


# --- What a step has with it ---


@pytest.mark.parametrize("odd", [Odd(), Odd(tokens_per_event=5), Odd(missing_every=3), Odd(no_usage=True)])
def test_every_step_has_the_numbers_of_the_pass_that_chose_it(patient, odd):
    with serving("vllm", lens=FakeLens(), odd=odd) as fake, source_of(fake.url) as (source, heard):
        write(source, n=40, knobs=replace(GREEDY, lens=2))
        card = source.ready().card
        assert (card.n_layers, card.n_heads, card.d_model) == (4, 2, 8)
        for step in heard.steps:
            position = N_PROMPT + step.index - 1
            assert are_of(step, position) and contradiction(step, card) == ""
            assert step.head_entropy.rows()[2] == [fake_lens.head_entropy(position, 3, head) for head in range(2)]
            assert step.attention.rows()[0] == [0.25, 0.125, 3.0] and step.visible_keys == (position + 1,) * 4
            assert [(row.layer, row.token_id, row.entropy) for row in step.lens_rows] == [
                (layer, 256 + (position + layer) % 20, float(layer)) for layer in (0, 2, 4)
            ]
            ranked = 256 <= step.token_id < 276
            assert [row.rank for row in step.lens_rows] == [
                1 + layer + step.token_id - 256 if ranked else 0 for layer in (0, 2, 4)
            ]
        assert not heard.of(Refused)


def test_a_branch_a_change_and_another_run_have_the_numbers_of_their_own_tokens(patient):
    with serving("vllm", lens=FakeLens(), model=FakeModel(seed=2)) as fake, source_of(fake.url) as (source, heard):
        write(source, n=10)
        source.handle(Branch(1, 4, (300,)))
        advance(source)
        source.handle(SetKnobs(replace(GREEDY, lens=1)))
        source.handle(Branch(1, 9))
        advance(source)
        assert {step.run for step in heard.steps} == {1, 2, 3}
        assert all(are_of(step, N_PROMPT + step.index - 1) for step in heard.steps)
        assert [bool(step.lens_rows) for step in heard.steps if step.run == 3] == [True]


@pytest.mark.parametrize(
    ("said", "blocks"), [("auto", (1, 2, 3, 4)), ("all", (1, 2, 3, 4)), ("2,4", (2, 4)), ("4,4", (4,))]
)
def test_the_heads_of_the_blocks_that_were_asked_for_are_told(patient, said, blocks):
    with serving("vllm", lens=FakeLens()) as fake, source_of(fake.url, lens=said) as (source, heard):
        write(source, n=2)
        told = [n for n, row in enumerate(heard.steps[0].head_entropy.rows(), 1) if not math.isnan(row[0])]
        assert tuple(told) == blocks and source.ready().card.attention == tuple(n in blocks for n in range(1, 5))


def test_of_many_blocks_a_few_are_told_from_the_first_to_the_last(patient):
    with serving("vllm", lens=FakeLens(n_layers=30)) as fake, source_of(fake.url) as (source, _):
        assert [n for n, told in enumerate(source.ready().card.attention, 1) if told] == [1, 8, 15, 23, 30]


def test_a_block_that_is_not_there_is_refused():
    with (
        serving("vllm", lens=FakeLens()) as fake,
        pytest.raises(UserError, match="it has 4"),
        source_of(fake.url, lens="3,5"),
    ):
        pass


def test_a_model_whose_heads_are_not_told_has_norms_and_a_lens(patient):
    with serving("vllm", lens=FakeLens(has_heads=False)) as fake, source_of(fake.url) as (source, heard):
        write(source, n=3, knobs=replace(GREEDY, lens=4))
        assert all(are_of(step, N_PROMPT + step.index - 1) and len(step.lens_rows) == 2 for step in heard.steps)
        assert not any(source.ready().card.attention)
        known = source.capabilities.metrics
        assert "residual norm" in known and "lens kl" in known and "head entropy" not in known


def test_the_plugin_is_left_alone_where_a_person_says_so():
    with serving("vllm", lens=FakeLens()) as fake, source_of(fake.url, lens="off") as (source, heard):
        write(source, n=3)
        assert not fake.lens.asked and source.ready().card.n_layers == 0 and len(heard.steps) == 3
        assert not source.capabilities.can("set-vector") and "--server-lens" in str(source.capabilities.reasons)


def test_a_vllm_without_the_plugin_says_why_it_is_not_steered():
    with serving("vllm") as fake, source_of(fake.url) as (source, _):
        assert dict(source.capabilities.reasons)["set-vector"] == "the plugin vllm-lens is not there"
        facts = {fact.name: fact.value for fact in source.ready().card.server.facts}
        assert facts["steering, lens"] == "none: the plugin vllm-lens is not there"
    with (
        serving("vllm") as fake,
        closing(ServerSource(Heard())) as source,
        pytest.raises(UserError, match="not steered, since the plugin vllm-lens"),
    ):
        source.begin(Load(ModelSpec("x", server=ServerSpec(fake.url)), (Vector("a", "a.gguf"),)))


@pytest.mark.parametrize(
    "described",
    [
        {"n_layers": 0}, {"n_layers": "4"}, {"n_layers": True}, {"n_heads": 10**9}, {"d_model": -1},
        {"vocab": 1.5}, {"dtype": 3}, {"norm": None}, {"n_layers": None},
    ],
)  # fmt: skip
def test_a_model_that_is_none_is_told_and_the_text_is_written_all_the_same(described):
    with serving("vllm", lens=FakeLens(described=described)) as fake, source_of(fake.url) as (source, heard):
        write(source, n=3)
        assert len(heard.steps) == 3 and source.ready().card.n_layers == 0
        assert "a model that is none" in dict(source.capabilities.reasons)["set-vector"]


# --- Replies that may hold anything ---


def packed(row, change):
    values = list(struct.unpack(f"<{len(base64.b64decode(row[1])) // 4}f", base64.b64decode(row[1])))
    change(values)
    return [row[0], base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()]


def with_value(at, value):
    return lambda row: packed(row, lambda values: values.__setitem__(at, value))


SPOILED = {
    "another position": lambda row: [row[0] + 1, row[1]],
    "another token": with_value(0, 17.0),
    "no token": with_value(0, math.nan),
    "half a token": with_value(0, 2.5),
    "infinite": with_value(6, math.inf),
    "a norm below zero": with_value(4, -3.0),
    "too short": lambda row: [row[0], row[1][:-8]],
    "too long": lambda row: packed(row, lambda values: values.append(1.0)),
    "no base64": lambda row: [row[0], "\u2603" * len(row[1])],
    "odd base64": lambda row: [row[0], "!" * len(row[1])],
    "a pickle": lambda row: {"__type__": "cloudpickle", "data": "gASVHAAAAAAAAACMCGJ1aWx0aW5zlIwEZXhpdJSTlCmBlC4="},
    "a pickle in a row": lambda row: [row[0], {"__type__": "cloudpickle", "data": row[1]}],
    "a tensor": lambda row: [row[0], {"__type__": "tensor", "data": row[1], "dtype": "float32", "shape": [1]}],
    "a position that is none": lambda row: [True, row[1]],
    "a negative position": lambda row: [-1, row[1]],
    "a text": lambda row: "gone",
    "nothing": lambda row: None,
    "a rank below one": with_value(-1, 0.0),
    "a probability above one": with_value(2 + 12 + 4 * 8 + 20 + 1, 1.5),
    "half a rank": with_value(-1, 2.5),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_what_can_be_no_numbers_of_this_token_is_unknown_and_counted(hasty, spoil):
    lens = FakeLens(spoil=spoil)
    with serving("vllm", lens=lens) as fake, source_of(fake.url) as (source, heard):
        write(source, n=4, knobs=replace(GREEDY, lens=2))
        assert len(heard.steps) == 4 and all(map(is_unknown, heard.steps))
        assert "4 of 4 tokens have no numbers" in heard.of(Refused)[-1].sentence


@pytest.mark.parametrize(
    "reply",
    [
        [], "text", 7, {"results": []}, {"results": {"a": [1]}}, {"results": {"a": {"tui-entropy": 3}}},
        {"results": {"a": {"tui-entropy": {"stream": ["x"]}}}}, {"error": "x" * 10_000}, {"results": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_reply_that_is_none_of_ours_is_passed_over(hasty, reply):
    lens = FakeLens()
    with serving("vllm", lens=lens) as fake, source_of(fake.url) as (source, heard):
        lens.reply = reply
        write(source, n=3)
        assert len(heard.steps) == 3 and all(map(is_unknown, heard.steps))


def test_a_reply_without_end_is_given_up(hasty, monkeypatch):
    monkeypatch.setattr(numbers_poll, "MOST_BYTES", 1000)
    monkeypatch.setattr(measured_stream, "LATE_S", 30.0)
    lens = FakeLens()
    with serving("vllm", lens=lens) as fake, source_of(fake.url) as (source, heard):
        lens.reply = {"results": {"other": {"0": {"rows": [0.0] * 5000}}}}
        write(source, n=3)
        assert len(heard.steps) == 3 and "answered with more than" in heard.of(Refused)[-1].sentence


def test_what_somebody_else_put_under_our_name_is_not_taken(hasty):
    lens = FakeLens()
    with serving("vllm", lens=lens) as fake, source_of(fake.url) as (source, heard):
        write(source, n=2)
        (left,) = (one for name, one in lens.results.items() if "other" not in name)
        lens.reply = {"results": {"cmpl-1": left}}
        write(source, n=2)
        assert all(map(is_unknown, heard.steps[2:]))


def test_numbers_that_come_later_than_they_may_are_counted_and_those_after_them_are_right(hasty):
    lens = FakeLens(behind=3)
    with serving("vllm", lens=lens) as fake, source_of(fake.url) as (source, heard):
        write(source, n=8)
        told = [not is_unknown(step) for step in heard.steps]
        assert told == [True] * 6 + [False] * 2 or sum(told) < 8
        assert all(are_of(step, N_PROMPT + step.index - 1) for step in heard.steps if not is_unknown(step))
        assert "tokens have no numbers" in heard.of(Refused)[-1].sentence


def test_a_collection_that_is_refused_ends_no_text(hasty):
    lens = FakeLens()
    with serving("vllm", lens=lens) as fake, source_of(fake.url) as (source, heard):
        lens.refuses = True
        write(source, n=6)
        assert len(heard.steps) == 6 and "404" in heard.of(Refused)[-1].sentence


def test_what_went_wrong_in_the_hook_is_told(hasty):
    lens = FakeLens(error="KeyError: \x1b[2J", behind=99)
    with serving("vllm", lens=lens) as fake, source_of(fake.url) as (source, heard):
        write(source, n=3)
        assert len(heard.steps) == 3 and "KeyError" in heard.of(Refused)[-1].sentence


def test_nothing_is_left_to_be_collected_once_a_session_has_ended(patient):
    lens = FakeLens()
    with serving("vllm", lens=lens) as fake:
        with source_of(fake.url) as (source, _):
            write(source, n=3)
            write(source, n=3)
            assert len(lens.results) == len(fake_lens.OTHERS) + 2
        assert lens.results == fake_lens.OTHERS


# --- Steering ---


def steered(fake, **vectors):
    return source_of(fake.url, vector_files=lambda: Files(**vectors))


def on(name, **setting):
    return SetVector(Vector(name, f"{name}.gguf", on=True, **setting))


def test_a_vector_acts_from_the_next_token_on_and_what_was_written_before_stays_as_it_was(patient):
    with (
        serving("vllm", lens=FakeLens()) as fake,
        steered(fake, joy={2: direction(), 3: direction()}) as (source, heard),
    ):
        assert source.capabilities.can("set-vector")
        source.handle(on("joy"))
        write_some(source, heard, 4)
        source.handle(SetVector(Vector("joy", "joy", strength=3.0, on=True)))
        advance(source)
        plan = fake.lens.asked[-1][-1]
        begin = N_PROMPT + 4 - 1
        assert plan["segments"] == ((0, begin, ((0, 1.0, 1, 4),)), (begin, None, ((0, 3.0, 1, 4),)))
        assert plan["vectors"] == [{"2": direction().tobytes(), "3": direction().tobytes()}]
        (read, turned) = heard.of(VectorsChanged)
        assert (turned.run, turned.index, turned.rebuilt, turned.vectors[0].strength) == (1, 4, False, 3.0)
        assert read.vectors[0].blocks == (2, 3) and heard.of(Started)[0].vectors[0].on
        assert heard.of(SettingsPending)[-1].vectors[0].strength == 3.0
        assert all(are_of(step, N_PROMPT + step.index - 1) for step in heard.steps)


def write_some(source, heard, n):
    from tui_entropy.records.commands import Write

    source.handle(Write("The", None, False, 12, GREEDY))
    while source.state == "writing" and len(heard.steps) < n:
        source.advance()


def test_what_is_steered_is_kept_apart_from_the_texts_of_others(patient):
    with serving("vllm", lens=FakeLens()) as fake, steered(fake, joy={1: direction()}) as (source, _):
        write(source, n=3)
        assert not any("cache_salt" in one.body for one in fake.asked_for_text())
        source.handle(on("joy"))
        write(source, n=3)
        write(source, n=3)
        salts = [one.body.get("cache_salt") for one in fake.asked_for_text() if one.body.get("stream")][1:]
        assert len(set(salts)) == len(salts) == 2 and all(salts)


def test_a_text_that_is_read_again_is_steered_as_a_whole(patient):
    with serving("vllm", lens=FakeLens()) as fake, steered(fake, joy={1: direction()}) as (source, heard):
        source.handle(SetVector(Vector("joy", "joy.gguf")))
        write_some(source, heard, 4)
        source.handle(SetVector(Vector("joy", "joy", on=True), rebuild=True))
        advance(source)
        assert fake.lens.asked[-1][-1]["segments"] == ((0, None, ((0, 1.0, 1, 4),)),)
        assert heard.of(VectorsChanged)[-1].rebuilt


def test_blocks_and_a_schedule_are_what_was_set(patient):
    with (
        serving("vllm", lens=FakeLens()) as fake,
        steered(fake, joy={n: direction() for n in range(1, 5)}) as (source, _),
    ):
        source.handle(on("joy", strength=2.0, first=2, last=3, schedule=((1, 0.0), (3, 1.0))))
        write(source, n=5)
        told = [(first, end, acting[0][1:]) for first, end, acting in fake.lens.asked[-1][-1]["segments"]]
        assert told == [(1, 2, (1.0, 2, 3)), (2, None, (2.0, 2, 3))]


def test_a_branch_has_the_vectors_of_its_parent_up_to_where_it_begins(patient):
    with serving("vllm", lens=FakeLens()) as fake, steered(fake, joy={1: direction()}) as (source, heard):
        source.handle(on("joy"))
        write(source, n=8)
        source.handle(SetVector(Vector("joy", "joy", on=False)))
        source.handle(Branch(1, 3, (300,)))
        advance(source)
        assert fake.lens.asked[-1][-1]["segments"] == ((0, N_PROMPT + 3 - 1, ((0, 1.0, 1, 4),)),)
        assert not heard.of(Started)[-1].vectors[0].on
        source.handle(Go(1))
        assert source.session.vectors[0].on


BAD = {
    "is 9 wide at block 1, and the model is 8": {1: direction(width=9)},
    "acts on block 5, and the model has 4": {5: direction()},
    "acts on block 0": {0: direction()},
    "not finite": {2: np.array([1, math.nan, *[0] * 6], np.float32)},
    "larger than": {2: direction(1e30)},
}  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_a_vector_that_does_not_fit_is_refused_before_anything_of_it_is_sent(patient, said):
    with serving("vllm", lens=FakeLens()) as fake, steered(fake, bad=BAD[said]) as (source, heard):
        n_asked = len(fake.requests)
        with pytest.raises(UserError, match=said) as refusal:
            source.handle(on("bad"))
        assert "'bad'" in str(refusal.value) and len(fake.requests) == n_asked
        assert not source.session.vectors
        write(source, n=2)
        assert not fake.lens.asked[-1][-1]["segments"] and len(heard.steps) == 2


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (scaled_part("2.attention=0"), "no part of them is scaled"),
        (Vector("joy", "joy.gguf", condition="entropy > 2"), "by a condition"),
        (Vector("joy", "joy.gguf", strength=1e30), "larger than"),
    ],
)
def test_what_no_server_can_be_told_is_refused(vector, said):
    with (
        serving("vllm", lens=FakeLens()) as fake,
        steered(fake, joy={1: direction()}) as (source, _),
        pytest.raises(UserError, match=said),
    ):
        source.handle(SetVector(replace(vector, on=True)))


def test_a_server_that_does_not_steer_as_it_was_asked_to_is_not_taken_for_one_that_does(patient):
    with (
        serving("vllm", lens=FakeLens(steers=False)) as fake,
        steered(fake, joy={1: direction(), 2: direction()}) as (source, heard),
    ):
        source.handle(on("joy"))
        write(source, n=5)
        assert source.state == "paused" and not heard.steps
        assert "steered 0 blocks where 2 were asked for" in heard.of(Paused)[-1].reason


def test_a_pause_holds_up_the_next_token_with_its_numbers(patient):
    with serving("vllm", lens=FakeLens()) as fake, source_of(fake.url) as (source, heard):
        write_some(source, heard, 3)
        source.handle(Pause())
        proposed = source.session.proposed
        assert proposed is None or are_of(proposed, N_PROMPT + proposed.index - 1)


# --- What doctor says of it ---


def inside_finding(lens):
    with serving("vllm", lens=lens) as fake, closing(HttpClient(fake.url, "NO_KEY", 10)) as client:
        found = list(Examination(identified(client, ServerSpec(fake.url))).findings())
    return next((one for one in found if one.name == "inside"), None)


def test_doctor_tells_how_late_numbers_are_and_whether_the_last_layer_is_the_model(patient):
    found = inside_finding(FakeLens())
    assert found.verdict == "note" and "ms behind the token" in found.sentence
    assert "the last layer says what the server told at 0 of 16" in found.sentence


def test_doctor_tells_of_numbers_that_never_come(hasty):
    found = inside_finding(FakeLens(behind=99))
    assert found.verdict == "note" and "16 of 16 tokens have no numbers" in found.sentence


def test_doctor_says_nothing_of_it_where_the_plugin_is_not_there():
    assert inside_finding(None) is None
