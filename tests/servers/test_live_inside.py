"""vLLM with vllm-lens against the engine here: norms, heads, lens rows and steered texts are the same."""

from __future__ import annotations

import math
import uuid

import numpy as np
import pytest
from asked_sources import GREEDY, Heard, advance, source_of, write
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.engine.model_source import ModelSource
from tui_entropy.engine.steering import control_vector
from tui_entropy.records.commands import Load, SetKnobs, SetVector, Write
from tui_entropy.records.events import Refused, VectorsChanged
from tui_entropy.records.model import ModelSpec
from tui_entropy.servers.vllm_lens import measured_stream

pytestmark = pytest.mark.servers

PROMPT = "The capital of France is"
N = 20
CLOSE = {"rel": 2e-3, "abs": 2e-3}
"""Two implementations in float32."""


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A machine that does other work is no fault: here every number is waited for."""
    monkeypatch.setattr(measured_stream, "LATE_S", 60.0)


def here(*commands, knobs=GREEDY, n=N):
    """The steps of the engine of this program, which is told these once the first half of them is written."""
    heard = Heard()
    source = ModelSource(heard)
    try:
        source.begin(Load(ModelSpec("smollm2", dtype="float32"), record_attention="off"))
        told_on_the_way(source, heard, commands, knobs, n)
    finally:
        source.close()
    return heard


def there(vllm, *commands, knobs=GREEDY, n=N):
    with source_of(vllm.url, vector_files=lambda: control_vector) as (source, heard):
        told_on_the_way(source, heard, commands, knobs, n)
    return heard


def told_on_the_way(source, heard, commands, knobs, n):
    before = [one for one in commands if isinstance(one, SetVector) and not one.vector.schedule]
    for command in before[:1]:
        source.handle(command)
    write_some(source, heard, n // 2 if len(commands) > 1 else n, n, knobs)
    for command in commands[1:]:
        source.handle(command)
    advance(source)


def write_some(source, heard, until, n, knobs):
    source.handle(Write(PROMPT, None, False, n, knobs))
    while source.state == "writing" and len(heard.steps) < until:
        source.advance()


def same_inside(one, other):
    assert [step.text for step in one.steps] == [step.text for step in other.steps]
    for own, told in zip(one.steps, other.steps, strict=True):
        np.testing.assert_allclose(told.blocks.numpy(), own.blocks.numpy(), rtol=2e-3, atol=2e-3)
        measured = ~np.isnan(told.head_entropy.numpy())
        assert measured.any(axis=1).sum() == 5 and (measured.all(axis=1) == measured.any(axis=1)).all()
        for name in ("head_entropy", "head_varentropy", "attention"):
            found, wanted = getattr(told, name).numpy(), getattr(own, name).numpy()
            known = ~np.isnan(found)
            np.testing.assert_allclose(found[known], wanted[known], rtol=5e-3, atol=5e-3)
        assert all(told.visible_keys[at] == own.visible_keys[at] for at in np.flatnonzero(measured[:, 0]))


def test_norms_heads_and_lens_rows_are_those_of_the_engine_here(vllm):
    knobs = replace(GREEDY, lens=6)
    own, told = here(knobs=knobs), there(vllm, knobs=knobs)
    same_inside(own, told)
    for one, other in zip(own.steps, told.steps, strict=True):
        assert (
            [row.layer for row in other.lens_rows] == [row.layer for row in one.lens_rows] == [0, 6, 12, 18, 24, 30]
        )
        for row, found in zip(one.lens_rows, other.lens_rows, strict=True):
            assert found.token_bytes == row.token_bytes and found.rank == row.rank
            assert [found.p, found.entropy, found.kl] == pytest.approx([row.p, row.entropy, row.kl], **CLOSE)
        assert other.lens_rows[-1].token_id == other.candidates[0].token_id


def vector(heard, name="pirate", **setting):
    (ready,) = [one for one in heard if one.name == name]
    return replace(ready, on=True, **setting)


@pytest.fixture(scope="module")
def built_in():
    heard = Heard()
    source = ModelSource(heard)
    try:
        source.begin(Load(ModelSpec("smollm2", dtype="float32"), record_attention="off"))
        return source.ready().vectors
    finally:
        source.close()


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_strength_that_is_turned_while_it_writes_acts_as_here(vllm, built_in, rebuild):
    weak, strong = vector(built_in, strength=0.5), vector(built_in, strength=2.0)
    commands = SetVector(weak), SetVector(strong, rebuild)
    own, told = here(*commands), there(vllm, *commands)
    same_inside(own, told)
    assert told.text != there(vllm).text
    changes = [(one.index, one.rebuilt, [v.strength for v in one.vectors if v.on]) for one in told.of(VectorsChanged)]
    assert changes == [(N // 2, rebuild, [2.0])]


def test_a_schedule_acts_step_by_step_as_here(vllm, built_in):
    rising = vector(built_in, strength=2.0, schedule=((1, 0.0), (9, 1.0)))
    plain = vector(built_in, "warm", strength=0.0)
    commands = SetVector(plain), SetVector(rising)
    same_inside(here(*commands), there(vllm, *commands))


def test_a_steered_text_leaves_nothing_behind_for_others(vllm, built_in):
    """Its prompt is longer than the blocks of the prefix cache, where a text that begins alike would find it."""
    prompt = uuid.uuid4().hex + " the captain and the storm" * 60
    with source_of(vllm.url, vector_files=lambda: control_vector) as (source, _):
        source.handle(SetVector(vector(built_in, strength=3.0)))
        source.handle(Write(prompt, None, False, 4, GREEDY, score_prompt=False))
        advance(source)
    body = {"model": "smollm2", "prompt": prompt, "max_tokens": 8, "temperature": 0, "logprobs": 1}
    found = vllm.post("/v1/completions", **body)
    anew = vllm.post("/v1/completions", **body, vllm_xargs={"skip_reading_prefix_cache": 1})
    told, wanted = (one["choices"][0]["logprobs"]["token_logprobs"] for one in (found, anew))
    assert found["choices"][0]["text"] == anew["choices"][0]["text"] and told == pytest.approx(wanted, abs=1e-3)


def test_a_vector_that_would_poison_the_server_is_not_sent(vllm, built_in):
    with source_of(vllm.url, vector_files=lambda: control_vector) as (source, heard):
        with pytest.raises(UserError, match="larger than"):
            source.handle(SetVector(vector(built_in, strength=1e25)))
        write(source, PROMPT, 4)
        assert math.isfinite(heard.steps[-1].surprisal)


def test_nothing_is_left_at_the_server(vllm):
    there(vllm)
    left = vllm.post("/v1/hooks/collect")["results"]
    assert not [held for held in left.values() if "tui-entropy" in held]


def test_the_lens_can_be_turned_on_while_it_writes(vllm):
    told = there(vllm, SetKnobs(GREEDY), SetKnobs(replace(GREEDY, lens=10, lens_steps=2)))
    assert [bool(step.lens_rows) for step in told.steps] == [n >= N // 2 and n % 2 == 0 for n in range(N)]
    assert not told.of(Refused)
