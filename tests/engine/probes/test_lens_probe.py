"""The lens of a text that tiny models of many families wrote: its last row is what the model said, its other rows are
formulas over the residual stream of a plain pass."""

import math
from contextlib import contextmanager

import families
import pytest
import small
import tiny
import torch

from tui_entropy.core.errors import UserError
from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decomposition.block_parts import watching_blocks
from tui_entropy.engine.lenses.files import save
from tui_entropy.engine.lenses.lens import AffineMap, Lens
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.commands import Write
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

FAMILIES = (
    "llama", "gpt2", "gemma2", "gemma3_text", "olmo2", "olmo3", "granite", "cohere", "phi", "gpt_neox", "falcon",
    "bloom", "opt", "mixtral", "gpt_oss", "deepseek_v3", "qwen3_5_text", "bamba", "mamba", "falcon_h1", "bert",
)  # fmt: skip
PROMPT = "hello you there"


def loaded(family):
    model = families.built(family)
    return Loaded(model, Tokenizer(small.tokenizer(tiny.VOCAB)), architecture_of(model), small.card(model))


@contextmanager
def written(of, n=6):
    """A session that has written so many tokens, and its steps."""
    events = []
    of.tokenizer.eos_ids = frozenset()
    with torch.inference_mode(), open_instruments(of, graph=False) as watching:
        session = Session(of, watching, events.append)
        session.begin(Write(PROMPT, None, False, n, Knobs()))
        while session.active:
            session.advance()
        yield session, [event for event in events if isinstance(event, Step)]


def ask(session, position, **options):
    return answer(session, AskProbe("lens", 1, position, options))


def plain(of, ids):
    """ln p after each token, and the residual stream in float64, of one pass by itself."""
    with torch.inference_mode():
        out = of.model(input_ids=ids[None])
    return out.logits[0].double().log_softmax(-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_row_is_what_the_model_said_at_every_position(family):
    of = loaded(family)
    with written(of) as (session, steps):
        sequence = session.state.run_of(1).sequence
        position = sequence.n_tokens - 1
        found = ask(session, position, before=4)
        again = ask(session, position, before=0)
        logp = plain(of, sequence.ids.clone())
        ids = sequence.ids.tolist()
    grid, table, _, commitment = found.panels
    n_layers = of.architecture.n_layers
    assert grid.rows.labels == tuple(map(str, range(n_layers, -1, -1)))
    assert grid.columns.positions == tuple(range(position - 4, position + 1))
    for column, at in enumerate(grid.columns.positions):
        best = logp[at - 1].max(-1)
        shown = grid.tokens[column].ids[0]
        assert float(logp[at - 1][shown]) == pytest.approx(float(best.values), abs=1e-3)
        assert grid.values.view[0, column] == pytest.approx(math.exp(float(best.values)), abs=1e-3)
    _, _, entropy, kl, rank, p, *_ = table.rows[0]
    step = steps[-1]
    assert step.token_id == ids[position] and kl == pytest.approx(0, abs=1e-5)
    assert (entropy, rank) == (pytest.approx(step.entropy, abs=1e-4), step.rank)
    assert p == pytest.approx(math.exp(-step.surprisal), abs=1e-4)
    assert [row[0] for row in commitment.rows] == list(grid.columns.positions)
    for one, other in zip(again.panels[1].rows, table.rows, strict=True):  # alone or with others before it
        assert one[1].ids == other[1].ids and one[2:6] == pytest.approx(other[2:6], abs=2e-3)


@torch.inference_mode()
def test_every_row_is_the_head_over_the_stream_of_a_plain_pass():
    of = small.endless(small.loaded())
    with written(of) as (session, _):
        sequence = session.state.run_of(1).sequence
        ids = sequence.ids.clone()
        found = ask(session, len(ids) - 1, before=3, k=3, tint="kl")
    with torch.inference_mode(), watching_blocks(of.architecture, len(ids)) as watch:
        of.model(input_ids=ids[None])
    parts = watch.parts()
    stream = torch.stack([parts[0].stream, *(part.output for part in parts)])
    logits = of.model.lm_head(of.model.model.norm(stream)).double()
    logp = logits.log_softmax(-1)
    grid, table, grown, commitment = found.panels
    for nth, layer in enumerate(range(4, -1, -1)):
        for column, at in enumerate(grid.columns.positions):
            here, last = logp[layer, at - 1], logp[-1, at - 1]
            assert grid.tokens[nth * 4 + column].ids == (int(here.argmax()),)
            assert grid.values.view[nth, column] == pytest.approx(float((last.exp() * (last - here)).sum()), abs=1e-4)
        here = logp[layer, len(ids) - 2]
        _, first, entropy, _, rank, p, *others = table.rows[nth]
        assert [first.ids[0], *(one.ids[0] for one in others)] == here.topk(3).indices.tolist()
        chosen = int(ids[-1])
        assert rank == int((here > here[chosen]).sum()) + 1 and p == pytest.approx(
            float(here[chosen].exp()), abs=1e-5
        )
        assert entropy == pytest.approx(float(-(here.exp() * here).sum()), abs=1e-4)
    tops = logp[:, len(ids) - 2].argmax(-1).tolist()
    assert set(grown.columns.labels) >= {of.tokenizer.token_bytes(one).decode("utf-8", "replace") for one in tops}
    stays = next(layer for layer in range(5) if all(top == tops[-1] for top in tops[layer:]))
    assert commitment.rows[-1][-1] == stays


@torch.inference_mode()
def test_parts_of_blocks_are_read_and_shares_are_of_their_lengths():
    of = small.endless(small.loaded())
    with written(of) as (session, _):
        ids = session.state.run_of(1).sequence.ids.clone()
        places = {at: ask(session, len(ids) - 1, at=at, tint="attention", before=2) for at in (
            "block", "intermediate", "attention", "feed-forward")}  # fmt: skip
        fed = ask(session, len(ids) - 1, tint="feed-forward", before=2)
    with torch.inference_mode(), watching_blocks(of.architecture, len(ids)) as watch:
        of.model(input_ids=ids[None])
    parts = watch.parts()
    for place, found in places.items():
        grid = found.panels[0]
        labels = range(4, -1 if place == "block" else 0, -1)
        assert grid.rows.labels == tuple(map(str, labels))
        for nth, block in enumerate(labels[:4]):
            part = parts[block - 1]
            read = {"block": part.output, "intermediate": part.stream + part.attention,
                    "attention": part.attention, "feed-forward": part.feed_forward}[place]  # fmt: skip
            best = of.model.lm_head(of.model.model.norm(read[[-4, -3, -2]])).argmax(-1)
            assert [one.ids[0] for one in grid.tokens[nth * 3 : nth * 3 + 3]] == best.tolist()
            x, a = part.stream.norm(dim=-1), part.attention.norm(dim=-1)
            assert grid.values.view[nth, 2] == pytest.approx(float((a / (x + a))[-2]), abs=1e-4)
            m, f = (part.stream + part.attention).norm(dim=-1), part.feed_forward.norm(dim=-1)
            assert fed.panels[0].values.view[nth, 2] == pytest.approx(float((f / (m + f))[-2]), abs=1e-4)
    assert math.isnan(places["block"].panels[0].values.view[4, 0])  # the embedding has no parts


@pytest.mark.parametrize("tint", ["entropy", "rank"])
@pytest.mark.parametrize("every", [1, 3])
def test_rows_are_every_so_many_layers_and_tints_have_their_units(tint, every):
    with written(small.loaded()) as (session, _):
        found = ask(session, 12, tint=tint, every=every, before=1)
    grid, table, *_ = found.panels
    assert grid.rows.labels == (("4", "3", "2", "1", "0") if every == 1 else ("4", "1"))
    assert grid.unit == {"entropy": "nats", "rank": ""}[tint]
    for nth, row in enumerate(table.rows):
        wanted = row[2] if tint == "entropy" else 1 / row[4]
        assert grid.values.view[nth, 1] == pytest.approx(wanted, rel=1e-3)


def test_the_rank_of_a_token_that_is_named_by_text_or_number():
    with written(small.loaded()) as (session, _):
        by_text, by_id = ask(session, 12, token="a"), ask(session, 12, token="#40")
        for wrong, why in (("no single token", "no single token of this model"), ("#96", "there is no token 96")):
            with pytest.raises(UserError, match=why):
                ask(session, 12, token=wrong)
        name = session.state.loaded.tokenizer.token_bytes(40).decode()
    assert by_text.panels[1].columns[4].name == "rank of 'a'"
    assert by_id.panels[1].columns[4].name == f"rank of {name!r}"


def test_iterative_tokens_are_other_ones_than_the_next_likeliest():
    with written(small.loaded()) as (session, _):
        one, other = ask(session, 12, k=5), ask(session, 12, k=5, secondary="iterative")
    tops = [[row[1].ids for row in found.panels[1].rows] for found in (one, other)]
    assert tops[0] == tops[1] and one.panels[1].rows != other.panels[1].rows


@torch.inference_mode()
def test_a_lens_of_a_file_is_read_through_and_says_what_to_think_of_it(tmp_path):
    of = small.loaded()
    rolled = torch.eye(32).roll(1, 0)
    maps = {layer: AffineMap(rolled, torch.full((32,), 0.5)) for layer in range(4)}
    save(Lens("x", maps), tmp_path / "lens", of)
    params = torch.load(tmp_path / "lens" / "params.pt", weights_only=True)
    torch.save({"J": {2: rolled}, "n_prompts": 3, "source_layers": [2], "d_model": 32}, tmp_path / "j.pt")
    assert len(params) == 8
    with written(of) as (session, _):
        ids = session.state.run_of(1).sequence.ids.clone()
        tuned = ask(session, len(ids) - 1, lens=str(tmp_path / "lens"), before=1)
        jacobian = ask(session, len(ids) - 1, lens=str(tmp_path / "j.pt"), before=1)
        with pytest.raises(UserError, match="leave at=block"):
            ask(session, 12, lens=str(tmp_path / "lens"), at="attention")
        with pytest.raises(UserError, match="cannot be read as a lens"):
            ask(session, 12, lens=str(tmp_path / "none"))
    with torch.inference_mode(), watching_blocks(of.architecture, 2) as watch:
        of.model(input_ids=ids[None, :-1])
    third = watch.parts()[2].output
    for found, moved in ((tuned, third.roll(1, -1) + 0.5), (jacobian, third.roll(1, -1))):
        best = of.model.lm_head(of.model.model.norm(moved)).argmax(-1).tolist()
        assert [one.ids[0] for one in found.panels[0].tokens[2:4]] == best
    assert tuned.panels[0].title.startswith("tuned lens lens: ") and len(tuned.panels) == 4
    assert jacobian.panels[-1].text.startswith("It was made from 3 prompts")


def test_what_a_model_has_not_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setitem(tiny.FAMILIES, "gemma3n", tiny.gemma3n)
    for family, options, why in (
        ("gemma3n", {}, "several side by side"),
        ("bert", {"at": "attention"}, "normed or mixed behind the addition"),
        ("bert", {"tint": "attention"}, "normed or mixed behind the addition"),
    ):
        of = small.loaded(family) if family in tiny.FAMILIES else loaded(family)
        with written(of) as (session, _):
            found = ask(session, 12, **options)
        assert why in found.unavailable and not found.panels


def test_the_first_token_that_can_be_asked_about_has_one_column_and_one_of_the_prompt_its_rank():
    with written(small.loaded()) as (session, _):
        first, prompt = ask(session, 1), ask(session, 6)
    assert first.panels[0].columns.positions == (1,)
    assert prompt.panels[0].columns.positions == (1, 2, 3, 4, 5, 6)


def test_hooks_are_gone_and_the_text_goes_on_as_it_would_have(tmp_path):
    def text(asking):
        of = small.endless(small.loaded())
        events = []
        with torch.inference_mode(), open_instruments(of, graph=False) as watching:
            before = sum(len(module._forward_hooks) for module in of.model.modules())
            session = Session(of, watching, events.append)
            session.begin(Write(PROMPT, None, False, 12, Knobs()))
            while session.active:
                session.advance()
                if asking and session.state.run_of(1).sequence.n_written == 5:
                    ask(session, 10, at="attention")
                    assert sum(len(module._forward_hooks) for module in of.model.modules()) == before
        return [(event.token_id, event.entropy) for event in events if isinstance(event, Step)]

    assert text(asking=True) == text(asking=False)


def test_the_name_that_it_had_asks_it_still():
    with written(small.loaded()) as (session, _):
        found = answer(session, AskProbe("logit-lens", 1, 12, {"k": 2}))
    assert found.name == "logit-lens" and found.panels[0].tokens
