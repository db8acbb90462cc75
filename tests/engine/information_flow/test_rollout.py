"""Attention rollout and attention flow, by hand on three tokens and against matrix products and another solver."""

import numpy as np
import probed
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

from tui_entropy.engine.information_flow import attention_maps, rollout
from tui_entropy.engine.information_flow.attention_maps import first_aside
from tui_entropy.engine.information_flow.max_flow import max_flows
from tui_entropy.engine.information_flow.rollout import capacities, through_block
from tui_entropy.engine.instruments.attention_functions import eager
from tui_entropy.engine.probes.library.attention import attention_rollout
from tui_entropy.engine.verify.checks.attention import eager_maps
from tui_entropy.records.probes.panels import Note, Table, TintedText

NAME = "attention-rollout"
FAMILIES = (
    "llama", "mistral", "gemma2", "gemma3_text", "qwen3", "olmo2", "olmo3", "granite", "cohere", "phi", "gpt_neox",
    "mixtral", "gpt_oss", "stablelm", "starcoder2", "opt", "gpt2", "glm4",
)  # fmt: skip
CANNOT = {
    "bloom": "no attention rows", "falcon": "no attention rows", "mamba": "no attention rows",
    "qwen3_5_text": "no attention rows", "jamba": "no attention rows", "deepseek_v3": "keys compressed",
}  # fmt: skip
FIRST = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
SECOND = torch.tensor([[1.0, 0, 0], [0.1, 0.9, 0], [0.4, 0.4, 0.2]])


class Maps:
    """Attention of two blocks over three tokens."""

    def means(self, block, queries):
        for query in queries:
            yield query[None], (FIRST, SECOND)[block - 1][query : query + 1, : int(query) + 1]


def through_both(residual, aside):
    shares = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    for block in (2, 1):
        shares = through_block(shares, Maps(), block, residual, aside)
    return shares.tolist()


def test_rollout_of_three_tokens_is_what_one_works_out_by_hand():
    # behind block 2 the last token is 0.2, 0.2, 0.6 of the three; of these block 1 has 1, 0, 0 / 0.25, 0.75, 0 /
    # 0.1, 0.15, 0.75
    assert through_both(0.5, aside=False) == pytest.approx([0.2 + 0.05 + 0.06, 0.15 + 0.09, 0.45])
    # without the first: 0, 1/3, 2/3 behind block 2, then 0, 1, 0 and 0, 3/16, 13/16
    assert through_both(0.5, aside=True) == pytest.approx([0, 1 / 3 + 2 / 3 * 3 / 16, 2 / 3 * 13 / 16])
    assert through_both(0.9, aside=False)[2] == pytest.approx((0.9 + 0.1 * 0.2) * (0.9 + 0.1 * 0.5))


def test_flow_of_three_tokens_is_what_one_works_out_by_hand():
    matrices = [capacities(Maps(), block, 0, 3, 0.5, False)[1:, 1:].numpy() for block in (1, 2)]
    # to the last one: through itself alone, 0.6 and then 0.75 wide; to the second: 0.2 of itself, which 0.75 lets
    # through, and of the last, which has 0.6, the 0.15 that it has of it; to the first: 0.2 + 0.2 + 0.1
    assert max_flows(matrices, lambda done, of: None) == pytest.approx([0.2 + 0.2 + 0.1, 0.2 + 0.15, 0.6], abs=1e-6)


def test_text_before_a_window_is_one_token_that_keeps_what_it_gets():
    matrix = capacities(Maps(), 1, 2, 3, 0.5, False)
    torch.testing.assert_close(matrix.float(), torch.tensor([[1.0, 0], [0.25, 0.75]]))


def test_flow_is_what_another_solver_finds():
    rng, n = np.random.default_rng(0), 7
    matrices = [np.tril(rng.random((n, n)) ** 4) for _ in range(4)]
    matrices = [matrix / matrix.sum(1, keepdims=True) for matrix in matrices]
    of_graph = np.zeros((5 * n, 5 * n), dtype=np.int32)
    for block, matrix in enumerate(matrices):
        of_graph[(block + 1) * n : (block + 2) * n, block * n : (block + 1) * n] = matrix * 2**28
    graph = csr_matrix(of_graph)
    expected = [maximum_flow(graph, 5 * n - 1, token).flow_value / 2**28 for token in range(n)]
    assert max_flows(matrices, lambda done, of: None) == pytest.approx(expected, abs=1e-6)


def test_the_first_token_is_set_aside_but_where_nothing_else_is_seen():
    rows = torch.tensor([[1.0, 0, 0], [0.6, 0.4, 0], [1.0, 0, 0]])
    kept = first_aside(rows, torch.tensor([0, 1, 2]))
    assert kept.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


@pytest.fixture(scope="module")
def llama():
    with probed.written(probed.of_family("llama")) as session:
        yield session


def naive(session, aside, residual=0.5):
    """All matrices multiplied with each other, as the model's own eager formula has them."""
    loaded, sequence = session.state.loaded, session.state.run_of(1).sequence
    ids = sequence.ids[: sequence.n_tokens - 1].clone()
    with torch.inference_mode(), eager(loaded.architecture.decoder):
        maps = eager_maps(loaded, ids)
    product = torch.eye(len(ids), dtype=torch.float64)
    for block in range(loaded.architecture.n_layers):
        mean = maps[block].double()
        mean = (mean / mean.sum(-1, keepdim=True)).mean(0)
        if aside:
            mean[1:, 0] = 0
            mean /= mean.sum(-1, keepdim=True)
        product = (residual * torch.eye(len(ids)) + (1 - residual) * mean) @ product
    return product[-1].numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_rollout_is_the_product_of_the_matrices_of_every_family(family, monkeypatch):
    monkeypatch.setattr(attention_rollout, "QUERY_BYTES", 4 * 4 * 8 * 24)  # of a block at a time
    monkeypatch.setattr(attention_maps, "TOGETHER", 24)  # and of a query
    with probed.written(probed.of_family(family)) as session:
        for first in ("aside", "kept"):
            note, tint, table = probed.asked(session, NAME, first=first, k=3).panels
            assert isinstance(note, Note) and isinstance(tint, TintedText) and isinstance(table, Table)
            expected = naive(session, first == "aside")
            np.testing.assert_allclose(tint.values, expected, atol=1e-5)
            assert sum(tint.values) == pytest.approx(1, abs=1e-6)
            assert [row[1] for row in table.rows] == sorted(range(len(expected)), key=lambda n: -tint.values[n])[:3]


@pytest.mark.parametrize("family", CANNOT)
def test_a_model_whose_attention_cannot_be_followed_says_why(family):
    with probed.written(probed.of_family(family)) as session:
        told = probed.asked(session, NAME)
    assert not told.panels and CANNOT[family] in told.unavailable


def test_flow_tells_tokens_of_a_window_apart_and_what_is_before_it(llama):
    note, tint, table = probed.asked(llama, NAME, method="flow", window=4, k=2).panels
    n = llama.state.run_of(1).sequence.n_tokens - 1
    assert tint.positions == tuple(range(n - 4, n)) and "the text before these" in note.text
    assert all(0 <= value <= 1 for value in tint.values) and len(table.rows) == 2
    note, tint, _ = probed.asked(llama, NAME, method="flow").panels
    assert tint.positions == tuple(range(n)) and "before these" not in note.text


def test_fewer_blocks_leave_more_with_the_token_itself(llama):
    one, all_blocks = (probed.asked(llama, NAME, blocks=blocks).panels[1].values for blocks in (1, None))
    assert one[-1] > 0.5 > all_blocks[-1] > 0.5**4


def test_doctor_sees_a_block_taken_for_the_next(llama, monkeypatch):
    assert max(differences(llama)) <= 1
    honest = rollout.through_block
    monkeypatch.setattr(
        attention_rollout,
        "through_block",
        lambda shares, maps, block, *more: honest(shares, maps, block % 4 + 1, *more),
    )
    assert max(differences(llama)) > 10


def differences(session):
    return probed.doctored(session, attention_rollout.PROBE)
