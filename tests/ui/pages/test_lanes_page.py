"""Shadow, twin, fan, bands and the cache policy: what is drawn of them, and what keys tell the engine."""

import asyncio
import sys
from pathlib import Path

import fake_engine
import made
import made_lanes as lanes
import pytest
from asking import fan_ask
from drawn_rows import rows
from inspectors import WRITE, screen_text, settled, up
from made_frames import PAINTS, SIZES, frame_of
from msgspec.structs import replace
from shown_logs import shown

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.commands import Branch, SetShadow, Twin
from tui_entropy.records.events import Refused, ShadowChanged, VectorsChanged
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.continuations import ContinuationOptions
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.drawing.bands import bands, forks
from tui_entropy.ui.keys.lane_choices import choices
from tui_entropy.ui.pages.runs.comparison import Lanes
from tui_entropy.ui.pages.runs.continuations import Fan
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.chart import Chart
from tui_entropy.ui.panes.stream import TokenStream

FAKE = [sys.executable, str(Path(fake_engine.__file__)), "--layers", "6", "--heads", "4"]
OFF, ON = lanes.OFF, lanes.ON


# --- The page of lanes -------------------------------------------------------------------------------------------


def test_a_lane_may_differ_in_vectors_temperature_and_prompts():
    both = (replace(ON, name="warm"), replace(ON, name="formal"))
    frame = frame_of(lanes.shadowed(), vectors=both, knobs=Knobs(top_k=3), temperature=0.2)
    found = {choice.name: choice.lane for choice in choices(frame)}
    assert not any(vector.on for vector in found["no vectors"].vectors)
    assert [vector.on for vector in found["only formal"].vectors] == [False, True]
    assert found["temperature 0.2"].knobs == Knobs(top_k=3, temperature=0.2)
    assert found["other prompt"] is None and found["other system prompt"] is None


def test_the_page_tells_what_runs_how_what_it_costs_and_what_it_comes_to():
    text = "\n".join(rows(Lanes(), lanes.shadowed(), 120, 36))
    assert "shadow: no vectors, in the same forward pass" in text
    assert "costs 1.10 times one without: 44.0 against 40.0 ms, medians of 20 and 10" in text
    kl = (17 * 0.05 + 3 * 0.35) / 20
    assert f"over 20 tokens: mean KL {kl / 0.6931:.2f} bits" in text
    assert "top-1 flips 3 (15 %)" in text and "by the lane only 3 (15 %)" in text
    assert "the first of them: step 15 ·and where the shadow would have written ·else" in text
    (row,) = [row for row in text.splitlines() if row.strip().startswith("15  ·and")]
    assert "flip" in row and "≠ ·else" in row and "-0.58" in row


def test_a_step_without_a_shadow_is_unknown_and_not_nothing():
    text = "\n".join(rows(Lanes(), lanes.shadowed(), 120, 36, cursor=9))
    assert "no shadow" in text and "over 20 tokens" in text
    bare = "\n".join(rows(Lanes(), made.log(9), 120, 36))
    assert "Nothing is known yet" in bare and "mean KL" not in bare


async def test_S_toggles_a_shadow_without_vectors_where_one_is_on():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, lanes.twins(n=10))
        app.show(vectors=(ON,))
        await pilot.press("S")
        assert app.sent == [SetShadow(Lane("no vectors", vectors=(OFF,)))]
        app.frame.log.append(ShadowChanged(1, 10, app.sent[0].lane))
        await pilot.press("S")
        assert app.sent[1:] == [SetShadow(None)]


async def test_a_shadow_is_shown_and_taken_away_as_it_is_set_before_a_step_tells_of_it():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, made.log(9, marks=False))
        app.show(vectors=(ON,))
        await pilot.press("vertical_line", "enter")
        await settled(app, pilot)
        text = screen_text(app)
        assert "shadow: no vectors, from the next token on" in text and "● no vectors" in text
        assert "Nothing is known yet: the shadow runs from the next token on." in text
        await pilot.press("enter")
        await settled(app, pilot)
        assert "no shadow runs" in screen_text(app) and "● no vectors" not in screen_text(app)
        await pilot.press("S")
        app.take([Refused("two lanes are written side by side")])
        await settled(app, pilot)
        assert "no shadow runs" in screen_text(app)
        assert [type(one) for one in app.sent] == [SetShadow] * 3
        assert [one.lane is None for one in app.sent] == [False, True, False]


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"vectors": (OFF,)}, "the chosen lane is what is set now"),
        ({"vectors": (ON,)}, "enter runs the chosen lane as a shadow"),
        ({"vectors": (ON,), "row": 3}, "enter types the chosen lane, which runs as a shadow"),
        ({"vectors": (ON,), "lacking": frozenset({"lane", "type_lane"})}, "No step of this text has a shadow."),
    ],
)
def test_what_is_said_of_the_chosen_lane_is_what_enter_does(fields, said):
    assert said in "\n".join(rows(Lanes(), made.log(9), 120, 36, place="lanes", **fields))


async def test_S_asks_what_the_shadow_differs_in_where_no_vector_is_on_and_then_remembers():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, made.log(9, marks=False))
        app.show(vectors=(OFF,))
        await pilot.press("S")
        assert app.sent == [] and app.place == "lanes" and "choose what" in app.frame.notice
        await pilot.press("down", "minus", "enter")  # the first row that differs is chosen
        hot = Lane("temperature 1.2", knobs=replace(app.frame.knobs, temperature=1.2))
        assert app.sent == [SetShadow(hot)]
        await pilot.press("escape", "S", "T", "S")
        assert app.sent[-1] == SetShadow(replace(hot, knobs=replace(app.frame.knobs, temperature=1.2)))


async def test_another_prompt_is_typed_in_the_box_and_runs_as_the_shadow():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, made.log(9))
        await pilot.press("vertical_line", "down", "down", "down", "enter")
        await pilot.pause()
        assert "prompt of the other lane" in screen_text(app) and app.prompts.box.system.has_focus
        await pilot.press("enter")
        assert "this is the prompt that the text has" in app.frame.notice
        await pilot.press("B", "e", "enter")
        assert app.sent == [SetShadow(Lane("other system prompt", prompt=made.PROMPT, system="Be"))]
        await pilot.press("vertical_line")
        await settled(app, pilot)
        lines = [row.lstrip("▶ ") for row in screen_text(app).splitlines()]
        assert any(row.startswith("● other system prompt    Be") for row in lines)


# --- A shadow on the usual screen --------------------------------------------------------------------------------


def test_candidates_have_a_column_of_the_shadow_while_there_is_one():
    drawn = rows(Candidates(), lanes.shadowed(), 60, 20)
    assert drawn[0].endswith("shadow %") and drawn[1].split()[-1] == "69.0"
    assert "shadow" not in rows(Candidates(), lanes.shadowed(), 60, 20, cursor=3)[0]


def test_a_token_only_by_the_lane_is_marked_with_colour_and_without():
    log = lanes.shadowed()
    stream = TokenStream()
    parts = [s for strip in stream.draw(frame_of(log), 80, 12) for s in strip]
    under = [part.text for part in parts if part.style and part.style.underline]
    assert under == ["by the lane only", " and", " kings", " ville"]
    plain = "\n".join(rows(TokenStream(), log, 80, 12, paint=PAINTS[2]))
    assert "! and" in plain and "! kings" in plain and "! by the lane only" in plain and "! has" not in plain


async def test_the_text_can_be_tinted_by_the_kl_while_a_shadow_runs():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        for log, offered in ((lanes.shadowed(), True), (made.log(9), False)):
            await shown(pilot, log)
            tints = set()
            for _ in range(12):
                await pilot.press("c")
                tints.add(app.frame.tint.name)
            assert ("kl" in tints) == offered


# --- Twin --------------------------------------------------------------------------------------------------------


async def test_Y_starts_a_twin_at_the_cursor():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, made.log(30))
        app.show(vectors=(ON,))
        await pilot.press("home", "right", "Y")
        assert app.sent == [Twin(1, 1, Lane("no vectors", vectors=(OFF,)))]
        app.show(vectors=(OFF,))
        await pilot.press("vertical_line", "down", "Y")
        assert app.sent[1:] == [Twin(1, 1, Lane("only warm", vectors=(ON,)))] and app.place == ""


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)], ids=str)
async def test_two_lanes_are_beside_each_other_named_and_marked_where_they_part(size):
    app = up()
    async with app.run_test(size=size) as pilot:
        await shown(pilot, lanes.twins())
        stream, twin = app.query_one("#stream"), app.query_one("#twin")
        assert twin.display and twin.region.height >= 5 and twin.region.width >= 30
        assert (stream.region.y == twin.region.y) == (size[0] > 80)
        text = screen_text(app)
        assert text.count("parts at 17") == 2 and "run 2 · no vectors" in text
        for view in (stream, twin):
            assert view._text_layout.flow(0).lines and 16 in view._marked
        app.show(log=made.log(9))
        await settled(app, pilot)
        assert not twin.display


async def test_the_pane_of_candidates_shows_the_lane_that_has_the_focus_and_keeps_it():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, lanes.twins(), cursor=16, following=False)
        assert "▶·been" in screen_text(app) and "run 1 · step 17" in screen_text(app)
        await pilot.press("tab")
        await settled(app, pilot)
        assert app.focused.id == "twin" and "▶·else" in screen_text(app) and "run 2 · step 17" in screen_text(app)
        app.query_one("#candidates").focus()
        await settled(app, pilot)
        assert "▶·else" in screen_text(app)
        app.query_one("#stream").focus()
        await settled(app, pilot)
        assert "▶·been" in screen_text(app)


async def test_cursor_and_scrolling_of_two_lanes_are_linked_by_step():
    app = up()
    async with app.run_test(size=(120, 24)) as pilot:
        await shown(pilot, lanes.twins(parted=40, n=600))
        stream, twin = app.query_one("#stream"), app.query_one("#twin")
        await pilot.press("pageup", "pageup")
        await pilot.pause()
        tops = [view._first(view.size.height - 1) for view in (stream, twin)]
        firsts = [view.step_at(view.size.width, 1) for view in (stream, twin)]
        assert stream.top is not None and twin.top is not None and abs(firsts[0] - firsts[1]) <= 8, tops
        await pilot.press("pagedown", "pagedown", "pagedown")
        await pilot.pause()
        assert stream.top is None and twin.top is None
        await pilot.press("home")
        await settled(app, pilot)
        assert stream.top is not None and twin.top is not None
        assert all(view.frame.cursor == 0 for view in (stream, twin))


# --- Fan ---------------------------------------------------------------------------------------------------------


async def test_H_asks_for_a_fan_at_the_cursor_and_says_that_it_waits():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, made.log(20), cursor=10, following=False)
        await pilot.press("H")
        await settled(app, pilot)
        assert app.sent[:1] == [fan_ask(1, lanes.POSITION)]
        assert "waiting for 8 draws of 16 tokens, normalised text, from before step 11" in screen_text(app)
        app.take([lanes.fan()])
        await settled(app, pilot)
        assert "waiting" not in screen_text(app) and "Paris" in screen_text(app)
        app.sent.clear()
        await pilot.press("plus", "less_than_sign", "e")
        assert app.sent == [fan_ask(1, lanes.POSITION, 16, 8, "exact")]
        app.take([Refused("no room for 16 draws: ask for fewer")])
        await settled(app, pilot)
        assert "waiting" not in screen_text(app) and "g asks for 16 draws of 8" in screen_text(app)
        await pilot.press("g")
        assert app.sent[1:] == [fan_ask(1, lanes.POSITION, 16, 8, "exact")]


async def test_enter_takes_a_row_as_a_branch():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, lanes.fanned(), cursor=10, following=False)
        await pilot.press("H", "down", "down", "down", "down", "enter")
        assert app.sent == [Branch(1, 10, token_ids=(103, 101, 102))] and app.place == ""


def test_groups_stand_together_the_largest_first_under_an_entropy_that_is_labelled():
    drawn = rows(
        Fan(), lanes.fanned(), 100, 24, run=1, position=lanes.POSITION, options=ContinuationOptions(n=6), row=4
    )
    assert drawn[1].startswith("discrete semantic entropy · 6 draws · normalised text  1.26 bits")
    shares = [row.split()[:2] for row in drawn[3:9]]
    assert shares[0] == ["1", "4/6"] and drawn[7].lstrip("▶ ").startswith("2   1/6") and "Rhône" in drawn[8]
    assert drawn[7].startswith("▶") and drawn[8].split()[:2] == ["3", "1/6"]


# --- Bands and policy ----------------------------------------------------------------------------------------------


def test_a_band_lasts_as_long_as_nothing_of_its_vector_changes():
    log = made.log(30, marks=False)
    for index, vector, rebuilt in ((4, ON, False), (9, replace(ON, strength=2.0), True), (15, OFF, False)):
        log.append(VectorsChanged(1, index, (vector,), rebuilt))
    assert [(b.first, b.last, b.amount, b.policy) for b in bands(log.run)] == [
        (4, 9, "+1", "from here on"), (9, 15, "+2", "read again"),
    ]  # fmt: skip


def test_a_branch_goes_on_under_a_vector_as_its_parent_did():
    log = made.log(30)
    log.append(made.started(run=2, parent=1, shared=25, vectors=log.vectors))
    assert [(b.first, b.last, b.policy) for b in bands(log.run)] == [(20, None, "from here on")]


@pytest.mark.parametrize(("paint", "single", "double"), [(PAINTS[0], "───", "═══"), (PAINTS[2], "---", "===")])
@pytest.mark.parametrize("height", [3, 4, 6, 12])
def test_bands_are_drawn_under_the_chart_without_colour_too(paint, single, double, height):
    log = made.log(60, marks=False)
    log.append(VectorsChanged(1, 8, (ON,), False))
    log.append(VectorsChanged(1, 34, (ON,), True))
    text = "\n".join(rows(Chart(), log, 120, height, paint=paint))
    assert single in text and double in text
    if height > 5:
        assert "+1 from here on" in text and "+1 read again" in text


def test_points_where_branches_leave_are_marked_under_the_chart():
    log = lanes.forest()
    assert {(mark.index, mark.label) for mark in forks(log)} == {(14, "to run 5"), (20, "to run 3")}
    assert "to run 3" in "\n".join(rows(Chart(), log, 120, 6))


async def test_O_chooses_what_the_next_change_of_a_vector_does_with_the_text_before():
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, made.log(9, marks=False))
        assert "changes: from here on" in screen_text(app)
        await pilot.press("1", "O", "1")
        assert [(command.vector.on, command.rebuild) for command in app.sent] == [(True, False), (False, True)]
        await settled(app, pilot)
        assert "changes: text reread" in screen_text(app)


# --- Whatever they are shown ---------------------------------------------------------------------------------------


def hostile():
    name, text = lanes.HOSTILE, lanes.HOSTILE.encode("utf-8", "replace")
    log = lanes.shadowed(lane=Lane(name, prompt=name, system=name))
    shadow = replace(lanes.shadow(30, True), top_bytes=text, would_bytes=text, logprobs=(), kl=float("nan"))
    log.append(lanes.step(1, 30, word=text, shadow=shadow))
    log.append(VectorsChanged(1, 31, (replace(ON, name=name, strength=float("inf")),)))
    log.append(lanes.fan(texts=(name,) * 9, same=name))
    return log


@pytest.mark.parametrize("view", [Lanes, Fan, Chart, Candidates, TokenStream])
@pytest.mark.parametrize("paint", PAINTS)
@pytest.mark.parametrize("size", [*SIZES, (120, 36)], ids=str)
def test_hostile_names_and_text_are_drawn_within_the_view(view, paint, size):
    typed = (Lane("other prompt", prompt=lanes.HOSTILE),)
    for log in (hostile(), lanes.shadowed(), lanes.twins(name=lanes.HOSTILE), lanes.fanned()):
        frame = frame_of(log, paint=paint, typed_lanes=typed, run=1, position=lanes.POSITION, tint=BY_NAME["kl"])
        for seen in (frame, frame.beside):
            for strip in view().draw(seen, *size):
                text = "".join(segment.text for segment in strip)
                assert strip.cell_length <= size[0] and text.isprintable()


# --- With an engine ------------------------------------------------------------------------------------------------


async def test_with_an_engine_a_shadow_a_twin_a_fan_and_a_name_come_back():
    app = InspectorApp(ModelSpec("toy"), WRITE, engine_command=FAKE)

    async def until(there):
        async with asyncio.timeout(20):
            while not there():
                await pilot.pause(0.02)

    async with app.run_test(size=(120, 36)) as pilot:
        log = app.frame.log
        await until(lambda: len(log.steps) > 5)
        await pilot.press("1", "S")
        await until(lambda: log.steps[-1].shadow is not None)
        await pilot.press("space")
        await until(lambda: log.proposed is not None)
        await pilot.press("H")
        await until(lambda: log.sampled is not None)
        await settled(app, pilot)
        assert "discrete semantic entropy · 8 draws · normalised text" in screen_text(app)
        await pilot.press("escape", "Y", "space")
        await until(lambda: log.twin is not None and len(log.twin.steps) > 12)
        await pilot.press("space", "B", "down", "r", "x", "enter")
        await until(lambda: log.runs[2].name == "x")
        assert app.query_one("#twin").display
