"""One row and two through the same product."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from decoded import GREEDY, PROMPT, steps
from msgspec.structs import replace as replace_card
from small import loaded as small_model

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.kernels import products as products_
from tui_entropy.engine.kernels import two_row_linear
from tui_entropy.engine.kernels.products import path_of, products
from tui_entropy.engine.models.forward import forward
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.model import COLUMNS, ROWS


@pytest.fixture
def found():
    return small_model("llama")


def taken(found, products: str):
    return replace(found, card=replace_card(found.card, products=products))


def test_the_same_is_written_whichever_way_is_faster(found):
    written = {}
    for way in (COLUMNS, ROWS):
        written[way] = steps(taken(found, way), lambda: Controls(GREEDY, {}), n=8)
    assert [step.token_id for step in written[COLUMNS]] == [step.token_id for step in written[ROWS]]
    for one, other in zip(written[COLUMNS], written[ROWS], strict=True):
        assert one.entropy == pytest.approx(other.entropy, abs=1e-5)


def test_a_row_has_the_same_numbers_to_the_bit_whether_another_stands_beside_it_or_not(found):
    linear = max(two_row_linear.linear_layers(found.model), key=lambda module: module.weight.numel())
    one, other = torch.randn(2, 1, linear.in_features).split(1)
    alone, beside = (
        two_row_linear.linear_by_columns(linear, one),
        two_row_linear.linear_by_columns(linear, torch.cat([one, other])),
    )
    assert torch.equal(alone, beside[:1])
    assert torch.allclose(beside, linear(torch.cat([one, other])), atol=1e-5)


def test_the_model_is_left_as_it_was_found(found):
    found = taken(found, COLUMNS)
    with open_instruments(found):
        assert all("forward" in vars(module) for module in two_row_linear.linear_layers(found.model))
        sequence = TokenSequence(found, PROMPT, 4)
        forward(found, sequence.cache, torch.tensor([PROMPT]))
        forward(found, sequence.cache, torch.tensor([PROMPT[:1]]))
    assert not any("forward" in vars(module) for module in two_row_linear.linear_layers(found.model))


def test_a_product_can_be_viewed_as_any_other(found):
    linear = two_row_linear.linear_layers(found.model)[0]
    for n in (1, 2):
        made = two_row_linear.linear_by_columns(linear, torch.randn(n, 1, linear.in_features))
        assert made.view(n, -1).shape == (n, linear.out_features) and made.is_contiguous()


def watched(monkeypatch, columns: float) -> list[object]:
    """Two columns take so much of the time of one row; and what was tried."""
    tried: list[object] = []
    monkeypatch.setattr(
        products_,
        "_time_one_row",
        lambda way, linear: tried.append(way) or (columns if way is two_row_linear.linear_by_columns else 1.0),
    )
    return tried


def test_what_is_faster_is_found_by_trying_once_and_kept(found, own_folders, monkeypatch):
    tried = watched(monkeypatch, 0.5)
    assert products(found.model, found.card) == COLUMNS and len(tried) == 2
    watched(monkeypatch, 2.0)
    assert products(found.model, found.card) == COLUMNS
    other = replace_card(found.card, dtype="float16")
    assert products(found.model, other) == ROWS
    path_of(found.card).write_bytes(b"\xffodd")
    assert products(found.model, found.card) == ROWS and path_of(found.card).read_text() == "rows\n"
    assert [path for path in path_of(found.card).parent.iterdir() if "." in path.name or "tmp" in path.name] == []


def test_of_two_programs_that_choose_at_once_the_first_is_heard(found, own_folders, monkeypatch):
    path = path_of(found.card)

    def slower(layers):
        path.parent.mkdir(parents=True)
        path.write_text(f"{ROWS}\n")
        return COLUMNS

    monkeypatch.setattr(products_, "faster", slower)
    assert products(found.model, found.card) == ROWS == products(found.model, found.card)


def test_where_nothing_can_be_kept_it_is_chosen_all_the_same(found, own_folders, monkeypatch):
    watched(monkeypatch, 0.5)
    path_of(found.card).parent.parent.mkdir(parents=True)
    path_of(found.card).parent.write_text("in the way")
    assert products(found.model, found.card) == COLUMNS


def test_it_can_be_set_and_is_refused_where_it_cannot_be(found, own_folders):
    for asked in (COLUMNS, ROWS):
        assert products(found.model, found.card, asked) == asked
    assert not path_of(found.card).exists()
    with pytest.raises(UserError, match=r"--products sideways.*auto, columns or rows"):
        products(found.model, found.card, "sideways")
    half = found.model.bfloat16()
    assert products(half, found.card) == products(half, found.card, ROWS) == ROWS
    with pytest.raises(UserError, match=r"--products columns.*--dtype float32"):
        products(half, found.card, COLUMNS)
