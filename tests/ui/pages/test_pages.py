"""The pages: a view on the whole screen, what it says, and what its keys do."""

import math
from statistics import fmean, pstdev

import made
import pytest
from drawn_rows import rows
from inspectors import begun, screen_text, settled, up, writing
from made_frames import PAINTS, frame_of
from made_steps import lens_rows

from tui_entropy.metrics.entropix import QUADRANTS, THRESHOLDS
from tui_entropy.metrics.registry import BY_NAME, METRICS
from tui_entropy.records.commands import SetKnobs
from tui_entropy.records.events import PromptScores
from tui_entropy.records.model import Trust
from tui_entropy.records.probes.ask import ProbeAnswer, ProbeInfo, ProbeOption
from tui_entropy.records.probes.options import MAX_SHOWN
from tui_entropy.records.probes.panels import Note
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Candidate, Decision, Stage
from tui_entropy.ui.dialogs.help import help_text
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.keymap import PAGES
from tui_entropy.ui.keys.probe_choice import offered
from tui_entropy.ui.pages.layers import Layers
from tui_entropy.ui.pages.numbers import Numbers
from tui_entropy.ui.pages.probes import Probes
from tui_entropy.ui.pages.quadrants import Field, Quadrants
from tui_entropy.ui.pages.waterfall import Waterfall
from tui_entropy.ui.panes.attention import AttentionMap
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.heads import HeadGrid
from tui_entropy.ui.views.frame import Frame

OPEN = {
    "numbers": "N", "layers": "L", "waterfall": "W", "quadrants": "Q", "chart": "C", "branches": "B",
    "lanes": "vertical_line", "fan": "H",
}  # fmt: skip


def scored(log, surprisals):
    """The log, with these surprisals (nats) of the tokens of the prompt from the second on."""
    score = [[1.0, 1.0, nll, 1.0, 1.0, 0.5, 9.0] for nll in surprisals]
    log.append(PromptScores(1, 1, made.grid(score)))
    return log


def decision(**fields):
    saw = {"entropy": math.log(2), "varentropy": math.log(2) ** 2}
    made_up = dict(variant="S1", quadrant="exploring", action="temperature 0.7 to 1.2", saw=saw, knobs=Knobs())
    return Decision(**(made_up | fields))


# --- Opening and closing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PAGES if name in OPEN])
@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_a_page_opens_with_its_key_and_closes_with_it_or_escape(name, size):
    app = up()
    app._welcome = lambda: None
    async with app.run_test(size=size) as pilot:
        await writing(app, pilot)
        before = screen_text(app)
        for close in (OPEN[name], "escape", "q"):
            await pilot.press(OPEN[name])
            await settled(app, pilot)
            heading = "over time" if name == "chart" else name
            assert screen_text(app).splitlines()[1].startswith(heading) and app.place == name
            assert "esc close" in screen_text(app)
            await pilot.press(close)
            await settled(app, pilot)
            assert screen_text(app) == before and app.place == ""


async def test_on_a_page_keys_of_everywhere_act_and_one_page_takes_the_place_of_another():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await pilot.press("L", "W", "left", "u", "T")
        await settled(app, pilot)
        shown = screen_text(app)
        assert "step 29" in shown and "entropy nats" in shown and len(app.screen_stack) == 2
        assert app.sent == [SetKnobs(Knobs(temperature=0.8))]
        await pilot.press("i")
        await pilot.pause()
        assert app.place == "prompt" and len(app.screen_stack) == 1


async def test_a_page_shows_every_new_step_and_draws_nothing_without_one():
    app = up()
    async with app.run_test(size=(100, 30)) as pilot:
        await writing(app, pilot, steps=9)
        await pilot.press("N")
        await settled(app, pilot)
        app.take([begun(steps=10)[-1]])
        await settled(app, pilot)
        assert "step 10 of 10" in screen_text(app)
        app.show = lambda **_: pytest.fail("drawn without news")
        await pilot.pause(0.4)


async def test_a_page_that_opens_while_panes_are_being_drawn_is_drawn_too():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        app.repaints.show_heavy()
        await pilot.press("N")
        await settled(app, pilot)
        assert "uniform kl" in screen_text(app)


# --- Numbers ---------------------------------------------------------------------------------------------------


def test_every_series_is_listed_with_its_distribution_and_unit():
    for bits in (True, False):
        shown = rows(Numbers(), made.log(20), 120, 40, bits=bits)
        for metric in METRICS:
            (row,) = [row for row in shown if row[4:].startswith(metric.name.ljust(29))]
            assert row[34:].startswith(metric.distribution) and row[54:62].strip() == metric.unit(bits)


def test_mean_and_deviation_are_those_of_the_steps_up_to_the_cursor():
    log, metric = made.log(60), BY_NAME["varentropy"]
    view = Numbers()
    view.draw(frame_of(log), 120, 40)
    for cursor in (59, 7, 0):
        values = [metric.value(log.steps[at], True) for at in range(cursor + 1)]
        (row,) = [row for row in rows(view, log, 120, 40, cursor=cursor) if row[4:].startswith("varentropy")]
        now, _, mean, deviation = row[45:80].split()
        assert (now, mean, deviation) == tuple(f"{x:.2f}" for x in (values[-1], fmean(values), pstdev(values)))


def test_unknown_values_are_left_out_of_mean_and_deviation():
    log = made.log(0)
    for n, z in enumerate((None, 1.0, 3.0, None)):
        log.append(made.step(n, entropy_z=z))
    (row,) = [row for row in rows(Numbers(), log, 120, 40) if "entropy z" in row]
    assert row[45:80].split() == ["?", "sd", "2.00", "1.00"]


def test_perplexity_of_the_prompt_is_the_exponential_of_its_mean_surprisal():
    log = scored(made.log(3), [math.log(2), math.log(8)])
    assert "perplexity: prompt 4.00 (2 tokens)" in rows(Numbers(), log, 120, 40)[1]
    assert "prompt ? (0 tokens)" in rows(Numbers(), made.log(0), 120, 40)[1]


def test_the_chosen_row_is_in_view_with_its_meaning_on_every_size():
    for metric in METRICS:
        shown = rows(Numbers(), made.log(9), 80, 22, chosen=metric)
        assert sum(row.startswith("▶") and metric.name[:22] in row for row in shown) == 1
        assert " ".join(" ".join(shown).split()).endswith(" ".join(metric.meaning.split()))


async def test_a_number_is_chosen_tints_the_text_and_goes_into_the_chart_and_out():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await pilot.press("N", "down", "down", "enter", "space")
        assert app.frame.tint.name == "surprisal" and app.frame.chart_series[-1].name == "surprisal"
        await pilot.press("up", "space", "escape")
        await settled(app, pilot)
        assert [metric.name for metric in app.frame.chart_series] == ["entropy", "surprisal"]
        assert "tint: surprisal" in screen_text(app)
        await pilot.press("c")
        assert app.frame.tint.name == "rank"


# --- Layers ----------------------------------------------------------------------------------------------------


def test_a_layer_has_its_norm_and_root_mean_square():
    log = made.log(0)
    blocks = [[0.0, 1.0, 48.0]] * made.LAYERS
    log.append(made.step(0, blocks=made.grid(blocks)))
    row = next(row for row in rows(Layers(), log, 120, 40) if row.startswith(" 30"))
    assert row.split()[1:5] == ["0.00", "1.00", "48.00", "2.00"]  # 48 / sqrt(576)


def test_a_block_is_marked_where_it_left_its_band_and_only_there():
    log = made.log(20, marks=False)
    marked = [row[:3].strip() for row in rows(Layers(), log, 120, 40)[4:] if "!" in row]
    assert marked == ["4", "3"]
    row = next(row for row in rows(Layers(), log, 120, 40) if row.startswith("  4"))
    assert row.count("!") == 1 and row[42:].index("!") == 16


def test_the_entropix_aggregate_stands_under_its_own_name():
    for width in (80, 120, 200):
        shown = " ".join(rows(Layers(), made.log(3), width, 40)[-2:])
        for name in ("entropix", "attention entropy", "attention varentropy", "agreement", "interaction strength"):
            assert name in shown


@pytest.mark.parametrize(("width", "height"), [(60, 20), (80, 24), (120, 33), (120, 36), (200, 60)])
def test_with_the_lens_on_each_layer_has_what_it_would_have_said_and_the_chosen_one_is_in_view(width, height):
    log = made.log(0)
    log.append(made.step(0, lens_rows=lens_rows(made.LAYERS, settled=21)))
    for layer in (1, 15, 30):
        shown = rows(Layers(), log, width, height, layer=layer)
        told = {int(row[:3]): row for row in shown if row[:3].strip().isdigit()}
        assert len(told) == (31 if height >= 33 else height - 3)
        assert layer in told and list(told) == sorted(told, reverse=True)
        assert "late" in told.get(21, "late") and "early" in told.get(20, "early") and "late" not in told.get(20, "")
        p, _, _, rank = told[layer].split()[2:6]
        assert (float(p), rank) == (pytest.approx(100 * (layer + 1) / 32, abs=0.06), str(31 - layer))
        assert "commitment layer 21" in shown[0 if height == 33 else -1]


def test_a_step_without_rows_says_that_nothing_is_known_and_how_they_are_had():
    log = made.log(3)
    shown = " ".join(rows(Layers(), log, 100, 20, pages=made.kept_by_pages(lens=True)))
    assert "enter leaves the lens on" in shown
    assert "was not on at this token" in " ".join(rows(Layers(), log, 100, 20, knobs=Knobs(lens=1)))
    assert "what each would have said" not in " ".join(rows(Layers(), log, 100, 20))


async def test_the_probe_of_the_lens_has_the_rows_of_a_recording_without_a_model():
    log = made.log(0)
    log.append(made.step(0, lens_rows=lens_rows(made.LAYERS, 4, settled=21)))
    frame = Frame(log, Paint(), cursor=0)
    names = [probe.name for probe in offered(frame)]
    shown = " ".join(rows(Probes(), log, 120, 40, row=names.index("lens")))
    assert "read while it was written" in shown and "early" in shown and "took" not in shown


@pytest.mark.parametrize("unavailable", [None, "there is none"])
def test_an_answer_in_a_recording_stands_under_the_options_that_it_was_asked_with(unavailable):
    log = made.log(3)
    names = [f"o{n}" for n in range(MAX_SHOWN + 1)]
    log.probes = (ProbeInfo("many", "", "", tuple(ProbeOption(name, "", 5) for name in names)),)
    position = log.steps[2].position
    panels = () if unavailable else (Note("told", "this"),)
    options = {name: 5 for name in names} | {"o3": 8}
    log.append(ProbeAnswer("many", log.run_number, position, options, panels, unavailable))
    recorded = rows(Probes(), log, 120, 40, cursor=2, lacking=frozenset({"ask_probe"}))
    assert "asked with o3=8" in [row.strip() for row in recorded] and "by default" not in " ".join(recorded)
    live = rows(Probes(), log, 120, 40, cursor=2)
    assert any("options as they are by default" in row for row in live)
    assert unavailable or "asked with o3=8" in live[-1]


async def test_up_and_down_choose_the_layer_that_other_views_show():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await pilot.press("L", "down", "down", "up")
        assert app.frame.layer == app.frame.log.card.n_layers - 1


# --- Waterfall -------------------------------------------------------------------------------------------------


def test_each_stage_that_was_on_has_a_row_with_what_it_kept():
    log = made.log(3)
    _, _, model, *stages, draw = rows(Waterfall(), log, 120, 40)[:7]
    step = log.steps[2]
    assert f"rank {step.rank}" in model and f"{100 * math.exp(-step.surprisal):.2f} %" in model
    assert [row.split("%")[0].split()[1] for row in stages] == ["T", "top-k", "top-p"]
    for row, stage in zip(stages, step.stages, strict=True):
        assert f"{100 * stage.mass:.2f} %" in row and row.split()[-1] == f"{stage.entropy / math.log(2):.2f}"
    assert f"seed 7 at position {step.position}" in draw


def test_a_token_that_was_cut_says_which_stage_removed_it_and_nothing_after():
    log = made.log(0)
    gone = Candidate(101, b" gone", math.log(0.2), 0.0, "top_k")
    kept = Candidate(100, b" kept", math.log(0.8), 1.0)
    stages = (Stage("temperature", 2, 1.0, 0.5), Stage("top_k", 1, 0.8, 0.0), Stage("top_p", 1, 1.0, 0.0))
    probs = made.grid([[0.8, 0.8, 0.2], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    log.append(made.step(0, candidates=(kept, gone), stages=stages, stage_probs=probs))
    shown = rows(Waterfall(), log, 100, 30, token=2)
    assert "20.00 %" in shown[3] and "removed here" in shown[4] and "20" not in shown[5]
    assert "removed by top-k" in "\n".join(shown) and "0.00 %" in shown[6]
    assert "removed here" not in "\n".join(rows(Waterfall(), log, 100, 30, token=0))


async def test_a_stage_moves_in_the_chain_and_the_engine_is_asked_for_that_order():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        order = list(Knobs().order)
        await pilot.press("W", "full_stop", "full_stop", "greater_than_sign")
        order[2], order[3] = order[3], order[2]
        assert app.sent == [SetKnobs(Knobs(order=tuple(order)))] and made.value(app.frame, "stage") == 3
        await settled(app, pilot)
        assert "order from the next token on: custom" in screen_text(app)
        await pilot.press("less_than_sign")
        assert app.sent[-1] == SetKnobs(Knobs())
        await pilot.press("comma", "comma", "comma", "less_than_sign")
        assert made.value(app.frame, "stage") == 0 and len(app.sent) == 2


async def test_up_and_down_choose_a_candidate_and_stop_at_the_ends():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await pilot.press("W", "up", "down", "down")
        assert app.frame.token == 2
        await settled(app, pilot)
        assert "candidate 2 of" in screen_text(app)


# --- Quadrants -------------------------------------------------------------------------------------------------


def test_a_point_lies_where_its_numbers_say_and_the_ends_belong_to_the_field():
    field = Field(40, 10, right=4.0, top=9.0)
    assert [field.column(x) for x in (0.0, 1.0, 4.0, 99.0)] == [0, 20, 39, 39]
    assert [field.row(y) for y in (0.0, 9.0 / 4, 9.0)] == [9, 4, 0]


@pytest.mark.parametrize("size", [(80, 22), (120, 34), (84, 15)], ids=str)
@pytest.mark.parametrize("paint", PAINTS)
def test_all_quadrants_are_named_and_the_step_under_the_cursor_is_marked_once(size, paint):
    shown = rows(Quadrants(), made.log(50), *size, paint=paint, cursor=20)
    field = "\n".join(shown[1:-1])
    assert all(name in field for name in QUADRANTS) and field.count(paint.diamond) == 1
    assert "3.00 bits" in "\n".join(shown) or "3.00" in field


@pytest.mark.parametrize("size", [(80, 22), (83, 14)])
def test_what_is_said_of_adaptive_sampling_is_whole_and_true_of_the_step(size):
    text = "\n".join(rows(Quadrants(), made.log(50), *size))
    assert "A switches it on: not known to improve text." in text
    asked = "\n".join(rows(Quadrants(), made.log(50), *size, knobs=Knobs(adaptive="S1")))
    assert "it acts from the next token on." in asked and "A switches it on" not in asked


def test_reference_thresholds_are_those_of_the_source_and_follow_the_unit():
    log = made.log(5)
    assert "↑3.00" in "\n".join(rows(Quadrants(), log, 120, 30))
    assert f"↑{THRESHOLDS['S1'].entropy_asking:.2f}" in "\n".join(rows(Quadrants(), log, 120, 30, bits=False))


def test_a_decision_is_told_with_what_it_saw_in_the_unit_shown():
    log = made.log(0)
    log.append(made.step(0, decision=decision()))
    for view in (Quadrants(), Waterfall()):
        shown = " ".join(" ".join(rows(view, log, 120, 34)).split())
        assert "adaptive S1: exploring → temperature 0.7 to 1.2" in shown
        assert "entropy 1.00 bits" in shown and "varentropy 1.00 bits²" in shown
        assert "varentropy 0.48 nats²" in " ".join(" ".join(rows(view, log, 120, 34, bits=False)).split())
    assert "quadrant exploring" in " ".join(rows(Candidates(), log, 120, 24))


async def test_adaptive_sampling_goes_round_and_says_what_it_is():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        for wanted in ("S1", "S3", "own", "off"):
            await pilot.press("A")
            assert app.sent[-1] == SetKnobs(Knobs(adaptive=wanted))
            await settled(app, pilot)
            assert f"adaptive {wanted}:" in screen_text(app) or "adaptive sampling off" in screen_text(app)


# --- State and trust -------------------------------------------------------------------------------------------


def test_the_state_of_the_model_is_told_with_its_scores_and_while_it_warms_up_without():
    log = made.log(20)
    shown = " ".join(rows(Candidates(), log, 80, 20))
    scores = log.steps[19].entropy_z, log.steps[19].attention_z
    assert "Confident: entropy {:+.1f}σ, attention {:+.1f}σ".format(*scores) in shown
    early = " ".join(rows(Candidates(), log, 80, 20, cursor=3))
    assert "Warming up: too few tokens to compare with" in early and "σ" not in early


@pytest.mark.parametrize(
    ("level", "mark", "plain"), [("exact", "", ""), ("approximate", "≈ · approximate", "~ | approximate")]
)
def test_a_title_says_how_far_its_numbers_can_be_believed(level, mark, plain):
    log = made.log(9)
    log.card = made.card(trust={"heads": Trust(level, "within 1e-3 of eager")})
    assert rows(HeadGrid(), log, 80, 20)[0].startswith(f"heads {mark}".rstrip() + " ·")
    assert rows(HeadGrid(), log, 80, 20, paint=PAINTS[2])[0].startswith(f"heads {plain}".rstrip() + " |")
    assert rows(Candidates(), log, 80, 20)[0].startswith("next token ·")
    chosen = rows(Numbers(), log, 100, 40, chosen=BY_NAME["head entropy"])
    assert chosen[-1].startswith(f"{level}: within 1e-3 of eager")
    assert "within 1e-3 of eager" in help_text(frame_of(log)).plain


@pytest.mark.parametrize(
    ("view", "group"),
    [(HeadGrid, "heads"), (AttentionMap, "attention"), (Layers, "residual"), (Waterfall, "sampling"),
     (Quadrants, "logits")],
)  # fmt: skip
def test_a_view_that_cannot_be_had_says_why(view, group):
    log = made.log(9)
    log.append(made.attention(last=log.steps[-1].position - 1))
    log.card = made.card(trust={group: Trust("unavailable", "this model keeps no such rows")})
    shown = rows(view(), log, 80, 20)
    assert "×" in shown[0] and "this model keeps no such rows" in shown[1] and len(shown) == 2


def test_help_has_every_number_in_a_section_and_the_four_quadrants():
    text = help_text(frame_of(made.log(1))).plain
    for metric in METRICS:
        assert f"  {metric.name} {metric.unit(True)}\n    {metric.meaning}\n" in text
    for name in QUADRANTS:
        assert f"{name}: " in text
