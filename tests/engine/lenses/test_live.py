"""The lens left on while a text is written: its rows are those of the lens probe and of a pass by itself, and nothing
else of the text is another."""

import families
import pytest
import small
import tiny
import torch
from msgspec.structs import replace

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.lenses.files import save
from tui_entropy.engine.lenses.lens import AffineMap, Lens
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.engine.verify.evidence.plain import left_out
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.commands import Twin, Write
from tui_entropy.records.events import Refused
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane
from tui_entropy.records.step import Step

FAMILIES = (
    "llama", "gpt2", "gemma2", "gemma3_text", "olmo2", "granite", "cohere", "phi", "gpt_neox", "falcon", "bloom",
    "opt", "mixtral", "gpt_oss", "deepseek_v3", "qwen3_5_text", "bamba", "mamba", "bert",
)  # fmt: skip
PROMPT = "hello you there"
HOT = Knobs(temperature=1.5)


def loaded(family: str = "llama") -> Loaded:
    model = families.built(family)
    found = Loaded(model, Tokenizer(small.tokenizer(tiny.VOCAB)), architecture_of(model), small.card(model))
    return small.endless(found)


def written(of: Loaded, knobs: Knobs, n: int = 6, graph: bool = False, then=lambda session, steps: None):
    """The steps of a text, and what came of asking for something at its end."""
    events = []
    with torch.inference_mode(), open_instruments(of, graph=graph) as watching:
        assert watching.way == ("graph" if graph else "plain")
        session = Session(of, watching, events.append)
        session.begin(Write(PROMPT, None, False, n, knobs))
        while session.active:
            session.advance()
        steps = [event for event in events if isinstance(event, Step)]
        return steps, then(session, steps)


def plain(rows):
    return [(row.layer, row.token_id, row.rank) for row in rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rows_are_those_of_the_lens_probe(family):
    of = loaded(family)

    def ask(session, steps):
        return answer(session, AskProbe("lens", 1, steps[-1].position, {"before": 0}))

    steps, asked = written(of, replace(HOT, lens=1), then=ask)
    rows, n_layers = steps[-1].lens_rows, of.architecture.n_layers
    assert [row.layer for row in rows] == list(range(n_layers + 1))
    for row, told in zip(rows[::-1], asked.panels[1].rows, strict=True):
        layer, shown, entropy, kl, rank, *_ = told
        assert (str(row.layer), row.token_id, row.token_bytes) == (layer, shown.ids[0], shown.token_bytes)
        assert (row.entropy, row.kl, row.rank) == pytest.approx((entropy, kl, rank), abs=1e-4)
    last, step = rows[-1], steps[-1]
    assert (last.token_id, last.rank, last.kl) == (step.candidates[0].token_id, step.rank, pytest.approx(0, abs=1e-5))
    assert last.entropy == pytest.approx(step.entropy, abs=1e-5)


@torch.inference_mode()
def test_each_row_is_what_the_model_says_with_the_blocks_after_it_left_out():
    of = loaded()
    steps, ids = written(of, replace(HOT, lens=1), then=lambda session, steps: session.state.sequence.ids.clone())
    for layer in range(of.architecture.n_layers + 1):
        logp = left_out(of, ids, layer).double().log_softmax(-1)
        for step in steps:
            row, here, final = step.lens_rows[layer], logp[step.position - 1], None
            final = left_out(of, ids, of.architecture.n_layers).double().log_softmax(-1)[step.position - 1]
            assert row.token_id == int(here.argmax()) and row.p == pytest.approx(float(here.max().exp()), abs=1e-5)
            assert row.rank == 1 + int((here > here[step.token_id]).sum())
            assert row.kl == pytest.approx(float((final.exp() * (final - here)).sum()), abs=1e-4)


def test_the_text_and_all_else_of_it_is_the_same_to_the_bit_with_the_lens_and_without():
    of = loaded()
    without, _ = written(of, HOT)
    times = dict(forward_seconds=0, sample_seconds=0, at=0, lens_rows=())
    for knobs in (replace(HOT, lens=1), replace(HOT, lens=2, lens_steps=2)):
        assert [replace(step, **times) for step in written(of, knobs)[0]] == [
            replace(step, **times) for step in without
        ]
    assert not any(step.lens_rows for step in without)


@pytest.mark.parametrize(("every", "layers"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [1, 4]), (64, [4])])
def test_every_so_many_layers_are_read_from_the_last_one_back_at_every_so_many_tokens(every, layers):
    of = small.endless(small.loaded())
    assert of.architecture.n_layers == 4
    whole, _ = written(of, replace(HOT, lens=1))
    steps, _ = written(of, replace(HOT, lens=every, lens_steps=3))
    for step, other in zip(steps, whole, strict=True):
        wanted = [row for row in other.lens_rows if row.layer in layers] if step.index % 3 == 0 else []
        assert plain(step.lens_rows) == plain(wanted)
    assert [BY_NAME["commitment layer"].read(step) is None for step in steps] == [False, True, True] * 2


def test_the_way_of_a_graph_has_the_same_rows():
    of = loaded()
    steps, _ = written(of, replace(HOT, lens=1))
    others, _ = written(of, replace(HOT, lens=1), graph=True)
    for one, other in zip(steps, others, strict=True):
        assert plain(one.lens_rows) == plain(other.lens_rows)


def test_a_twin_has_rows_of_its_own_under_its_own_knobs_and_a_shadow_changes_none():
    of, events = loaded(), []
    alone, _ = written(of, replace(HOT, lens=1))
    with torch.inference_mode(), open_instruments(of, graph=False) as watching:
        session = Session(of, watching, events.append)
        session.begin(Write(PROMPT, None, False, 6, replace(HOT, lens=1)))
        session.begin_twin(Twin(1, 0, Lane("cold", knobs=Knobs(temperature=0.0, lens=2))))
        while session.active:
            session.advance()
    runs = {run: [event for event in events if isinstance(event, Step) and event.run == run] for run in (1, 2)}
    assert [plain(step.lens_rows) for step in runs[1]] == [plain(step.lens_rows) for step in alone]
    for step in runs[2]:
        assert [row.layer for row in step.lens_rows] == list(range(of.architecture.n_layers, -1, -2))[::-1]
        assert step.lens_rows[-1].token_id == step.token_id


def test_a_lens_from_a_file_is_read_as_the_probe_reads_it_and_one_that_is_none_leaves_the_rows_unknown(tmp_path):
    of = loaded()
    width = of.architecture.d_model
    torch.manual_seed(0)
    maps = {
        layer: AffineMap(torch.eye(width) + 0.3 * torch.randn(width, width), torch.randn(width))
        for layer in range(of.architecture.n_layers)
    }
    save(Lens("tuned lens", maps), tmp_path / "tuned", of)

    def ask(session, steps):
        return answer(
            session, AskProbe("lens", 1, steps[-1].position, {"before": 0, "lens": str(tmp_path / "tuned")})
        )

    steps, asked = written(of, replace(HOT, lens=1, lens_file=str(tmp_path / "tuned")), then=ask)
    for row, told in zip(steps[-1].lens_rows[::-1], asked.panels[1].rows, strict=True):
        assert (row.token_id, row.rank) == (told[1].ids[0], told[4])
        assert (row.entropy, row.kl) == pytest.approx(told[2:4], abs=1e-4)
    logit, _ = written(of, replace(HOT, lens=1))
    assert steps[-1].lens_rows[0].entropy != pytest.approx(logit[-1].lens_rows[0].entropy, abs=1e-3)

    events = []
    with torch.inference_mode(), open_instruments(of, graph=False) as watching:
        session = Session(of, watching, events.append)
        session.begin(Write(PROMPT, None, False, 3, replace(HOT, lens=1, lens_file=str(tmp_path / "none"))))
        while session.active:
            session.advance()
    assert [event.lens_rows for event in events if isinstance(event, Step)] == [(), (), ()]
    (told,) = [event for event in events if isinstance(event, Refused)]
    assert told.notice and told.sentence.startswith("no layer is read: ")


def test_a_model_with_several_streams_has_none():
    of = small.endless(small.loaded("gemma3n")) if "gemma3n" in tiny.FAMILIES else None
    model = tiny.gemma3n()
    of = of or small.endless(
        Loaded(model, Tokenizer(small.tokenizer(tiny.VOCAB)), architecture_of(model), small.card(model))
    )
    steps, _ = written(of, replace(HOT, lens=1), n=2)
    assert [step.lens_rows for step in steps] == [(), ()]
