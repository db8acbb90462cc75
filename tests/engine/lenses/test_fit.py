"""A fitted lens is the least-squares map to what the last block puts out, and is judged by held-out text."""

import numpy as np
import pytest
import small
import tiny
import torch

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decomposition.residual_stream import watching_stream
from tui_entropy.engine.lenses import fit as fitting
from tui_entropy.engine.lenses.fit import fit

LOADED = small.loaded()
IDS = torch.randint(3, 96, (4000,), generator=torch.Generator().manual_seed(2)).tolist()


def stream(ids):
    """(layers, n, d) of a stretch, without its first tokens."""
    n = len(ids) - 16
    with torch.inference_mode(), watching_stream(LOADED.architecture, n) as watch:
        LOADED.model(input_ids=torch.tensor([ids]))
        return watch.stream().double().numpy()


@pytest.fixture(scope="module")
def fitted():
    told = []
    return fit(LOADED, IDS, lambda stage, done, total: told.append(stage)), told


def test_without_a_ridge_it_is_the_weighted_least_squares_of_numpy(monkeypatch):
    monkeypatch.setattr(fitting, "RIDGES", (1e-12,))
    found = fit(LOADED, IDS[:1280], lambda *told: None)
    parts = [stream(IDS[first : first + 256]) for first in range(0, 1024, 256)]  # its context has 256 tokens
    whole = np.concatenate(parts, 1)
    last = whole[-1]
    weight = 1 / np.sqrt((last**2).mean(-1, keepdims=True))
    for layer in (0, 2, 3):
        with_one = np.concatenate([whole[layer], np.ones_like(last[:, :1])], -1)
        wanted = np.linalg.lstsq(with_one * weight, last * weight, rcond=None)[0]
        matrix, bias = found.lens.maps[layer]
        if layer:  # tokens have fewer embeddings than numbers would need to be told apart
            np.testing.assert_allclose(matrix.numpy(), wanted[:-1].T, atol=2e-3)
            np.testing.assert_allclose(bias.numpy(), wanted[-1], atol=2e-3)
        mapped = whole[layer] @ matrix.numpy().T + bias.numpy()
        assert ((mapped - last) ** 2 * weight**2).mean() <= (
            (with_one @ wanted - last) ** 2 * weight**2
        ).mean() * 1.001


def test_its_report_is_of_text_that_it_was_not_fitted_to_and_beside_the_logit_lens(fitted):
    found, told = fitted
    assert [one.layer for one in found.layers] == [0, 1, 2, 3]
    assert all(0 <= one.fitted < one.plain for one in found.layers)
    assert set(told) == {"reading the text", "fitting layers", "comparing on held-out text"}
    assert found.n_held_out == sum(len(IDS[first : first + 256][16:]) for first in range(3600, 4000, 256))
    parts = [stream(IDS[first : min(first + 256, 4000)]) for first in (3600, 3856)]
    whole = torch.tensor(np.concatenate(parts, 1)).float()
    norm, head = LOADED.architecture.final_norm, LOADED.model.lm_head
    with torch.inference_mode():
        final, plain = (head(norm(whole[layer])).log_softmax(-1) for layer in (4, 2))
        mapped = head(norm(found.lens(2, whole[2]))).log_softmax(-1)
    kl = [float((final.exp() * (final - one)).sum(-1).mean()) for one in (mapped, plain)]
    assert [found.layers[2].fitted, found.layers[2].plain] == pytest.approx(kl, rel=1e-3)


def test_what_it_learns_does_not_hang_on_the_held_out_text(fitted):
    other = fit(LOADED, [*IDS[:3600], *IDS[:400]], lambda *told: None)
    for layer in range(4):
        assert torch.equal(other.lens.maps[layer].weight, fitted[0].lens.maps[layer].weight)
    assert other.layers != fitted[0].layers


def test_a_text_of_few_tokens_is_refused_in_a_sentence():
    with pytest.raises(UserError, match="the text has 100 tokens"):
        fit(LOADED, IDS[:100], lambda *told: None)


def test_a_model_of_several_streams_and_one_that_there_is_no_memory_for_are_refused(monkeypatch):
    monkeypatch.setitem(tiny.FAMILIES, "gemma3n", tiny.gemma3n)
    with pytest.raises(UserError, match="4 residual streams side by side"):
        fit(small.loaded("gemma3n"), IDS, lambda *told: None)
    monkeypatch.setattr(fitting, "free_bytes", lambda device: 1000)
    with pytest.raises(UserError, match=r"GB beside the model, and 0\.0 GB are free"):
        fit(LOADED, IDS, lambda *told: None)
