"""What each pane beside the text shows."""

import math

import made
import pytest
from drawn_rows import rows
from made_frames import frame_of
from msgspec.structs import replace
from textual.app import App, ComposeResult

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import Failed, Memory, Paused, Prefilled, Progress
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Candidate
from tui_entropy.stages.registry import ORDERS
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.chart import Chart
from tui_entropy.ui.panes.heads import HeadGrid
from tui_entropy.ui.panes.knobs import KnobStrip
from tui_entropy.ui.panes.status import Status
from tui_entropy.ui.views.view import View

PLAIN = Paint(color="mono", ascii=True)


class Stage(App[None]):
    """One pane on a screen, and what it asked for."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
        self.asked: list[object] = []

    def compose(self) -> ComposeResult:
        yield self.view

    def on_mount(self) -> None:
        self.view.styles.height = self.size.height

    def on_view_cursor_asked(self, message: View.CursorAsked) -> None:
        self.asked.append(message.index)

    def on_view_head_asked(self, message: View.HeadAsked) -> None:
        self.asked.append((message.layer, message.head))

    def on_view_knob_asked(self, message: View.KnobAsked) -> None:
        self.asked.append(message.name)

    def on_view_vector_asked(self, message: View.VectorAsked) -> None:
        self.asked.append(message.index)


async def clicked(view: View, log: SessionView, on: str, size: tuple[int, int], **fields: object) -> list[object]:
    """What a pane asks for when the first place that shows `on` is clicked."""
    app = Stage(view)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        view.show(frame_of(log, **fields))
        texts = [view.render_line(y).text for y in range(size[1])]
        y = next(y for y, text in enumerate(texts) if on in text)
        await pilot.click(type(view), offset=(texts[y].index(on), y))
    return app.asked


# --- Chart -----------------------------------------------------------------------------------------------------


def test_the_chart_gives_each_series_name_number_and_unit():
    log = made.log(0)
    log.append(made.step(0, entropy=math.log(2), varentropy=0.0))
    entropy, varentropy, _ = rows(Chart(), log, 80, 3)
    assert entropy.startswith("entropy") and entropy.rstrip().endswith("1.00 bits")
    assert varentropy.startswith("varentropy") and varentropy.rstrip().endswith("0.00 bits²")
    assert rows(Chart(), log, 80, 3, bits=False)[0].rstrip().endswith("0.69 nats")


def test_a_tall_chart_is_as_wide_as_its_pane_and_its_values_stand_below_their_names():
    drawn = rows(Chart(), made.log(120), 71, 8, bits=False)
    assert [row[:14].strip() for row in drawn[1:6]] == ["entropy", "3.69 nats", "0 to 4", "varentropy", "4.54 nats²"]
    assert "peak 3.98 nats at step 53" in drawn[0]
    assert {len(row) for row in drawn[1:6]} == {71}
    drawn = rows(Chart(), made.log(57, marks=False), 71, 8)
    assert any(row[70] in "▁▂▃▄▅▆▇█" for row in drawn[1:6])


def test_a_chart_that_lacks_rows_says_so():
    series = tuple(BY_NAME[name] for name in ("entropy", "varentropy", "surprisal", "rank"))
    assert "3 of 4 series" in rows(Chart(), made.log(9), 120, 5, chart_series=series)[0]


def test_the_chart_adds_the_tint_where_there_is_room():
    assert any(row.startswith("surprisal") for row in rows(Chart(), made.log(9), 80, 6, tint=BY_NAME["surprisal"]))


def test_a_series_that_a_step_lacks_is_drawn_as_unknown():
    log = made.log(0)
    log.append(
        made.step(
            0, head_entropy=made.grid([[math.nan]]), attention=made.grid([[math.nan] * 3]), visible_keys=(None,)
        )
    )
    shown = rows(Chart(), log, 80, 6, tint=BY_NAME["head entropy"])
    assert "\n".join(shown).count("?") == 2 and any(row.startswith("head entropy") for row in shown)


def test_marks_stand_under_the_first_step_they_act_on_with_their_labels():
    pins = rows(Chart(), made.log(37), 80, 3)[2]
    assert [n - 14 for n, glyph in enumerate(pins) if glyph == "┴"] == [9, 20]
    assert "T 0.7→1.2" in pins and "warm on +1" in pins


def test_the_window_moves_by_a_quarter_and_always_holds_newest_and_cursor():
    firsts = set()
    for n in range(60, 200):
        log = made.log(0)
        log.run.steps = made.kept(*[made.step(0)] * n)
        drawn = rows(Chart(), log, 66, 3)[0][14:52]
        assert drawn.strip(), n
        firsts.add(n - len(drawn.rstrip()))
    assert len(firsts) < 20
    log = made.log(150, marks=False)
    strip = Chart().draw(frame_of(log, cursor=20, following=False), 66, 3)[0]
    assert sum(segment.style == Paint().column for segment in strip) == 1


async def test_a_click_in_the_chart_asks_for_its_token():
    assert await clicked(Chart(), made.log(30), "T 0.7", (80, 4)) == []
    log = made.log(17)
    log.append(made.step(17, entropy=99.0))
    for n in range(18, 30):
        log.append(made.step(n))
    assert await clicked(Chart(), log, "█", (80, 3), cursor=3) == [17]


# --- Candidates ------------------------------------------------------------------------------------------------


def test_candidates_show_both_probabilities_or_the_stage_that_cut():
    shown = rows(Candidates(), made.log(2), 60, 24)
    step = made.step(1, " capital")
    model = 100 * math.exp(step.candidates[0].logprob)
    assert f"{model:.1f}" in shown[1] and f"{model / 0.95:.1f}" in shown[1]
    assert "top-p" in shown[13] and "top-p" not in shown[12]


def test_the_drawn_token_is_marked_even_where_it_is_no_candidate():
    assert "▶·capital" in rows(Candidates(), made.log(2), 60, 12)[1]
    log = made.log(0)
    log.append(made.step(0, " odd", token_id=7, rank=412, surprisal=9.0))
    marked = [row for row in rows(Candidates(), log, 60, 12) if "▶" in row]
    assert len(marked) == 1 and "412" in marked[0] and "·odd" in marked[0]


def test_candidates_tell_the_way_from_the_vocabulary_to_the_draw():
    shown = "\n".join(rows(Candidates(), made.log(12), 60, 30))
    assert "tokens 49152 → top-k 40 (98 %) → top-p 12 (95 %)" in shown and "drawn with seed 7 at position 29" in shown


def test_the_seed_is_the_one_that_the_step_was_drawn_with():
    log = made.log(5)
    log.append(made.KnobsChanged(1, 5, Knobs(seed=8)))
    log.append(made.step(5))
    assert "seed 7" in "\n".join(rows(Candidates(), log, 60, 30, cursor=4))
    assert "seed 8" in "\n".join(rows(Candidates(), log, 60, 30, cursor=5))


def test_a_candidate_is_text_and_never_markup_or_command():
    log = made.log(0)
    nasty = (Candidate(100, b"[/]\x1b[2J", -0.1, 0.9), Candidate(101, b"\xe6\x97", -3.0, 0.1))
    log.append(made.step(0, candidates=nasty))
    shown = rows(Candidates(), log, 60, 8)
    assert "[/]␛[2J" in shown[1] and "‹E6 97›" in shown[2]


# --- Heads -----------------------------------------------------------------------------------------------------


def test_every_layer_and_head_has_a_cell_of_its_level():
    log = made.log(0)
    shares = [[0.0] * made.HEADS for _ in range(made.LAYERS)]
    shares[27][4] = math.log(50)
    log.append(made.step(0, head_entropy=made.grid(shares), visible_keys=(50,) * made.LAYERS))
    shown = rows(HeadGrid(), log, 60, 34, paint=PLAIN, layer=1)
    layer = next(row for row in shown if row.lstrip().startswith("28"))
    assert layer.count("#") == 3 and sum(row.count("#") for row in shown[1:-1]) == 3


def test_a_change_worth_a_mark_gets_an_arrow_and_no_other():
    log = made.log(0)
    for n, high in enumerate((0.2, 0.8)):
        shares = [[0.5 * math.log(50)] * made.HEADS for _ in range(made.LAYERS)]
        shares[27][4] = high * math.log(50)
        log.append(made.step(n, head_entropy=made.grid(shares), visible_keys=(50,) * made.LAYERS))
    assert "\n".join(rows(HeadGrid(), log, 60, 34, changes=True)[1:]).count("↑") == 1
    assert "+60" in "\n".join(rows(HeadGrid(), log, 80, 34, changes=True))
    plain = "\n".join(rows(HeadGrid(), log, 80, 34))
    assert "↑" not in plain and "+60" not in plain  # colours first


def test_more_layers_than_rows_shows_the_chosen_one_and_says_which():
    for layer in (1, 15, 30):
        shown = rows(HeadGrid(), made.log(2), 30, 10, layer=layer)
        assert any(f"{layer:>3} " in row for row in shown[1:-1]) and f"layer {layer} " in shown[-1]
        assert "of 30" in shown[0]


def test_a_layer_without_attention_says_so_and_a_window_is_marked():
    log = made.log(0)
    kinds = ("linear", *["full"] * (made.LAYERS - 1))
    windows = (None, 512, *[None] * (made.LAYERS - 2))
    log.card = made.card(layer_kinds=kinds, attention=tuple(k == "full" for k in kinds), windows=windows)
    log.append(made.step(0))
    shown = rows(HeadGrid(), log, 60, 34, layer=1)
    assert "early  1 linear: no rows" in shown[30] and shown[29].strip().startswith("2~")


def test_the_chosen_head_is_given_as_a_number_with_its_unit():
    log = made.log(0)
    shares = [[math.log(2)] * made.HEADS for _ in range(made.LAYERS)]
    log.append(made.step(0, head_entropy=made.grid(shares), visible_keys=(16,) * made.LAYERS))
    assert "layer 3 head 2 · entropy 1.00 of 4.00 bits" in rows(HeadGrid(), log, 80, 34, layer=3, head=2)[-1]


async def test_a_click_on_a_layer_or_a_cell_asks_for_it():
    log = made.log(0)
    shares = [[0.0] * made.HEADS for _ in range(made.LAYERS)]
    shares[11][6] = math.log(50)
    log.append(made.step(0, head_entropy=made.grid(shares), visible_keys=(50,) * made.LAYERS))
    assert await clicked(HeadGrid(), log, "#", (40, 12), paint=PLAIN, layer=12) == [(12, 7)]
    assert await clicked(HeadGrid(), log, "12", (40, 33), paint=PLAIN, layer=1) == [(12, None)]


# --- Knobs -----------------------------------------------------------------------------------------------------


def test_the_strip_shows_applied_and_pending():
    log = made.log(2)
    asked = replace(log.knobs, temperature=0.0, top_k=0, order=ORDERS["vllm"])
    shown = " ".join(rows(KnobStrip(), log, 200, 2, knobs=asked))
    assert "T 0.70→0 greedy" in shown and "top-k 40→off" in shown and "stage order hf→vllm" in shown
    assert "top-p 0.95 " in shown


def test_every_knob_is_named_where_there_is_room_and_those_that_act_where_not():
    log = made.log(2)
    assert "presence off" in " ".join(rows(KnobStrip(), log, 200, 2, knobs=log.knobs))
    small = " ".join(rows(KnobStrip(), log, 80, 2, knobs=log.knobs))
    assert "top-p 0.95" in small and "seed 7" in small and "presence" not in small


def test_vectors_are_numbered_for_their_keys_and_tell_on_from_off():
    log = made.log(30)
    more = replace(made.WARM, name="formal", strength=-0.5, first=10, last=20)
    shown = rows(KnobStrip(), log, 100, 2, knobs=log.knobs, vectors=(*log.vectors, more))[1]
    assert "1● warm +1.0" in shown and "2○ formal -0.5 [10-20]" in shown


async def test_a_click_chooses_a_knob_or_a_vector():
    log = made.log(2)
    assert await clicked(KnobStrip(), log, "top-p", (120, 2), knobs=log.knobs) == ["top_p"]
    assert await clicked(KnobStrip(), log, "warm", (120, 2), knobs=log.knobs) == [0]


async def test_with_the_focus_the_chosen_knob_shows_what_is_typed():
    view = KnobStrip()
    app = Stage(view)
    async with app.run_test(size=(120, 2)) as pilot:
        view.focus()
        await pilot.pause()
        log = made.log(2)
        view.show(frame_of(log, knobs=log.knobs, knob="top_k", typed="12"))
        assert "top-k 40 12_" in view.render_line(0).text


# --- Status ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Progress("downloading", 45, 93, "MB"), "45/93 MB"),
        (Prefilled(1, 512, 4096, 0.1), "reading the prompt 512/4096"),
        (Paused(1, "entropy above 3 bits"), "paused (entropy above 3 bits)"),
        (Failed("no memory is left"), "no memory is left"),
    ],
)
def test_the_state_is_told_with_its_reason_in_80_cells(event, said):
    log = made.log(0)
    log.run.prefilled = None  # later ones tell of text that is read again
    log.append(event)
    assert said in rows(Status(), log, 80, 1)[0]


def test_writing_tells_speed_and_context_in_80_cells():
    line = rows(Status(), made.log(30), 80, 1)[0]
    assert "SmolLM2-135M-Instruct · cpu float32" in line and "writing 22.4 tok/s" in line and "context 4" in line


def test_a_failure_names_the_key_that_helps_however_long_it_is():
    log = made.log(3)
    log.lose("word " * 50)
    assert rows(Status(), log, 60, 1)[0].endswith("ctrl+r restart the engine")


@pytest.mark.parametrize("way", ["graph", "plain"])
def test_on_a_gpu_it_says_how_steps_run(way):
    log = made.log(30)
    assert way not in rows(Status(), log, 120, 1)[0]
    log.append(Memory(10**9, 10**9, 10**6, step=way))
    assert f"cpu float32 {way}" in rows(Status(), log, 120, 1)[0]


def test_the_state_stays_in_its_place():
    writing = rows(Status(), made.log(30), 100, 1)[0]
    paused = made.log(30)
    paused.append(Paused(1, "asked"))
    line = rows(Status(), paused, 100, 1)[0]
    assert writing.index("●") == line.index("‖") and writing.index("context") == line.index("context")
