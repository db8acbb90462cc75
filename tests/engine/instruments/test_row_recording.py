"""Attention rows in steps, against eager attention of the library: of every kind of model, on both ways of a step."""

import copy

import numpy as np
import pytest
import tiny
import torch
from graph_steps import GREEDY, N, close
from rewind_models import PROMPT
from small import endless
from small import loaded as small_model
from torch.utils._python_dispatch import TorchDispatchMode

from tui_entropy.engine.cuda_graph import forward_pass
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.instruments.row_recording import RowRecording, largest
from tui_entropy.engine.instruments.telling_head import MIN_QUERIES, movement, telling_head
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.records.quantised_rows import N_KEYS, error_bound
from tui_entropy.records.step import Step

HEAD = (2, 3)


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def found(request):
    return endless(small_model(request.param))


def written(loaded, record, graph=False, head=HEAD, n=N):
    with open_instruments(loaded, graph=graph, record=record) as instruments:
        instruments.attention.recording.select(*head)
        sequence = TokenSequence(loaded, PROMPT, n)
        events = list(decode(loaded, instruments, sequence, lambda: GREEDY, 1, False))
    return [event for event in events if isinstance(event, Step)]


@torch.inference_mode()
def eager(loaded, ids):
    """Block (1-based) -> (heads, n, n) of the library's plain formula, for blocks that have attention."""
    plain = copy.deepcopy(loaded.model)
    plain.set_attn_implementation("eager")
    maps = plain(torch.tensor([ids]), use_cache=False, output_attentions=True).attentions
    blocks = [n for n, has_rows in enumerate(loaded.architecture.attention, 1) if has_rows]
    return {block: weights[0].double().numpy() for block, weights in zip(blocks, maps, strict=True)}


def agrees(found, expected):
    """Whether a recorded row is the largest weights of this one, and its rest what they leave."""
    by_key = dict(zip(found.keys, found.weights, strict=True))
    bound = [error_bound(weight) + 1e-4 for weight in expected]
    assert all(abs(weight - expected[key]) <= bound[key] for key, weight in by_key.items())
    rest = sum(expected) - sum(expected[list(by_key)])
    assert abs(found.rest - rest) <= error_bound(rest) + 0.02 * error_bound(1.0) + 1e-3
    missing = [weight for key, weight in enumerate(expected) if key not in by_key]
    assert not missing or max(missing) <= max(min(by_key.values()) * 1.1, 1e-4) + 2e-3


def test_rows_of_every_block_are_those_of_eager_attention_and_the_rest_what_they_leave(found):
    steps = written(found, "shown")
    maps = eager(found, [*PROMPT, *(step.token_id for step in steps)])
    for step in steps:
        rows, at = step.attention_rows, step.position - 1
        for block in range(1, found.card.n_layers + 1):
            if block not in maps:
                assert rows.row(block, None) is None
                continue
            agrees(rows.row(block, None), maps[block].mean(0)[at, : at + 1])
        assert rows.shown == HEAD
        if HEAD[0] in maps:
            agrees(rows.row(*HEAD), maps[HEAD[0]][HEAD[1] - 1][at, : at + 1])
        else:
            assert rows.row(*HEAD) is None
        assert rows.row(HEAD[0], 1) is None


def test_all_has_every_head_of_every_block(found):
    steps = written(found, "all", n=4)
    maps = eager(found, [*PROMPT, *(step.token_id for step in steps)])
    for step in steps:
        at = step.position - 1
        for block, weights in maps.items():
            for head in range(1, len(weights) + 1):
                agrees(step.attention_rows.row(block, head), weights[head - 1][at, : at + 1])
            agrees(step.attention_rows.row(block, None), weights.mean(0)[at, : at + 1])


def test_nothing_is_recorded_where_it_is_off_and_no_head_where_none_is_selected(found):
    assert all(step.attention_rows is None for step in written(found, "off", n=3))
    rows = [step.attention_rows for step in written(found, "shown", head=(1, None), n=3)]
    assert all(each.shown is None and each.row(*HEAD) is None for each in rows)


class Copies(TorchDispatchMode):
    """Counts what would wait for a device: numbers that Python looks at."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.n += operation in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("record", ["shown", "all"])
def test_no_further_number_is_looked_at_for_the_rows_of_a_step(record):
    llama = endless(small_model("llama"))
    looked = {}
    for mode in ("off", record):
        with Copies() as copies:
            written(llama, mode, n=4)
        looked[mode] = copies.n
    assert looked["off"] == looked[record]


@pytest.mark.parametrize("record", ["shown", "all"])
def test_a_step_that_a_graph_holds_has_the_rows_of_a_plain_one(record, monkeypatch):
    monkeypatch.setattr(forward_pass, "SMALLEST", 16)
    llama = endless(small_model("llama"))
    for one, other in zip(written(llama, record, True), written(llama, record), strict=True):
        close(one, other)
        for layer in range(1, 5):
            for head in (None, HEAD[1]):
                mine, theirs = (step.attention_rows.row(layer, head) for step in (one, other))
                assert (mine is None) == (theirs is None) == (head is not None and layer != 2 and record == "shown")
                if mine is not None:
                    assert mine.rest == pytest.approx(theirs.rest, abs=0.01)
                    both = dict(zip(theirs.keys, theirs.weights, strict=True))
                    for key, weight in zip(mine.keys, mine.weights, strict=True):
                        assert weight == pytest.approx(both.get(key, 0.0), abs=0.01)


def test_the_head_that_is_selected_counts_from_the_next_step_on():
    llama = endless(small_model("llama"))
    heads = []
    with open_instruments(llama, record="shown") as instruments:
        sequence = TokenSequence(llama, PROMPT, 6)
        for event in decode(llama, instruments, sequence, lambda: GREEDY, 1, False):
            if isinstance(event, Step):
                heads.append(event.attention_rows.shown)
                instruments.attention.recording.select(1, 1 + len(heads) % 4)
    assert heads == [None, (1, 2), (1, 3), (1, 4), (1, 1), (1, 2)]


def test_a_row_that_is_chosen_once_more_says_which_head_it_is_of():
    llama = endless(small_model("llama"))
    with open_instruments(llama, record="shown") as instruments:
        events = decode(llama, instruments, TokenSequence(llama, PROMPT, 6), lambda: GREEDY, 1, False)
        step = next(event for event in events if isinstance(event, Step))
        instruments.attention.recording.select(3, 2)
        again = events.send("resample")
        assert (step.attention_rows.shown, again.attention_rows.shown) == (None, (3, 2))
        assert again.attention_rows.row(3, 2) is not None


def test_the_largest_weights_of_more_keys_than_are_kept():
    weights = torch.arange(1, 101).float() / 5050
    row = largest(weights, 7)
    assert sorted(row[N_KEYS:-1].tolist()) == list(range(107 - N_KEYS, 107))
    assert row[-1].item() == pytest.approx(sum(range(1, 101 - N_KEYS)) / 5050, abs=1e-6)
    few = largest(torch.tensor([[0.25, 0.0, 0.75]]), 4)
    pairs = sorted(zip(few[0, :N_KEYS].tolist(), few[0, N_KEYS:-1].tolist(), strict=True), reverse=True)
    assert pairs[:3] == [(0.75, 6.0), (0.25, 4.0), (0.0, 0.0)] and few[0, -1] == 0


def test_a_recording_that_is_off_costs_nothing():
    assert not RowRecording("off", 4, 4) and RowRecording("off", 4, 4).together([], None).numel() == 0


# --- The head to begin with -----------------------------------------------------------------------------------


def rows_that_look(at, n=24):
    """(1, n, n) rows of queries 0 to n - 1, each with all its weight on the key that `at` says."""
    rows = np.zeros((1, n, n), np.float32)
    for query in range(n):
        rows[0, query, min(max(at(query), 0), query)] = 1.0
    return torch.tensor(rows)


@pytest.mark.parametrize(
    "at", [lambda q: 0, lambda q: q, lambda q: q - 1, lambda q: 4], ids=["first", "itself", "previous", "one place"]
)
def test_heads_that_always_do_the_same_move_little(at):
    own = torch.arange(24)
    assert movement(rows_that_look(at), own).item() < 0.25
    late = slice(8, 24)
    assert movement(rows_that_look(at)[:, late], own[late]).item() == pytest.approx(0, abs=1e-6)


def test_a_head_that_looks_elsewhere_at_each_token_moves_most_and_an_even_one_not():
    own = torch.arange(24)
    n = 12
    induction = movement(rows_that_look(lambda q: q - 7)[:, -n:], own[-n:]).item()
    assert induction == pytest.approx(1 - 1 / n)  # n rows of one weight each, apart from their mean
    even = (torch.ones(24, 24).tril() / torch.arange(1, 25)[:, None])[None]
    assert movement(even[:, -n:], own[-n:]).item() < 0.01


def test_a_head_is_found_where_there_are_rows_and_only_once_enough_is_read(found):
    with open_instruments(found) as instruments:
        sequence = TokenSequence(found, PROMPT[:4], N)
        heads = []
        for event in decode(found, instruments, sequence, lambda: GREEDY, 1, False):
            if isinstance(event, Step):
                heads.append(telling_head(instruments.attention))
    assert heads[: MIN_QUERIES - 4] == [None] * (MIN_QUERIES - 4)
    if not any(found.architecture.attention) or all(layer.key is None for layer in instruments.attention.layers):
        assert heads == [None] * N
    else:
        layer, head = heads[-1]
        assert found.architecture.attention[layer - 1] and 1 <= head <= found.architecture.n_heads
