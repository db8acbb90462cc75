"""The flow of a token: by hand on three tokens, summing to 1 in every row, on models of many families."""

import numpy as np
import probed
import pytest
import torch

from tui_entropy.engine.decomposition.block_parts import watching_blocks
from tui_entropy.engine.information_flow import block_flow
from tui_entropy.engine.information_flow.block_flow import BlockFlow, flow, shown_layers
from tui_entropy.engine.information_flow.contributions import attention_routes, heard_heads, routes
from tui_entropy.engine.probes.library.stream import flow as library
from tui_entropy.records.commands import Write
from tui_entropy.records.probes.panels import Flow, Note, Table
from tui_entropy.records.sampling import Knobs

NAME = "flow"
FAMILIES = (
    "llama", "mistral", "gemma2", "gemma3_text", "qwen3", "olmo2", "olmo3", "granite", "cohere", "phi", "gpt_neox",
    "mixtral", "gpt_oss", "stablelm", "starcoder2", "opt", "gpt2", "glm4",
)  # fmt: skip
CANNOT = {
    "bloom": "no attention rows", "falcon": "no attention rows", "mamba": "no attention rows",
    "qwen3_5_text": "no attention rows", "jamba": "no attention rows", "deepseek_v3": "keys compressed",
    "gemma3n_text": "several side by side", "bert": "normed or mixed",
}  # fmt: skip
SOURCES = torch.tensor([[0.0, 1, 0, 0], [0.0, 0.5, 0.5, 0], [0.2, 0.2, 0.2, 0.4]])


def block(attention, feed_forward):
    return BlockFlow(torch.full((3,), attention), torch.full((3,), feed_forward), SOURCES)


def of_two(ends, layers=(2, 1, 0)):
    return flow([block(0.5, 0.25), block(0.1, 0.5)], torch.tensor([0.0, 0.0, 1.0]), layers, ends)


def test_what_flows_is_what_one_works_out_by_hand():
    through = of_two(ends=False)
    assert through.shares[1].tolist() == pytest.approx([0.02, 0.02, 0.02, 0.9 + 0.04])
    last = 0.94 * 0.5
    assert through.shares[2].tolist() == pytest.approx(
        [0.02 + last * 0.2, 0.02 + 0.02 * 0.25 + last * 0.2, 0.02 * 0.75 + last * 0.2, last + last * 0.4]
    )
    assert through.mix[0] == pytest.approx((0.5 * 0.9, 0.5 * 0.1, 0.5))
    ends = of_two(ends=True)
    assert ends.ended == pytest.approx((0, 0.5, 1 - float(ends.shares[2].sum())))
    assert ends.shares[1].tolist() == pytest.approx([0.01, 0.01, 0.01, 0.47])


def test_layers_between_two_rows_are_added_up():
    one, both = of_two(ends=False, layers=(2, 0)), of_two(ends=False)
    torch.testing.assert_close(one.shares[1], both.shares[2])
    torch.testing.assert_close(one.edges[0].sum(0), one.shares[1])
    assert shown_layers(30, 8)[0] == 30 and shown_layers(30, 8)[-1] == 0 and len(shown_layers(30, 8)) == 9
    assert shown_layers(4, 99) == (4, 3, 2, 1, 0)


def test_routes_count_by_how_much_shorter_the_sum_is_without_a_part():
    whole, parts = torch.tensor([3.0, 1.0]), torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    assert routes(whole, parts).tolist() == pytest.approx([2, 2, 1e-5])


@pytest.fixture(scope="module", params=FAMILIES)
def session(request):
    with probed.written(probed.of_family(request.param)) as session:
        yield session


@pytest.fixture(scope="module")
def llama():
    with probed.written(probed.of_family("llama")) as session:
        yield session


def sums(diagram):
    shown = [sum(node.share for node in diagram.nodes if node.row == row) for row in range(diagram.rows.n)]
    return [one + row.hidden + row.earlier + row.ended for one, row in zip(shown, diagram.parts, strict=True)]


@pytest.mark.parametrize("by", ["norm", "kl", "routes"])
def test_the_shares_of_every_row_sum_to_1_in_every_family(session, by):
    for more in ({}, {"feed_forward": "ends", "before": 5, "first": "kept"}):
        answer = probed.asked(session, NAME, by=by, **more)
        diagram, table, note = answer.panels
        assert isinstance(diagram, Flow) and isinstance(table, Table) and isinstance(note, Note)
        assert sums(diagram) == pytest.approx([1] * 5, abs=1e-6)
        assert all(row.hidden > -1e-6 for row in diagram.parts)
        assert diagram.rows.labels == ("4", "3", "2", "1", "text")
        for row in diagram.parts[:-1]:
            assert row.residual + row.attention + row.feed_forward == pytest.approx(1)
        assert sum(row[2] for row in table.rows) == pytest.approx(1, abs=1e-6)


def test_the_parts_of_attention_through_heads_and_tokens_are_what_it_adds(session):
    """That they sum to it is looked at by the very function, which else says that it cannot."""
    sequence, architecture = session.state.run_of(1).sequence, session.state.loaded.architecture
    n = sequence.n_tokens - 1
    with (
        torch.inference_mode(),
        heard_heads(architecture, 3) as heads,
        watching_blocks(architecture, 3) as watch,
        library.attention_maps(session.state.instruments.attention, [1, 4], 3) as maps,
        session.branches.rewinder.replay(sequence, n - 3, n),
    ):
        for at in (1, 4):
            found = attention_routes(heads[at - 1], watch.parts()[at - 1], maps.weights(at, n - 3, n))
            assert found.shape == (3, 1 + n)
            torch.testing.assert_close(found.sum(-1), torch.ones(3))


@pytest.mark.parametrize("family", CANNOT)
def test_a_model_that_nothing_can_be_followed_in_says_why(family):
    with probed.written(probed.of_family(family)) as session:
        told = probed.asked(session, NAME)
    assert not told.panels and CANNOT[family] in told.unavailable


def test_every_number_is_that_of_plain_passes(session):
    assert max(probed.doctored(session, library.PROBE)) <= 1


def test_clutter_is_held_off_by_a_threshold_and_a_number_of_edges(llama):
    (all_of_it, *_), (less, *_), (few, *_) = (
        probed.asked(llama, NAME, **options).panels
        for options in ({"min_share": 0.0, "top_k": 99}, {"min_share": 0.1}, {"min_share": 0.0, "top_k": 1})
    )
    assert all(node.share >= 0.1 for node in less.nodes) and len(less.nodes) < len(all_of_it.nodes)
    assert all(edge.share >= 0.1 for edge in less.edges) and sums(less) == pytest.approx([1] * 5, abs=1e-6)
    assert (
        max(np.bincount([edge.above for edge in few.edges]))
        == 1
        < max(np.bincount([edge.above for edge in all_of_it.edges]))
    )
    for n, node in enumerate(all_of_it.nodes):
        leaving = sum(edge.share for edge in all_of_it.edges if edge.above == n)
        assert leaving == pytest.approx(node.share, abs=1e-6) or node.row == 4
    assert len(probed.asked(llama, NAME, rows=2).panels[0].parts) == 3


def test_places_are_shaded_by_layer_or_by_the_gradient_there(llama):
    by_layer = probed.asked(llama, NAME, shade="layer").panels[0]
    assert {node.level for node in by_layer.nodes if node.row == 1} == {0.75} and by_layer.shade
    by_gradient = probed.asked(llama, NAME, shade="gradient", min_share=0.0).panels[0]
    levels = [node.level for node in by_gradient.nodes]
    assert max(levels) == 1 and min(levels) >= 0
    assert [node.level for node in by_gradient.nodes if node.row == 0 and node.share < 1] == [0.0] * (
        by_gradient.columns.n - 1
    )  # what the last block puts out elsewhere, nothing that is said hangs on


def test_a_flow_begins_at_every_token_that_was_written(llama):
    sequence = llama.state.run_of(1).sequence
    diagram = probed.asked(llama, NAME, of="written", min_share=0.0).panels[0]
    top = {diagram.columns.positions[node.column]: node.share for node in diagram.nodes if node.row == 0}
    started = {position: share for position, share in top.items() if share}
    assert started == pytest.approx({at: 1 / 4 for at in range(sequence.n_prompt - 1, sequence.n_tokens - 1)})


def test_the_top_shows_what_is_said_and_the_bottom_the_text(llama):
    sequence = llama.state.run_of(1).sequence
    diagram = probed.asked(llama, NAME, position=-1, min_share=0.0).panels[0]
    ids = sequence.ids.tolist()
    assert [node.token.ids[0] for node in diagram.nodes if node.row == 4] == ids[:-1]
    best = llama.branches.rewinder.recompute_step(sequence, sequence.n_tokens - 2).logits.argmax()
    assert [node.token.ids[0] for node in diagram.nodes if node.row == 0 and node.share == 1] == [int(best)]


def test_the_first_token_that_can_be_asked_about_comes_from_the_only_one(llama):
    diagram = probed.asked(llama, NAME, position=1).panels[0]
    assert [node.share for node in diagram.nodes] == pytest.approx([1] * 5)


def test_the_text_goes_on_as_it_would_have():
    texts = []
    for asks in (False, True):
        with probed.written(probed.of_family("llama"), n=0) as session:
            session.begin(Write(probed.TEXT, None, False, 6, Knobs()))
            while session.active:
                session.advance()
                if asks and session.state.run_of(1).sequence.n_written == 3:
                    for options in ({}, {"by": "routes"}, {"shade": "gradient"}):
                        probed.asked(session, NAME, **options)
                    probed.asked(session, "attention-rollout")
            texts.append(session.state.run.sequence.ids.tolist())
    assert texts[0] == texts[1]


def test_doctor_sees_a_block_taken_for_the_next(llama, monkeypatch):
    honest = block_flow.flow
    monkeypatch.setattr(library, "flow", lambda blocks, *more: honest([*blocks[1:], blocks[0]], *more))
    assert max(probed.doctored(llama, library.PROBE)) > 10
