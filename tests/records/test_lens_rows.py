"""Lens rows in a trace: what comes out is what went in, and of any bytes only what an engine could have read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_steps import lens_rows
from msgspec.structs import replace

from tui_entropy.records.lens_rows import PACKED, fits, packed, unpacked


def named(token_id: int) -> bytes:
    return b"%d" % token_id


@pytest.mark.parametrize("every", [1, 4, 30])
def test_rows_come_out_as_they_went_in_to_the_precision_of_float32(every):
    rows = [replace(row, token_bytes=named(row.token_id)) for row in lens_rows(30, every)]
    data = packed(rows)
    again = unpacked(data, 30, named)
    assert len(data) == 22 * len(rows) and again[-1].layer == 30
    for one, other in zip(rows, again, strict=True):
        assert (one.layer, one.token_id, one.token_bytes, one.rank) == (
            other.layer, other.token_id, other.token_bytes, other.rank
        )  # fmt: skip
        assert (other.p, other.entropy, other.kl) == pytest.approx((one.p, one.entropy, one.kl), rel=1e-7)
    assert unpacked(data, 0, named) == again and unpacked(data, 31, named) == ()


def test_what_is_unknown_of_a_row_stays_unknown():
    (row,) = unpacked(packed([replace(lens_rows(3)[-1], entropy=math.nan)]), 3, named)
    assert math.isnan(row.entropy) and row.kl == 0


@pytest.mark.parametrize(
    "wrong", [{"layer": -1}, {"layer": 2**16}, {"token_id": -1}, {"token_id": 2**32}, {"rank": -1}, {"p": math.inf}]
)
def test_rows_that_no_engine_could_have_read_do_not_fit(wrong):
    *before, last = lens_rows(3)
    assert fits([*before, last], 3) and fits([], 3) and not fits(before, 3) and not fits([last, *before], 3)
    assert not fits([replace(before[0], **wrong), *before[1:], last], 3)


@given(st.one_of(st.none(), st.binary(max_size=6 * PACKED.size)), st.integers(0, 5))
def test_any_bytes_give_rows_that_fit_or_none(data, n_layers):
    assert fits(unpacked(data, n_layers, named), n_layers)


def test_a_rank_that_is_unknown_is_kept():
    rows = tuple(replace(row, rank=0) for row in lens_rows(3))
    assert fits(rows, 3) and unpacked(packed(rows), 3, lambda token_id: rows[0].token_bytes)[0].rank == 0
