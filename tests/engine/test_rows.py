"""One row and two through the same product."""

from __future__ import annotations

import pytest
import torch
from small import loaded as small_model
from test_decode import GREEDY, PROMPT, steps

from tui_entropy.engine import rows
from tui_entropy.engine.context import Context
from tui_entropy.engine.decode import Controls, instruments
from tui_entropy.engine.forward import forward


@pytest.fixture
def found():
    return small_model("llama")


def chosen(found, by_columns: bool) -> None:
    rows._faster[found.model] = by_columns


def test_the_same_is_written_whichever_way_is_faster(found):
    written = {}
    for by_columns in (True, False):
        chosen(found, by_columns)
        written[by_columns] = steps(found, lambda: Controls(GREEDY, {}), n=8)
    assert [step.token_id for step in written[True]] == [step.token_id for step in written[False]]
    for one, other in zip(written[True], written[False], strict=True):
        assert one.entropy == pytest.approx(other.entropy, abs=1e-5)


def test_a_row_has_the_same_numbers_to_the_bit_whether_another_stands_beside_it_or_not(found):
    chosen(found, True)
    linear = max(rows._linear(found.model), key=lambda module: module.weight.numel())
    one, other = torch.randn(2, 1, linear.in_features).split(1)
    alone, beside = rows._two_columns(linear, one), rows._two_columns(linear, torch.cat([one, other]))
    assert torch.equal(alone, beside[:1])
    assert torch.allclose(beside, linear(torch.cat([one, other])), atol=1e-5)


def test_the_model_is_left_as_it_was_found(found):
    chosen(found, True)
    with instruments(found):
        assert all("forward" in vars(module) for module in rows._linear(found.model))
        context = Context(found, PROMPT, 4)
        forward(found, context.cache, torch.tensor([PROMPT]))
        forward(found, context.cache, torch.tensor([PROMPT[:1]]))
    assert not any("forward" in vars(module) for module in rows._linear(found.model))


def test_what_is_faster_is_found_by_trying_and_only_once(found, monkeypatch):
    rows._faster.pop(found.model, None)
    tried = []
    monkeypatch.setattr(
        rows, "_tried", lambda way, linear: tried.append(way) or (1.0 if way is rows._two_columns else 2.0)
    )
    assert rows.by_columns(found.model) and rows.by_columns(found.model)
    assert len(tried) == 2
    rows._faster.pop(found.model)
