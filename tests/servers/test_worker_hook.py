"""The hook that runs inside vLLM, called as the plugin calls it: the same numbers as those of the engine here."""

from __future__ import annotations

import base64
import json
import math
import pickle
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tui_entropy.engine.instruments.head_measures import measured as head_measures
from tui_entropy.engine.instruments.residual import block_stats
from tui_entropy.engine.lenses.readout import Final
from tui_entropy.engine.lenses.readout import measured as lens_measures
from tui_entropy.servers.vllm_lens.hook_plan import Measured, ModelInside, Pushes, removal_fields, request_fields
from tui_entropy.servers.vllm_lens.told_numbers import read_reply

N_LAYERS, N_HEADS, N_KV, WIDTH, HEAD, VOCAB = 3, 4, 2, 8, 4, 50
MODEL = ModelInside(N_LAYERS, N_HEADS, N_KV, WIDTH, VOCAB, "float32", "model.norm")
META = {"sliding_window": [-1, -1], "logits_soft_cap": 0.0, "alibi_slopes": None, "scale": 0.5}
STREAM = "0123"


class Room:
    """What the plugin has around a hook: requests of a batch, of which ours is the second."""

    def __init__(self, measured=None, pushes=None, n_prompt=5, meta=None, rank=0, heads=slice(None), n_context=None):
        self.measured = measured or Measured(MODEL)
        fields = request_fields(self.measured, pushes or Pushes(), STREAM, n_prompt, n_context or n_prompt)
        hooks = [(pickle.loads(base64.b64decode(one["fn"]["cloudpickle"])), one) for one in map(dict, load(fields))]
        self.before = next((hook for hook, one in hooks if one["pre"]), None)
        self.hook = next(hook for hook, one in hooks if not one["pre"])
        self.heads, self.kv = heads, slice(None) if heads == slice(None) else slice(rank, rank + 1)
        torch.manual_seed(1)
        self.states = torch.randn(N_LAYERS + 1, 40, WIDTH)
        self.queries, self.keys = torch.randn(N_LAYERS, 40, N_HEADS, HEAD), torch.randn(N_LAYERS, 40, N_KV, HEAD)
        self.ids = torch.arange(100) % VOCAB
        self.model = nn.Module()
        self.model.model = nn.Module()
        self.model.model.norm, self.model.head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)
        self.model.compute_logits = self.model.head if rank == 0 else lambda vectors: None
        self.extension = Extension()
        vars(self.extension).update(
            rank=rank, _qk_tp_rank=rank, _captured_qk={}, _persistent_hook_contexts={},
            _qk_layer_meta=dict.fromkeys(range(N_LAYERS), META | (meta or {})),
        )  # fmt: skip

    @torch.inference_mode()
    def read(self, first, last):
        """A pass of positions from one up to another; returns what the blocks put out in the end."""
        n, beside = last - first, 2
        batch = SimpleNamespace(req_id_to_index={"other": 0, "ours": 1}, num_computed_tokens_cpu=[7, first])
        ids = torch.cat([torch.tensor([33, 34]), self.ids[first:last]])
        self.extension.model_runner = SimpleNamespace(input_batch=batch, input_ids=SimpleNamespace(gpu=ids))
        out = []
        if self.before:
            _run_category(self.before, 0, self.states[0, first:last], self, n, beside)
        for block in range(N_LAYERS):
            if block + 1 in self.measured.attention:
                captured = self.extension._captured_qk.setdefault("ours", {})
                captured[block] = {
                    "q": [self.queries[block, first:last, self.heads]], "k": [self.keys[block, first:last, self.kv]],
                }  # fmt: skip
            given = self.states[block + 1, first:last].clone()
            made = _run_category(self.hook, block, given, self, n, beside)
            assert torch.equal(given, self.states[block + 1, first:last])
            out.append(given if made is None else made)
        assert not self.extension._captured_qk
        return torch.stack(out)

    def reply(self):
        contexts = self.extension._persistent_hook_contexts
        told = {name: {str(n): one.saved for n, one in held.items()} for name, held in contexts.items()}
        return json.loads(json.dumps({"results": told}))

    def told(self):
        found = read_reply(self.reply(), STREAM, self.measured)
        assert not found.error and not found.n_odd
        return found.by_position

    def fields(self, position, written=None):
        told = self.told()[position]
        assert told.token_id == self.ids[position]
        return told.fields(written, Names())


class Extension:
    """A worker of vLLM with the plugin."""


class Names:
    def learn(self, told):
        pass

    def token_bytes(self, token_id):
        return b"%d" % token_id


def load(fields):
    return json.loads(fields["apply_hooks"])


def _run_category(hook, layer, hidden, room, n, beside):
    """As the plugin calls a hook: it finds these names in the frame of its caller."""
    extension, req_id, end = room.extension, "ours", beside + n  # noqa: F841
    return hook(SimpleNamespace(layer_idx=layer, model=room.model), hidden)


# --- Numbers ---


def heads_here(room, block, last, window=None, cap=0.0, slopes=None):
    """Of the newest query as the engine of this program measures it."""
    first = max(0, last - window) if window else 0
    keys = room.keys[block, first:last].repeat_interleave(N_HEADS // N_KV, 1)
    scores = torch.einsum("hd,nhd->hn", room.queries[block, last - 1], keys) * META["scale"]
    scores = torch.tanh(scores / cap) * cap if cap else scores
    if slopes:
        scores = scores + torch.tensor(slopes)[:, None] * torch.arange(1 - len(keys), 1)
    return head_measures(scores[None], scores.softmax(-1)[None], None, N_HEADS)[0]


@pytest.mark.parametrize("passes", [[(0, 5), (5, 6), (6, 7)], [(0, 2), (2, 5), (5, 6), (6, 7)]])
def test_blocks_and_heads_are_measured_as_here_however_the_prompt_is_cut(passes):
    room = Room(Measured(MODEL, (1, 3)))
    for first, last in passes:
        room.read(first, last)
    assert sorted(room.told()) == [4, 5, 6]
    for position in (4, 5, 6):
        fields = room.fields(position)
        torch.testing.assert_close(
            torch.tensor(fields["blocks"].numpy()), block_stats(room.states[1:, position]), rtol=1e-5, atol=1e-6
        )
        for block in (1, 3):
            found = [*fields["head_entropy"].row(block - 1), *fields["head_varentropy"].row(block - 1)]
            found += fields["attention"].row(block - 1)
            assert found == pytest.approx(heads_here(room, block - 1, position + 1).tolist(), abs=1e-5)
        assert all(map(math.isnan, fields["head_entropy"].row(1)))
        assert fields["visible_keys"] == (position + 1, None, position + 1)


@pytest.mark.parametrize(
    ("meta", "here"),
    [
        ({"sliding_window": [3, 0]}, {"window": 4}), ({"logits_soft_cap": 0.7}, {"cap": 0.7}),
        ({"alibi_slopes": [0.5, 0.25, 0.1, 0.0]}, {"slopes": [0.5, 0.25, 0.1, 0.0]}),
    ],
)  # fmt: skip
def test_windows_caps_and_slopes_of_a_kernel_are_those_of_the_rows(meta, here):
    room = Room(Measured(MODEL, (2,)), meta=meta)
    room.read(0, 9)
    found = room.fields(8)
    assert found["head_entropy"].row(1) == pytest.approx(heads_here(room, 1, 9, **here)[:N_HEADS].tolist(), abs=1e-5)
    assert found["visible_keys"][1] == (4 if "window" in here else 9)


def test_a_text_that_is_read_anew_after_it_was_put_off_has_no_keys_twice():
    room = Room(Measured(MODEL, (1,)))
    for first, last in ((0, 5), (5, 6), (0, 6), (6, 7)):
        room.read(first, last)
    assert room.fields(6)["head_entropy"].row(0) == pytest.approx(heads_here(room, 0, 7)[:N_HEADS].tolist(), abs=1e-5)


def test_heads_whose_keys_were_not_all_read_here_are_unknown():
    room = Room(Measured(MODEL, (1,)))
    room.read(5, 6)
    assert all(map(math.isnan, room.fields(5)["head_entropy"].row(0)))


def test_lens_rows_are_those_of_the_engine_here():
    room = Room(Measured(MODEL, lens=(0, 2, 3)))
    room.read(0, 5)
    with torch.inference_mode():
        logits = room.model.head(room.model.model.norm(room.states[[0, 2, 3], 4]))
    final = Final.of(logits[-1].log_softmax(-1))
    for written in logits[-1].topk(20).indices.tolist():
        rows = room.fields(4, written)["lens_rows"]
        wanted = lens_measures([(row, final, torch.tensor(written)) for row in logits])
        assert [row.layer for row in rows] == [0, 2, 3]
        for row, (top, p, entropy, kl, rank, _) in zip(rows, wanted.tolist(), strict=True):
            assert (row.token_id, row.rank, row.token_bytes) == (int(top), int(rank), b"%d" % int(top))
            assert (row.p, row.entropy, row.kl) == pytest.approx((p, entropy, kl), abs=1e-5)
    least = int(logits[-1].argmin())
    assert {row.rank for row in room.fields(4, least)["lens_rows"]} == {0}


def test_the_lens_is_read_at_every_so_many_steps():
    room = Room(Measured(MODEL, lens=(1, 3), lens_steps=2))
    for first, last in ((0, 5), (5, 6), (6, 7)):
        room.read(first, last)
    assert [bool(room.fields(position)["lens_rows"]) for position in (4, 5, 6)] == [True, False, True]


def test_two_ranks_tell_together_what_one_does():
    measured = Measured(MODEL, (1, 2), (1, 3))
    whole, *parts = Room(measured), *(Room(measured, rank=n, heads=slice(2 * n, 2 * n + 2)) for n in (0, 1))
    for room in (whole, *parts):
        room.read(0, 5)
    both = {name: held for part in parts for name, held in part.reply()["results"]["ours"]["tui-entropy"].items()}
    parts[0].extension._persistent_hook_contexts["ours"]["tui-entropy"].saved = both
    one, other = whole.fields(4), parts[0].fields(4)
    assert other["blocks"] == one["blocks"] and other["lens_rows"] == one["lens_rows"]
    assert [*other["head_entropy"].flat][:8] == pytest.approx([*one["head_entropy"].flat][:8], abs=1e-6)
    assert all(map(math.isnan, other["attention"].flat))


# --- Steering ---


def pushing(*segments, **directions):
    """Vectors by their names: {block: value of each number}."""
    held = tuple(
        {block: torch.full((WIDTH,), value).numpy().astype("<f4").tobytes() for block, value in one.items()}
        for one in directions.values()
    )
    return Pushes(held, segments)


@pytest.mark.parametrize("passes", [[(0, 10)], [(0, 3), (3, 7), (7, 10)], [(n, n + 1) for n in range(10)]])
def test_a_vector_acts_on_the_positions_and_blocks_that_it_is_meant_for(passes):
    pushes = pushing(
        (2, 6, ((0, 1.0, 1, 3),)), (6, None, ((0, 2.0, 1, 2), (1, -0.5, 1, 3))), a={1: 1.0, 3: 10.0}, b={3: 4.0}
    )
    room = Room(pushes=pushes, n_prompt=10)
    found = torch.cat([room.read(first, last) for first, last in passes], 1)
    added = (found - room.states[1:, :10]).mean(-1).T.tolist()
    wanted = [[0, 0, 0]] * 2 + [[1, 0, 10]] * 4 + [[2, 0, -2]] * 4
    assert [[round(value, 4) for value in row] for row in added] == wanted
    told = room.told()[9]
    assert told.n_pushed == pushes.n_blocks_at(9) == 2 and pushes.n_blocks_at(0) == 0
    torch.testing.assert_close(
        torch.tensor(room.fields(9)["blocks"].numpy()), block_stats(found[:, 9]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_not_added_and_is_told(value):
    room = Room(pushes=pushing((0, None, ((0, 1.0, 1, 3),)), a={2: value}))
    assert torch.isfinite(room.read(0, 5)).all()
    assert "cannot be added at block 2" in read_reply(room.reply(), STREAM, room.measured).error


# --- Telling ---


def test_what_goes_wrong_is_told_and_never_raised():
    room = Room(Measured(MODEL, lens=(1, 3)))
    room.model.compute_logits = None
    room.read(0, 5)
    assert "TypeError" in read_reply(room.reply(), STREAM, room.measured).error


def test_of_a_long_text_the_newest_positions_are_kept_and_a_prompt_that_goes_on_is_not_told_of():
    room = Room(n_prompt=5, n_context=20)
    for position in range(40):
        room.read(position, position + 1)
    room.hook.plan["n_kept"] = 8
    assert sorted(room.told()) == list(range(19, 40))
    room.read(39, 40)
    assert len(room.told()) == 8 - 1


def test_what_ended_texts_left_is_taken_away_and_nothing_of_others_is():
    room, others = Room(), SimpleNamespace(saved={"x": 1})
    old, new = (SimpleNamespace(saved={}, at=time.monotonic() - age) for age in (1000, 1))
    room.extension._persistent_hook_contexts |= {
        "left": {"tui-entropy": old}, "both": {0: others, "tui-entropy": old}, "writing": {"tui-entropy": new},
    }  # fmt: skip
    room.read(0, 5)
    contexts = room.extension._persistent_hook_contexts
    assert set(contexts) == {"both", "writing", "ours"} and contexts["both"] == {0: others}


def test_what_a_session_left_is_taken_away_when_it_ends():
    room, others = Room(), SimpleNamespace(saved={"x": 1})
    room.read(0, 5)
    contexts = room.extension._persistent_hook_contexts
    contexts |= {"both": {0: others, "tui-entropy": contexts["ours"]["tui-entropy"]}, "theirs": {0: others}}
    sent = json.loads(removal_fields([STREAM])["apply_hooks"])[0]["fn"]["cloudpickle"]
    _run_category(pickle.loads(base64.b64decode(sent)), 0, room.states[0, :1], room, 1, 0)
    assert contexts == {"both": {0: others}, "theirs": {0: others}}


def test_numbers_that_somebody_cleared_are_told_again():
    room = Room()
    room.read(0, 5)
    room.extension._persistent_hook_contexts = {}
    room.read(5, 6)
    assert sorted(room.told()) == [4, 5]
