import copy
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import FAMILIES, WINDOW, gemma2, gemma3, gpt_oss, llama, prompt
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.instruments import attention, attention_functions
from tui_entropy.engine.instruments.attention import attention_instrument
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.arrays import Grid
from tui_entropy.records.probes.attention_rows import RowWindow
from tui_entropy.records.step import ATTENTION

N = 3 * WINDOW
"""Long enough that every window has slid."""
STRETCHES = (5, 9, N - 17, 1, 1, 1)
"""Forward passes over the N tokens: the prompt in parts, then a token at a time."""


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return FAMILIES[request.param]()


class Scores(TorchDispatchMode):
    """What each softmax over attention scores was given, (n_heads, queries, keys): no sink, not shifted."""

    def __init__(self, sinks):
        super().__init__()
        self.sinks, self.joined, self.seen = sinks, None, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        if operation is torch.ops.aten.cat.default:
            self.joined = out
        if operation is torch.ops.aten.softmax.int and out.ndim == 4:
            self.seen.append(self.joined[0, ..., :-1] if self.sinks else args[0][0])
        return out


@torch.inference_mode()
def eager(model, ids, stretches=STRETCHES):
    """Logits (n, vocab), per block attention and scores (n_heads, n, n) or None, by the library's plain formula."""
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    architecture, n = architecture_of(plain), ids.shape[1]
    cache, logits = new_cache(plain, architecture), []
    maps, raw = (
        [torch.zeros(architecture.n_heads, n, n) if rows else None for rows in architecture.attention] for _ in "12"
    )
    for part in ids.split(list(stretches), 1):
        with Scores(any("sinks" in name for name, _ in plain.named_parameters())) as scores:
            out = plain(input_ids=part, past_key_values=cache, use_cache=True, output_attentions=True)
        end = cache.get_seq_length()
        for kept, found in ((maps, [weights[0] for weights in out.attentions]), (raw, scores.seen)):
            for rows, new in zip(filter(lambda m: m is not None, kept), found, strict=True):
                rows[:, end - part.shape[1] : end, :end] = new
        logits.append(out.logits[0])
    return torch.cat(logits), maps, raw


@torch.inference_mode()
def read(model, ids, cache, stretches):
    """Yield the (n, vocab) logits after each stretch of tokens."""
    for part in ids.split(list(stretches), 1):
        yield model(input_ids=part, past_key_values=cache, use_cache=True).logits[0]


def ask(layer, head, last, n_queries=1, first_key=0, n_keys=N):
    return RowWindow(layer, head, last, n_queries, first_key, n_keys)


def shares(row):
    """What each visible key gets of all that keys get, in double precision."""
    row = row[row > 0].double()
    return row / row.sum()


def measured(rows, scores):
    """Entropies, varentropies, spread, disagreement and interaction strength of (n_heads, n) rows, in plain steps."""
    p = torch.stack([shares(row) for row in rows])
    heads = torch.distributions.Categorical(probs=p).entropy()
    varentropy = (p * (p.log() + heads[:, None]) ** 2).sum(-1)
    variation = torch.stack([(row - p.mean(0)).abs().sum() / 2 for row in p]).mean()
    return heads, varentropy, (heads.var(correction=0), variation, scores[rows > 0].abs().mean())


def test_measures_and_keys_are_those_of_eager_attention_and_the_logits_are_the_models_own(model):
    architecture, ids = architecture_of(model), prompt(N)
    expected_logits, maps, raw = eager(model, ids)
    with attention_instrument(model, architecture, keep=N) as probe:
        end = 0
        for logits in read(model, ids, new_cache(model, architecture), STRETCHES):
            end += len(logits)
            torch.testing.assert_close(logits, expected_logits[end - len(logits) : end], atol=2e-5, rtol=0)
            found, visible = probe.head_statistics(), probe.visible_keys()
            assert found.entropy.shape == found.varentropy.shape == (architecture.n_layers, architecture.n_heads)
            assert found.layers.shape == (architecture.n_layers, len(ATTENTION))
            for layer, rows in enumerate(maps):
                if rows is None:
                    assert visible[layer] is None and all(part[layer].isnan().all() for part in found)
                    continue
                wanted = measured(rows[:, end - 1], raw[layer][:, end - 1])
                for part, expected in zip(found, wanted, strict=True):
                    assert part[layer].tolist() == pytest.approx([e.item() for e in expected], abs=1e-5)
                assert visible[layer] == (rows[0, end - 1] > 0).sum()


def test_the_entropix_aggregates_are_those_of_the_last_layer_over_visible_keys(model):
    architecture, ids = architecture_of(model), prompt(N)
    _, maps, raw = eager(model, ids)
    with attention_instrument(model, architecture, keep=4) as probe:
        list(read(model, ids, new_cache(model, architecture), STRETCHES))
        found = probe.head_statistics()
        step = SimpleNamespace(
            head_entropy=Grid.of(found.entropy), attention=Grid.of(found.layers), visible_keys=probe.visible_keys()
        )
    weights, scores = [(m, r) for m, r in zip(maps, raw, strict=True) if m is not None][-1]
    visible = weights[0, -1] > 0
    a = weights[:, -1, visible].double() / weights[:, -1, visible].double().sum(-1, keepdim=True)
    heads = -(a * a.log()).sum(-1)
    wanted = {
        "attention entropy": heads.mean(),
        "attention varentropy": ((heads - heads.mean()) ** 2).mean(),
        "agreement": (a - a.mean(0)).abs().mean(),
        "interaction strength": scores[:, -1, visible].abs().mean(),
    }
    for name, value in wanted.items():
        assert BY_NAME[f"entropix {name}"].read(step) == pytest.approx(value.item(), abs=1e-5)


def test_layers_measured_apart_give_what_they_give_together(model, monkeypatch):
    architecture, ids = architecture_of(model), prompt(N)
    with attention_instrument(model, architecture, keep=4) as probe:
        for _ in read(model, ids, new_cache(model, architecture), STRETCHES):
            together = probe.head_statistics()
            monkeypatch.setattr(attention, "CACHED_SCORES", 1)
            torch.testing.assert_close(probe.head_statistics(), together, atol=1e-6, rtol=1e-5, equal_nan=True)
            monkeypatch.undo()


def test_decoding_writes_what_the_model_writes_without_a_probe(model):
    architecture, ids = architecture_of(model), prompt(N)
    plain = list(read(model, ids, new_cache(model, architecture), STRETCHES))
    with attention_instrument(model, architecture, keep=N):
        watched = list(read(model, ids, new_cache(model, architecture), STRETCHES))
    torch.testing.assert_close(torch.cat(watched), torch.cat(plain), atol=2e-5, rtol=0)


def test_rows_of_every_layer_head_and_position_are_those_of_eager_attention(model):
    architecture, ids = architecture_of(model), prompt(N)
    _, maps, _ = eager(model, ids)
    with attention_instrument(model, architecture, keep=N) as probe:
        cache = new_cache(model, architecture)
        list(read(model, ids, cache, STRETCHES))
        for layer, expected in enumerate(maps, 1):
            if expected is None:
                answer = probe.rows(cache, ask(layer, 1, N - 1))
                assert answer.unavailable and answer.queries == () and answer.weights.shape == (0, N)
                continue
            for head in (*range(1, architecture.n_heads + 1), None):
                answer = probe.rows(cache, ask(layer, head, N - 1, n_queries=N))
                assert (answer.layer, answer.head) == (layer, head)
                assert answer.queries == tuple(range(N)) and answer.unavailable is None
                rows = expected.mean(0) if head is None else expected[head - 1]
                found = answer.weights.numpy()
                assert np.array_equal(np.isnan(found), (rows == 0).numpy())
                np.testing.assert_allclose(np.nan_to_num(found), rows.numpy(), atol=5e-6)
                assert max(answer.elsewhere) == 0


def test_a_window_of_keys_says_how_much_weight_lies_outside(model):
    architecture, ids = architecture_of(model), prompt(N)
    _, maps, _ = eager(model, ids)
    with attention_instrument(model, architecture, keep=N) as probe:
        cache = new_cache(model, architecture)
        list(read(model, ids, cache, STRETCHES))
        rows = maps[1][0]  # the second block of every family has rows
        answer = probe.rows(cache, ask(2, 1, N - 2, n_queries=2, first_key=N - 4, n_keys=9))
        assert answer.queries == (N - 3, N - 2)
        found = answer.weights.numpy()
        np.testing.assert_allclose(found[1, :3], rows[N - 2, N - 4 : N - 1], atol=5e-6)
        assert np.isnan(found[1, 3:]).all() and np.isnan(found[0, 2:]).all()
        assert answer.elsewhere == pytest.approx(rows[[N - 3, N - 2], : N - 4].sum(-1).tolist(), abs=2e-6)
        beyond = probe.rows(cache, ask(2, 1, N - 1, first_key=N + 5, n_keys=3))
        assert np.isnan(beyond.weights.numpy()).all()


def test_a_sink_takes_its_part_of_a_row_but_not_of_its_entropy():
    model, ids = gpt_oss(), prompt(N)
    with attention_instrument(model, architecture_of(model), keep=N) as probe:
        cache = new_cache(model, architecture_of(model))
        list(read(model, ids, cache, (N,)))
        row = probe.rows(cache, ask(2, 3, N - 1)).weights.numpy()[0]
        assert row.sum() < 0.99
        p = row / row.sum()
        assert probe.head_statistics().entropy[1, 2].item() == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)


def test_only_the_newest_queries_are_kept_and_their_bytes_counted():
    model, ids = llama(), prompt(N)
    architecture = architecture_of(model)
    with attention_instrument(model, architecture, keep=4) as probe:
        cache = new_cache(model, architecture)
        for logits in read(model, ids, cache, STRETCHES):
            assert len(logits) and probe.kept_bytes == 4 * 4 * 4 * 8 * 4  # rows, layers, heads, width, float32
        answer = probe.rows(cache, ask(1, None, N - 1, n_queries=9))
        assert answer.queries == tuple(range(N - 4, N))
        assert probe.rows(cache, ask(1, None, 3)).unavailable
        probe.forget()
        assert probe.kept_bytes == 0 and probe.rows(cache, ask(1, None, N - 1)).unavailable


@pytest.mark.parametrize("stretches", [(8, 5), (8, 1, 1, 1, 1, 1), (2, 7, 1, 1)])
@pytest.mark.parametrize("back", [0, 2])
def test_of_a_stretch_that_is_mostly_dropped_only_what_is_kept_stays_in_memory(stretches, back):
    model, keep, n = llama(), 6, sum(stretches)
    architecture, ids = architecture_of(model), prompt(n)
    _, maps, _ = eager(model, ids, stretches)
    with attention_instrument(model, architecture, keep) as probe:
        cache = new_cache(model, architecture)
        list(read(model, ids, cache, stretches))
        if back:
            cache.crop(-back)
            list(read(model, ids[:, -back:], cache, (1,) * back))
        answer = probe.rows(cache, ask(2, 3, n - 1, n_queries=n, n_keys=n))
        assert answer.queries[-1] == n - 1 and len(answer.queries) >= keep - back
        expected = maps[1][2].numpy()[list(answer.queries)]
        np.testing.assert_allclose(np.nan_to_num(answer.weights.numpy()), expected, atol=5e-6)
        held = {
            query.untyped_storage()
            for queries, _ in probe.attention_state.kept.values()
            for query in queries.values()
        }
        blocks = {block.data_ptr(): block.nbytes() for block in held}
        assert sum(blocks.values()) <= 1.5 * probe.kept_bytes


def test_after_a_step_back_the_rows_are_of_the_tokens_that_are_there_now():
    model, ids, other = gemma3(), prompt(N), prompt(N, seed=9)
    architecture = architecture_of(model)
    now = torch.cat([ids[:, :14], other[:, 14:20]], 1)
    _, maps, _ = eager(model, now, (20,))
    with attention_instrument(model, architecture, keep=N) as probe:
        cache = new_cache(model, architecture)
        list(read(model, ids, cache, (10, *[1] * (N - 10))))
        cache.crop(14 - N)
        assert probe.rows(cache, ask(1, 1, N - 1, n_queries=N)).queries == tuple(range(14))
        list(read(model, now[:, 14:], cache, (3, 1, 1, 1)))
        assert probe.kept_bytes == 20 * 4 * 4 * 8 * 4  # rows, layers, heads, width, float32
        for layer in (1, 2):
            answer = probe.rows(cache, ask(layer, 2, N, n_queries=N + 1))
            assert answer.queries == tuple(range(20))
            np.testing.assert_allclose(
                np.nan_to_num(answer.weights.numpy())[:, :20], maps[layer - 1][1].numpy(), atol=5e-6
            )


def test_the_first_sequence_of_a_batch_is_the_one_measured(model):
    architecture, ids = architecture_of(model), prompt(N)
    with attention_instrument(model, architecture, keep=N) as probe:
        logits = torch.cat(list(read(model, ids, new_cache(model, architecture), STRETCHES)))
        alone = probe.head_statistics().entropy
        cache, both = new_cache(model, architecture), torch.cat([ids, prompt(N, seed=5)])
        beside = torch.cat(list(read(model, both, cache, STRETCHES)))
        torch.testing.assert_close(beside, logits, atol=5e-5, rtol=0)
        torch.testing.assert_close(probe.head_statistics().entropy, alone, atol=1e-5, rtol=1e-5, equal_nan=True)
        row = probe.rows(cache, ask(2, 1, N - 1)).weights.numpy()[0].astype(np.float64)
        p = row[row > 0] / row[row > 0].sum()
        assert alone[1, 0].item() == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)


def test_a_cache_that_slides_gives_the_rows_whose_keys_it_still_has():
    model, ids = gemma3(), prompt(N)
    _, maps, _ = eager(model, ids)
    with attention_instrument(model, architecture_of(model), keep=N) as probe:
        cache = DynamicCache(config=model.config)
        list(read(model, ids, cache, (N - 3, 1, 1, 1)))
        assert probe.visible_keys() == (WINDOW, N, WINDOW, N)
        for layer, queries in ((1, (N - 1,)), (2, tuple(range(N)))):
            answer = probe.rows(cache, ask(layer, 1, N - 1, n_queries=N))
            assert answer.queries == queries
            np.testing.assert_allclose(
                np.nan_to_num(answer.weights.numpy()), maps[layer - 1][0, list(queries)].numpy(), atol=5e-6
            )
        p = [shares(row) for row in maps[0][:, N - 1]]
        assert probe.head_statistics().entropy[0].tolist() == pytest.approx(
            [-(q * q.log()).sum().item() for q in p], abs=1e-5
        )


class Largest(TorchDispatchMode):
    """The largest floating-point tensor that any operation put out, in numbers."""

    numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self.numbers = max(self.numbers, tensor.numel())
        return out


@pytest.mark.parametrize("build", [llama, gemma2, gpt_oss])
def test_no_matrix_of_queries_by_keys_is_built_and_stretches_make_no_difference(build, monkeypatch):
    model, n = build(), 200
    architecture, ids = architecture_of(model), prompt(n)
    expected, *_ = eager(model, ids, (150, n - 150))
    monkeypatch.setattr(attention_functions, "EAGER_SCORES", architecture.n_heads * n * 7)
    with attention_instrument(model, architecture, keep=8) as probe, Largest() as largest:
        logits = torch.cat(list(read(model, ids, new_cache(model, architecture), (150, n - 150))))
        probe.head_statistics()
    torch.testing.assert_close(logits, expected, atol=5e-5, rtol=0)
    assert largest.numbers < n * n


def test_what_the_model_does_not_have_is_refused_in_words():
    model = llama()
    architecture = architecture_of(model)
    with attention_instrument(model, architecture, keep=4) as probe:
        cache = new_cache(model, architecture)
        assert "nothing" in (probe.rows(cache, ask(1, 1, 0)).unavailable or "")
        list(read(model, prompt(3), cache, (3,)))
        assert "block 9" in (probe.rows(cache, ask(9, 1, 2)).unavailable or "")
        assert "head 9" in (probe.rows(cache, ask(1, 9, 2)).unavailable or "")


def test_two_models_are_watched_at_once_without_mixing_and_left_as_they_were_found():
    first, second, ids = llama(), gpt_oss(), prompt(N)
    alone = []
    for model in (first, second):
        with attention_instrument(model, architecture_of(model), keep=4) as probe:
            list(read(model, ids, new_cache(model, architecture_of(model)), (N,)))
            alone.append(probe.head_statistics().entropy)
    with attention_instrument(first, architecture_of(first), keep=4) as one:
        with attention_instrument(second, architecture_of(second), keep=4) as two:
            for model in (first, second):
                list(read(model, ids, new_cache(model, architecture_of(model)), (N,)))
            assert torch.equal(one.head_statistics().entropy, alone[0]) and torch.equal(
                two.head_statistics().entropy, alone[1]
            )
        assert second.config._attn_implementation == "eager"
        list(read(first, ids, new_cache(first, architecture_of(first)), (N,)))
        assert torch.equal(one.head_statistics().entropy, alone[0])
    assert first.config._attn_implementation == "sdpa"
    assert not first._forward_pre_hooks


def test_a_closed_probe_does_not_keep_the_model_alive():
    model = llama()
    with attention_instrument(model, architecture_of(model), keep=4):
        list(read(model, prompt(4), new_cache(model, architecture_of(model)), (4,)))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_an_error_inside_still_puts_the_attention_back():
    model = gpt_oss()
    with pytest.raises(KeyError), attention_instrument(model, architecture_of(model), keep=4):
        raise KeyError
    assert model.config._attn_implementation == "eager"


def test_half_precision_rows_are_worked_on_in_float32():
    model, ids = llama().bfloat16(), prompt(N)
    architecture = architecture_of(model)
    with attention_instrument(model, architecture, keep=N) as probe:
        cache = new_cache(model, architecture)
        list(read(model, ids, cache, STRETCHES))
        row = probe.rows(cache, ask(1, 1, N - 1)).weights.numpy()[0].astype(np.float64)
        assert row.sum() == pytest.approx(1, abs=1e-6)  # bfloat16 would round to 3 digits
        assert probe.head_statistics().entropy[0, 0].item() == pytest.approx(-(row * np.log(row)).sum(), abs=1e-5)
