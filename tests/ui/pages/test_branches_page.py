"""Branches on the screen: the forest, what its keys tell the engine, the diff, and text that is edited."""

import made
import made_lanes as lanes
import pytest
from drawn_rows import rows
from hypothesis import given
from hypothesis import strategies as st
from inspectors import screen_text, settled, up
from made_frames import PAINTS, SIZES, frame_of
from shown_logs import shown

from tui_entropy.records.commands import Branch, Go, Label, Write
from tui_entropy.records.events import Labelled, Memory, Started
from tui_entropy.state.run_view import changes
from tui_entropy.ui.actions.prompt import edited
from tui_entropy.ui.dialogs.pasted_text import typed_as
from tui_entropy.ui.pages.runs.branches import Branches, forest
from tui_entropy.ui.pages.runs.diff import Diff
from tui_entropy.ui.panes.status import Status

# --- The forest --------------------------------------------------------------------------------------------------


def test_each_branch_stands_under_its_parent_and_hidden_ones_only_where_they_are_asked_for():
    tree = forest(lanes.forest(), hidden=False)
    assert [(view.started.run, guide) for view, guide in tree] == [
        (1, ""), (2, "├"), (3, "│├"), (5, "│└"), (6, "└"), (7, ""),
    ]  # fmt: skip
    assert [view.started.run for view, _ in forest(lanes.forest(), hidden=True)] == [1, 2, 3, 5, 4, 6, 7]


def test_a_hidden_branch_stays_where_one_of_its_own_is_shown():
    log = lanes.forest()
    log.append(Labelled(2, "", False, True))
    assert 2 in [view.started.run for view, _ in forest(log, hidden=False)]


def test_parents_that_are_none_make_roots_and_no_circle():
    log = lanes.view_of([made.started(run=1, parent=2), made.started(run=2, parent=1), made.started(run=3, parent=3)])
    assert [guide for _, guide in forest(log, hidden=False)] == ["", "└", ""]


def test_a_row_says_where_a_branch_parts_what_it_took_what_was_set_and_how_it_goes_on():
    shown = rows(Branches(), lanes.forest(), 160, 30, branch=3)
    (row,) = [row for row in shown if "3★" in row]
    assert "hotter, and why" in row and "step 21 ·its for ·else" in row and " 40 " in row and "T 0.7→1.2" in row
    assert any(row.startswith("goes on with: its kings") for row in shown)
    assert any("another prompt" in row for row in shown)
    assert any("step 15, the same so far" in row for row in shown)
    assert changes(lanes.forest().runs[4], lanes.forest().runs[1]) == ["warm on +1"]


def test_it_says_what_is_kept_for_going_back_and_how_the_model_does_it():
    log = made.log(5)
    log.append(Memory(10**9, None, 10**6, kept=12_000_000, bound=2**30))
    log.rewinds = "by cropping its cache, exact"
    shown = "\n".join(rows(Branches(), log, 120, 12))
    assert "12 MB of at most 1.1 GB kept" in shown and "goes back by cropping its cache, exact" in shown
    assert "kept 12 MB" in rows(Status(), log, 160, 1)[0]


def test_what_was_set_in_the_parent_where_they_part_counts_and_not_what_was_set_later():
    log = made.log(30)  # T 1.2 from step 9 on, warm on from step 20 on
    log.append(made.started(run=2, parent=1, shared=12, knobs=log.knobs))
    assert changes(log.runs[2], log.runs[1]) == []
    log.append(made.started(run=3, parent=1, shared=4))
    assert changes(log.runs[3], log.runs[1]) == []
    log.append(made.started(run=4, parent=1, shared=25))
    assert changes(log.runs[4], log.runs[1]) == ["T 1.2→0.7", "warm off"]


def test_the_run_on_screen_and_the_chosen_one_are_marked_without_colour():
    shown = rows(Branches(), lanes.forest(), 120, 30, branch=3, paint=PAINTS[2])
    assert [row[:2] for row in shown[2:8]] == ["  ", " @", "> ", "  ", "  ", "  "]
    assert "|- 2" in shown[3] and "|  |- 3*" in shown[4]


@pytest.mark.parametrize("run", [1, 10, 160, 309])
def test_of_hundreds_the_chosen_one_is_in_view_and_only_what_is_seen_is_looked_at(run, monkeypatch):
    log = lanes.many(300)
    looked = []
    words = "tui_entropy.ui.pages.runs.branches._words"
    monkeypatch.setattr(words, lambda view, parent, paint: looked.append(view) or "")
    drawn = rows(Branches(), log, 120, 20, branch=run)
    assert any(row.startswith("▶") for row in drawn) and len(looked) <= 20


async def test_keys_on_the_page_of_branches_go_name_star_hide_and_compare():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, lanes.forest())
        await pilot.press("B", "down", "asterisk", "s", "delete", "d")
        assert app.sent == [Label(3, starred=False), Label(3, starred=False), Label(3, deleted=True)]
        assert app.place == "diff"
        await pilot.press("d", "up")
        await settled(app, pilot)
        assert app.place == "branches" and made.value(app.frame, "branch") == 2
        await pilot.press("d")
        assert "run on screen" in app.frame.notice and app.place == "branches"
        app.sent.clear()
        await pilot.press("down", "down", "r")
        await pilot.pause()
        await pilot.press("n", "e", "w", "enter")
        assert app.sent == [Label(5, name="new")]
        await pilot.press("B") if app.place != "branches" else None
        await pilot.press("enter")
        assert app.sent[1:] == [Go(5)] and app.place == ""


async def test_a_hidden_branch_is_listed_when_asked_for_and_can_be_shown_again():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, lanes.forest())
        await pilot.press("B")
        await settled(app, pilot)
        assert "├─ 4" not in screen_text(app)
        await pilot.press("h", "down", "down", "down")
        await settled(app, pilot)
        assert "├─ 4" in screen_text(app) and made.value(app.frame, "branch") == 4
        await pilot.press("delete")
        assert app.sent == [Label(4, deleted=False)]


# --- The diff ----------------------------------------------------------------------------------------------------


def test_a_diff_names_where_two_runs_part_with_what_each_thought_of_both_tokens():
    drawn = rows(Diff(), lanes.forest(), 120, 30, branch=3)
    one, other = lanes.forest().runs[2].steps[20], lanes.forest().runs[3].steps[20]
    mine = next(row for row in drawn if row.startswith("step 21 in run 2"))
    assert "▶ ·else" in mine and "   ·its" in mine
    assert f", {100 * one.final_prob:.1f} %" in mine and f", {100 * other.final_prob:.1f} %" in mine
    assert any("[- else" in row and "{+ its" in row for row in drawn)


@pytest.mark.parametrize("width", [80, 120])
def test_a_diff_loses_no_text(width):
    drawn = rows(Diff(), lanes.forest(), width, 60, branch=3)
    text = "".join(drawn[4:])
    for word in ("ville", "Seine", "[- else", "{+ its"):
        assert word in text
    assert text.count("Seine") == (2 if width == 120 else 1)


def test_a_diff_opens_where_the_runs_part_and_scrolls_to_both_ends():
    log = lanes.view_of([made.started(), *lanes.written(1, 0, 800)])
    for event in lanes.branch(2, 1, 500, 900, frozenset({500})):
        log.append(event)
    view = Diff()
    assert any("{+" in row for row in rows(view, log, 100, 20, branch=1))
    row = 0
    for _ in range(2000):
        row = view.moved(frame_of(log, branch=1, row=row), -10)["row"]
    assert rows(view, log, 100, 20, branch=1, row=row)[4].startswith(" The capital")
    for _ in range(2000):
        row = view.moved(frame_of(log, branch=1, row=row), 10)["row"]
    assert row > 0 and len(rows(view, log, 100, 20, branch=1, row=row)) == 20


# --- Edits -------------------------------------------------------------------------------------------------------

TEXTS = st.lists(st.text(max_size=4), max_size=12)


@given(TEXTS, st.text(max_size=8))
def test_an_edit_of_the_very_end_keeps_every_token_that_is_whole(texts, more):
    kept, rest = edited(texts, typed_as("".join(texts)) + more)
    whole = [*texts]
    while whole and not whole[-1]:
        whole.pop()
    assert kept == len(whole) and rest == more


@given(TEXTS, st.text(alphabet="ab \n", max_size=6), st.data())
def test_what_was_not_touched_is_as_it_was_letter_by_letter(texts, new, data):
    before = "".join(texts)
    first = data.draw(st.integers(0, len(before)))
    last = data.draw(st.integers(first, len(before)))
    shown = typed_as(before)
    kept, rest = edited(texts, shown[:first] + new + shown[last:])
    after = "".join(texts[:kept]) + rest
    assert typed_as(after) == shown[:first] + new + shown[last:]
    assert after.startswith("".join(texts[:kept])) and len(after) == len(before) - (last - first) + len(new)


@given(st.text())
def test_what_an_editor_is_given_can_be_shown_and_comes_back_as_it_is(text):
    given_it = typed_as(text)
    assert len(given_it) == len(text)
    assert "\n".join(f"{given_it}.".splitlines()) == f"{given_it}."
    assert all(char in "\n\t" or char.isprintable() for char in given_it)


def test_an_edit_inside_keeps_whole_tokens_up_to_the_change():
    texts = [" The", " capital", " of", " France"]
    assert edited(texts, " The capitol of France") == (1, " capitol of France")
    assert edited(texts, " The capital") == (2, "")
    assert edited(texts, "") == (0, "")
    assert edited([" a", "", "é"], " aè") == (1, "è")


async def test_e_opens_the_text_at_the_cursor_and_what_is_sent_is_a_branch():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, lanes.forest(), cursor=2, following=False)
        await pilot.press("e")
        await pilot.pause()
        assert "kept up to the first change" in screen_text(app) and app.place == "prompt"
        box = app.prompts.box
        assert box.text.cursor_location == (0, len(" The capital"))
        await pilot.press("enter")
        assert app.sent == [] and "nothing is changed" in app.frame.notice and app.place == "prompt"
        box.text.text = "".join(app.frame.log.steps.texts[:3]) + " Spain"
        await pilot.press("enter")
        assert app.sent == [Branch(2, 3, text=" Spain", pause=True)] and app.place == ""
        await pilot.press("i")
        await pilot.pause()
        assert box.text.text == "" and "new prompt" in screen_text(app)


async def test_I_edits_the_prompt_and_a_new_one_that_was_begun_is_not_lost():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await shown(pilot, lanes.forest())
        await pilot.press("i", "h", "a", "l", "f", "escape", "I")
        await pilot.pause()
        assert app.prompts.box.text.text == made.PROMPT and "edit of the prompt" in screen_text(app)
        await pilot.press("enter")
        assert "nothing is changed" in app.frame.notice
        await pilot.press("exclamation_mark", "enter")
        (written,) = [command for command in app.sent if isinstance(command, Write)]
        assert (written.prompt, written.parent) == (f"{made.PROMPT}!", 2)
        await pilot.press("i")
        await pilot.pause()
        assert app.prompts.box.text.text == "half"


async def test_hostile_text_in_the_editor_reaches_no_terminal():
    log = lanes.view_of([made.started(), made.step(0, lanes.HOSTILE.encode("utf-8", "replace"))])
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot, log)
        await pilot.press("e")
        await pilot.pause()
        assert screen_text(app).replace("\n", "").isprintable()
        await pilot.press("enter")
        assert "nothing is changed" in app.frame.notice


# --- Whatever they are shown ---------------------------------------------------------------------------------------


def hostile():
    log = lanes.forest()
    for run in (1, 2, 3):
        log.append(Labelled(run, lanes.HOSTILE, True))
        for index in range(40, 44):
            log.append(made.step(index, lanes.HOSTILE.encode("utf-8", "replace"), run=run))
    log.append(Started(9, lanes.HOSTILE, lanes.HOSTILE, True, (), log.knobs, (), 9, parent=1, how=lanes.HOSTILE))
    return log


@pytest.mark.parametrize("view", [Branches, Diff])
@pytest.mark.parametrize("paint", PAINTS)
@pytest.mark.parametrize("size", [*SIZES, (120, 36)], ids=str)
def test_hostile_names_and_text_are_drawn_within_the_view(view, paint, size):
    for log in (hostile(), lanes.forest()):
        for branch in (0, 2, 3, 9):
            made_view = view()
            for strip in made_view.draw(frame_of(log, paint=paint, branch=branch, hidden=True), *size):
                text = "".join(segment.text for segment in strip)
                assert strip.cell_length <= size[0] and text.isprintable()
