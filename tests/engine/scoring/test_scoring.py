"""Texts scored in batches, against what a session says of each of them token by token, and against plain passes."""

from __future__ import annotations

from dataclasses import replace

import families
import numpy as np
import pytest
import small
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.instruments import prompt_scores
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.scoring import layers
from tui_entropy.engine.scoring.batches import MAX_PADDING, batches
from tui_entropy.engine.scoring.passage import Passage, left_to_right, windows
from tui_entropy.engine.scoring.predictions import drawn, likeliest
from tui_entropy.engine.scoring.scorer import Wanted, score, score_batch
from tui_entropy.engine.scoring.texts import score_texts
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.steering.plan import offsets_by_token
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.metrics.registry import BY_FIELD, SCORES
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

FAMILIES = (
    "llama", "gpt2", "gemma2", "gemma3_text", "gemma3n_text", "gpt_oss", "qwen3_5_text", "mixtral", "mistral",
    "mamba", "olmo2", "granite", "falcon", "deepseek_v3", "jamba", "bloom", "openai-gpt", "opt", "bigbird_pegasus",
)  # fmt: skip
EVERYTHING = Wanted(lens=tuple(BY_FIELD[name] for name in SCORES), attention=True, hidden=True, predict=likeliest(3))
LENGTHS = (13, 19, 12, 14, 19, 3)
NEAR = dict(atol=3e-4, rtol=3e-4)


def made(family):
    model = families.built(family) if family in families.families() else tiny.FAMILIES[family]()
    tokenizer = Tokenizer(small.tokenizer(tiny.VOCAB))
    return small.endless(Loaded(model, tokenizer, architecture_of(model), small.card(model)))


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request):
    return made(request.param)


@pytest.fixture(scope="module")
def llama():
    return made("llama")


def passages(lengths=LENGTHS):
    return [left_to_right(tiny.prompt(n, seed=n + at)[0].tolist()) for at, n in enumerate(lengths)]


def steps_of(loaded, ids, offsets=None):
    """What a session says of each token, read one by one."""
    loaded = replace(loaded, architecture=replace(loaded.architecture, in_stretches=False))
    with open_instruments(loaded) as instruments:
        sequence = TokenSequence(loaded, list(ids[:1]), len(ids) - 1)
        sequence.forced = list(ids[1:])
        events = decode(loaded, instruments, sequence, lambda: Controls(Knobs(temperature=0), offsets or {}))
        return [event for event in events if isinstance(event, Step)]


def same_as_steps(found, steps, n_streams=1):
    numbers = np.array([[BY_FIELD[name].read(step) for name in SCORES] for step in steps], dtype=float)
    np.testing.assert_allclose(found.scores, numbers, **NEAR)
    heads = np.array([step.head_entropy.numpy() for step in steps]).mean(-1).T
    np.testing.assert_allclose(found.layers.attention, heads, **NEAR)
    blocks = np.array([step.blocks.numpy() for step in steps]).swapaxes(0, 1)
    n = len(blocks) - (n_streams > 1)  # of several streams the last layer is what is made of them all
    np.testing.assert_allclose(found.layers.hidden[1 : n + 1], blocks[:n], atol=1e-3, rtol=1e-3)


def test_a_text_in_a_batch_has_the_numbers_of_its_steps(loaded):
    texts = passages()
    found = list(score(loaded, texts, EVERYTHING, together=together_of(loaded)))
    for at in (0, 1, 5):
        same_as_steps(found[at], steps_of(loaded, texts[at].ids), loaded.architecture.n_streams)
    for one in found:  # the last layer is the model's own
        np.testing.assert_allclose(one.layers.lens[-1], one.scores, **NEAR)


@torch.inference_mode()
def test_a_layer_says_what_its_hidden_state_says_through_norm_and_head(loaded):
    text = passages()[1]
    (found,) = score_batch(loaded, [text], EVERYTHING)
    out = loaded.model(input_ids=torch.tensor([text.ids]), output_hidden_states=True, use_cache=False)
    hidden = out.hidden_states or ()
    if loaded.architecture.n_streams > 1 or len(hidden) != loaded.architecture.n_layers + 1:
        pytest.skip("this family tells no hidden state for each layer")
    if torch.allclose(loaded.architecture.final_norm(hidden[-2]), hidden[-1], atol=1e-4):
        pytest.skip("this family tells what each block puts out, and no embedding")
    for layer in range(loaded.architecture.n_layers):  # the last one is told behind its norm
        normed = loaded.architecture.final_norm(hidden[layer])
        head = loaded.architecture.unembedding(normed)
        scale = out.logits[0, -1] / loaded.architecture.unembedding(hidden[-1])[0, -1]
        cap = getattr(loaded.model.config, "final_logit_softcapping", None)
        head = cap * torch.tanh(head / cap) if cap else head * scale.median()
        logp = head[0, :-1].double().log_softmax(-1)
        surprisal = -logp[range(len(text.targets)), list(text.targets)]
        entropy = torch.special.entr(logp.exp()).sum(-1)
        expected = torch.stack([entropy, surprisal], -1)
        actual = found.layers.lens[layer][:, [SCORES.index("entropy"), SCORES.index("surprisal")]]
        np.testing.assert_allclose(actual, expected, **NEAR)


def test_company_and_padding_change_nothing(loaded):
    texts = passages()
    beside = list(score(loaded, texts, EVERYTHING, together=together_of(loaded)))
    alone = [score_batch(loaded, [text], EVERYTHING)[0] for text in texts]
    for one, other in zip(beside, alone, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, **NEAR)
        for name in ("lens", "attention", "hidden"):
            tables = [getattr(found.layers, name) for found in (one, other)]
            np.testing.assert_allclose(*tables, atol=2e-3, rtol=1e-3)
        ids = [[token for token, _ in found.predictions] for found in (one, other)]
        assert ids[0] == ids[1] and len(ids[0]) == 3


def test_steering_acts_as_in_a_run(loaded):
    texts = passages((14, 12, 13))
    blocks = {
        2: torch.linspace(-1, 1, loaded.architecture.d_model),
        4: torch.full((loaded.architecture.d_model,), 0.3),
    }
    if loaded.architecture.n_streams > 1:
        pytest.skip("vectors are added to all streams alike, and the same is measured elsewhere")
    steered = list(score(loaded, texts, EVERYTHING, lambda text: blocks, together=together_of(loaded)))
    plain = list(score(loaded, texts, EVERYTHING, together=together_of(loaded)))
    same_as_steps(steered[0], steps_of(loaded, texts[0].ids, blocks))
    assert all(
        float((one.scores - other.scores).abs().max()) > 0.01 for one, other in zip(steered, plain, strict=True)
    )


def test_each_token_of_each_text_can_have_an_offset_of_its_own(llama):
    texts = passages((14, 12, 13))
    push = torch.linspace(-1, 1, 32)

    def offsets(text):
        return offsets_by_token([{3: push * (at + 1)} for at in range(len(text))])

    found = list(score(llama, texts, EVERYTHING, offsets))
    for text, its in zip(texts, found, strict=True):
        (alone,) = score_batch(llama, [text], EVERYTHING, offsets)
        np.testing.assert_allclose(its.scores, alone.scores, **NEAR)
        hidden = score_batch(llama, [text], EVERYTHING)[0]
        assert torch.equal(alone.layers.hidden[2], hidden.layers.hidden[2])
        assert not torch.allclose(alone.layers.hidden[3], hidden.layers.hidden[3], atol=1e-2)
    assert not any(block._forward_hooks for block in llama.architecture.blocks)


@torch.inference_mode()
def test_no_matrix_of_all_logits_is_made(llama, monkeypatch):
    for room in (prompt_scores, layers):
        monkeypatch.setattr(room, "SLICE_BYTES", 8 * tiny.VOCAB * 4)
    made = []
    hook = llama.architecture.unembedding.register_forward_hook(lambda module, args, out: made.append(out.numel()))
    list(score(llama, passages(), EVERYTHING))
    hook.remove()
    n_batches = len(batches(passages(), "padded"))
    rows = [n // tiny.VOCAB for n in made]
    assert max(rows) <= 8 and sum(rows) == (4 + 1) * sum(n - 1 for n in LENGTHS) + 2 * len(LENGTHS)
    assert n_batches < len(LENGTHS)


@given(
    st.lists(st.integers(1, 300), max_size=60), st.integers(10, 600), st.sampled_from(["padded", "equal", "alone"])
)
def test_batches_hold_each_passage_once_and_little_padding(lengths, most, together):
    texts = [Passage(range(n), (), ()) for n in lengths]
    found = batches(texts, together, most)
    assert sorted(at for batch in found for at in batch) == list(range(len(texts)))
    for batch in found:
        sizes = [lengths[at] for at in batch]
        padded = max(sizes) * len(sizes)
        assert len(batch) == 1 or padded <= most
        assert padded - sum(sizes) <= MAX_PADDING * padded
        assert together != "equal" or len(set(sizes)) == 1
        assert together != "alone" or len(sizes) == 1


@given(st.integers(2, 200), st.integers(2, 50), st.data())
def test_windows_score_each_token_once_with_what_is_before_it(n, width, data):
    stride = data.draw(st.integers(1, width - 1))
    found = list(windows(n, width, stride))
    assert [at for _, first, end in found for at in range(first, end)] == list(range(1, n))
    for begin, first, end in found:
        assert 0 <= begin < first < end <= begin + width
        assert begin == 0 or first - begin >= width - stride


def test_a_model_that_reads_a_padded_text_otherwise_is_read_one_by_one(monkeypatch):
    loaded = made("mamba")
    assert together_of(loaded) == "padded"
    block = loaded.architecture.blocks[1]
    hook = block.register_forward_hook(lambda module, args, out: out + out.mean((0, 1)))
    try:
        assert together_of(loaded) == "alone"
    finally:
        hook.remove()


def test_what_is_drawn_follows_from_the_seed_and_the_place(llama):
    texts = passages((9, 9, 12))
    ways = [[one.predictions for one in score(llama, texts, Wanted(predict=drawn(seed)))] for seed in (1, 1, 2)]
    assert ways[0] == ways[1] != ways[2]
    assert all(len(one) == 1 and 0 < one[0][1] <= 1 for one in ways[0])


def test_temperature_divides_the_logits_of_every_layer(llama):
    (text,) = passages((15,))
    cold, warm = (score_batch(llama, [text], changed_wanted(t))[0] for t in (0.5, 2.0))
    entropy = SCORES.index("entropy")
    assert bool((cold.layers.lens[..., entropy] < warm.layers.lens[..., entropy]).all())
    margin = SCORES.index("logit_margin")
    np.testing.assert_allclose(cold.scores[:, margin], 4 * warm.scores[:, margin], rtol=1e-3)


def changed_wanted(temperature):
    return replace(EVERYTHING, temperature=temperature)


def test_texts_that_cannot_be_scored_are_told(llama):
    for text, words in (("", "one token at most"), ("x" * 300, "301 tokens|300 tokens")):
        with pytest.raises(UserError, match=words):
            list(score_texts(replace(llama, card=changed(llama.card, context=256)), ["some_text", text]))
    with pytest.raises(UserError, match="NaN"):
        broken = made("llama")
        with torch.no_grad():
            broken.architecture.unembedding.weight[5] = torch.nan
        list(score_texts(broken, ["some_text"]))


def test_a_record_has_what_was_found(llama):
    texts = ["a_text", "another_one_of_them"]
    records = list(score_texts(llama, texts, EVERYTHING))
    assert [b"".join(token.token_bytes for token in one.tokens) for one in records] == [
        text.encode() for text in texts
    ]
    for one in records:
        n = len(one.tokens) - 1
        assert one.scored == tuple(range(1, n + 1)) and one.scores.shape == (n, len(SCORES))
        assert one.layers.lens.shape == (5, n, len(SCORES)) and one.layers.names == SCORES
        assert one.layers.attention_entropy.shape == (4, n) and one.layers.hidden.shape == (5, n, 3)
        assert one.log_likelihood == pytest.approx(-sum(one.column("surprisal")))
        assert len(one.predictions) == 3
    assert next(score_texts(llama, texts)).layers is None


@pytest.mark.real
def test_the_default_model_scores_english_as_it_reads_it():
    loaded = small.endless(load(ModelSpec("smollm2"), lambda progress: None))
    texts = ["The capital of France is Paris.", "Colourless green ideas sleep furiously, said the linguist."]
    for text, found in zip(texts, score_texts(loaded, texts, EVERYTHING), strict=True):
        ids = loaded.tokenizer.encode(text, None, False)
        steps = steps_of(loaded, ids)
        numbers = [[BY_FIELD[name].read(step) for name in SCORES] for step in steps]
        np.testing.assert_allclose(found.scores.numpy(), numbers, atol=2e-3, rtol=1e-3)
        heads = np.array([step.head_entropy.numpy() for step in steps]).mean(-1).T
        np.testing.assert_allclose(found.layers.attention_entropy.numpy(), heads, atol=1e-3)
        surprisal = found.layers.lens.numpy()[..., SCORES.index("surprisal")].mean(-1)
        assert surprisal[-1] < 0.5 * surprisal[:20].min()  # what comes next is known in the last blocks only
