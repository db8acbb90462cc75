"""vLLM on two ranks with vllm-lens: each rank knows its own heads, and together they tell what one would."""

from __future__ import annotations

import math

import pytest
from asked_sources import GREEDY, source_of, write
from msgspec.structs import replace

from tui_entropy.records.events import Refused
from tui_entropy.servers.vllm_lens import measured_stream

pytestmark = pytest.mark.servers


def test_heads_of_both_ranks_are_told_and_the_last_lens_row_is_the_model(vllm_tp2, monkeypatch):
    monkeypatch.setattr(measured_stream, "LATE_S", 60.0)
    with source_of(vllm_tp2.url, lens="all") as (source, heard):
        write(source, "The capital of France is", 12, replace(GREEDY, lens=2))
        assert not heard.of(Refused) and len(heard.steps) == 12
        for step in heard.steps:
            assert not any(map(math.isnan, [*step.head_entropy.flat, *step.blocks.flat]))
            assert all(map(math.isnan, step.attention.flat))
            assert [row.layer for row in step.lens_rows] == [0, 2, 4, 6]
            last, top = step.lens_rows[-1], step.candidates[0]
            assert last.token_id == top.token_id and last.p == pytest.approx(math.exp(top.logprob), abs=1e-3)
            assert last.rank == step.rank
