"""Attention rows in few bytes: what is read back, how far it is from what was measured, what is never believed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.records.quantised_rows import FORM, LEVELS, N_KEYS, QuantisedRows, error_bound, quantised

LONGEST = 1 << 20


@st.composite
def softmax_rows(draw):
    """(n_rows, 2k + 1) rows as they are measured: the k largest weights of a softmax, their keys, the rest."""
    rows, k = [], draw(st.integers(1, 12))
    for _ in range(draw(st.integers(1, 5))):
        scores = draw(st.lists(st.floats(-20, 20), min_size=k, max_size=3 * k))
        keys = draw(st.lists(st.integers(0, LONGEST), min_size=len(scores), max_size=len(scores), unique=True))
        weights = np.exp(np.array(scores) - max(scores))
        weights /= weights.sum()
        best = np.argsort(-weights, kind="stable")[:k]
        rows.append([*weights[best], *np.array(keys)[best], max(1 - weights[best].sum(), 0.0)])
    return np.array(rows, np.float32)


def parts(row):
    """{key: weight}, rest, of a row as it is measured."""
    k = len(row) // 2
    return {int(key): float(w) for w, key in zip(row[:k], row[k:-1], strict=True)}, float(row[-1])


@given(softmax_rows())
def test_what_is_read_back_is_within_the_closed_bound_of_what_was_measured(rows):
    kept = quantised(rows, len(rows))
    for layer, row in enumerate(rows, 1):
        weights, rest = parts(row)
        found = kept.row(layer, None)
        read = dict(zip(found.keys, found.weights, strict=True))
        assert read.keys() <= weights.keys() and list(found.keys) == sorted(found.keys)
        for key, weight in weights.items():
            assert abs(read.get(key, 0.0) - weight) <= error_bound(weight) + 1e-7
        assert abs(found.rest - rest) <= error_bound(rest) + 1e-7


@given(softmax_rows())
def test_shown_and_rest_sum_to_one_within_the_sum_of_the_bounds(rows):
    kept = quantised(rows, len(rows))
    for layer, row in enumerate(rows, 1):
        weights, rest = parts(row)
        found = kept.row(layer, None)
        slack = sum(map(error_bound, [*weights.values(), rest]))
        assert abs(sum(found.weights) + found.rest - 1) <= slack + 1e-5


@given(softmax_rows())
def test_the_order_of_weights_is_kept(rows):
    kept = quantised(rows, len(rows))
    for layer, row in enumerate(rows, 1):
        weights, _ = parts(row)
        found = kept.row(layer, None)
        read = dict(zip(found.keys, found.weights, strict=True))
        by_size = sorted(weights, key=weights.__getitem__)
        levels = [read.get(key, 0.0) for key in by_size]
        assert levels == sorted(levels)


@given(softmax_rows())
def test_quantising_what_was_read_back_changes_nothing(rows):
    kept = quantised(rows, len(rows))
    read = [kept.row(layer, None) for layer in range(1, len(rows) + 1)]
    k = rows.shape[1] // 2
    again = np.array([
        [*row.weights, *[0.0] * (k - len(row.keys)), *row.keys, *[0] * (k - len(row.keys)), row.rest] for row in read
    ])  # fmt: skip
    assert quantised(again.astype(np.float32), len(rows)) == kept


def test_the_bound_is_reached_and_no_smaller_one_would_do():
    halfway = ((100 + 0.5) / LEVELS) ** 2
    found = quantised(np.array([[halfway, 3, 0]], np.float32), 1).row(1, None)
    assert abs(found.weights[0] - halfway) == pytest.approx(error_bound(halfway), rel=0.01)


def test_rows_are_found_by_block_and_head():
    def row(n):
        return [((n + 1) / LEVELS) ** 2, n, 0.0]

    means = quantised(np.array([row(n) for n in (10, 20, 30)], np.float32), 2, 0, (2, 7))
    assert [means.row(*which).keys for which in ((1, None), (2, None), (2, 7))] == [(10,), (20,), (30,)]
    assert means.shown == (2, 7)
    assert means.row(1, 7) is means.row(2, 1) is means.row(3, None) is means.row(0, None) is None
    every = quantised(np.array([row(n) for n in range(6)], np.float32), 2, 2)
    assert [every.row(layer, head).keys for layer in (1, 2) for head in (None, 1, 2)] == [(n,) for n in range(6)]
    assert every.shown is None and every.row(1, 3) is None


def test_far_keys_of_every_row_are_their_own():
    near, far = [0.25, 0.25, 5, 9, 0.5], [0.25, 0.25, 70_000, 255, 0.5]
    kept = quantised(np.array([far, near, far], np.float32), 3)
    assert [kept.row(n, None).keys for n in (1, 2, 3)] == [(255, 70_000), (5, 9), (255, 70_000)]


def test_an_unknown_row_stays_unknown_beside_known_ones():
    unknown = [math.nan] * 3
    kept = quantised(np.array([unknown, [1.0, 4, 0.0], unknown], np.float32), 3)
    assert kept.row(1, None) is None and kept.row(3, None) is None
    assert kept.row(2, None) == ((4,), (1.0,), 0.0)


def test_the_default_model_takes_less_than_two_and_a_half_kilobytes():
    rng = np.random.default_rng(0)

    def size(keys):
        rows = [[*rng.dirichlet(np.ones(N_KEYS)), *keys(), 0.1] for _ in range(31)]
        return len(quantised(np.array(rows, np.float32), 30, 0, (17, 1)).data)

    assert size(lambda: range(500, 500 + N_KEYS)) < 1700
    assert size(lambda: rng.choice(8192, N_KEYS, False)) < 2500


def test_another_form_is_not_read():
    kept = QuantisedRows(quantised(np.array([[1.0, 4, 0.0]], np.float32), 1).data, "cube4")
    assert not kept.readable and kept.shown is None and kept.row(1, None) is None
    assert FORM == "sqrt8"  # in every trace: another quantisation has another name


@given(st.binary(max_size=200), st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9)))
def test_any_bytes_give_a_row_that_makes_sense_or_none(data, layer, head):
    found = QuantisedRows(data).row(layer, head)
    if found is not None:
        assert len(found.keys) == len(found.weights) > 0
        assert all(0 <= weight <= 1 for weight in (*found.weights, found.rest))
        assert list(found.keys) == sorted(set(found.keys)) and found.keys[0] >= 0


@given(softmax_rows(), st.data())
def test_rows_with_a_byte_changed_or_an_end_cut_off_are_read_or_refused(rows, data):
    whole = bytearray(quantised(rows, len(rows)).data)
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for n in range(len(rows) + 2):
        found = QuantisedRows(cut).row(n, None)
        assert found is None or len(found.keys) == len(found.weights)
