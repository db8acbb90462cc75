"""Every view on the step that is held up, whatever the size, the terminal and what a model or a person wrote."""

import unicodedata
from itertools import product

import made
import pytest
from made_frames import PAINTS, VIEWS, frame_of

from tui_entropy.records.events import BreakpointsChanged, Paused, Proposed, WatchesChanged
from tui_entropy.records.settings import Breakpoint, Watch
from tui_entropy.records.step import Stage, Watched
from tui_entropy.ui.dialogs.ask_line import Ask
from tui_entropy.ui.drawing.glyphs import visible_bytes
from tui_entropy.ui.pages.breakpoints import Breakpoints
from tui_entropy.ui.pages.watches import Watches
from tui_entropy.ui.pages.waterfall import Waterfall
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.protocol.remark import Remark

ALL = tuple(dict.fromkeys((*VIEWS, Breakpoints, Watches)))
SIZES = ((7, 3), (40, 8), (80, 24), (120, 36), (200, 60))
HOSTILE = "\x1b]0;x\x07\u202e[/]\x9b2J\u200b \n"


def stopped(n_steps=12, text=" Paris", watch=" Yes", expression="entropy > 3", **fields):
    log = made.log(n_steps)
    log.append(BreakpointsChanged((Breakpoint(1, expression, False, 4, text), Breakpoint(2, "step % 5 == 0"))))
    log.append(WatchesChanged(1, n_steps, (Watch(watch, 300, text.encode(), 2), Watch(" No", 301, b" No", 1))))
    log.append(Paused(1, "breakpoint 1", 1))
    seen = (Watched(300, -1.0, 3, 7.5), Watched(301, -3.0, 9, 5.5))
    log.append(Proposed(made.step(n_steps, text, **{"watched": seen, **fields})))
    return log


def drawn(view, log, width, height, **fields):
    return view.draw(frame_of(log, **{"cursor": len(log.steps), **fields}), width, height)


@pytest.mark.parametrize("view", ALL)
@pytest.mark.parametrize("n_steps", [0, 1, 60, 512])
def test_every_view_draws_it_within_its_size(view, n_steps):
    log = stopped(n_steps)
    for (width, height), paint in product(SIZES, PAINTS):
        strips = drawn(view(), log, width, height, paint=paint, token=3)
        assert len(strips) <= height and all(strip.cell_length <= width for strip in strips)


@pytest.mark.parametrize("view", [view for view in ALL if view is not TokenStream])
def test_in_plain_ascii_it_is_plain(view):
    log = stopped(0)
    for strip in drawn(view(), log, 120, 36, paint=PAINTS[2]):
        assert strip.text.isascii(), strip.text


def test_in_plain_ascii_it_stands_in_brackets_too():
    assert "<_Paris>" in "\n".join(strip.text for strip in drawn(TokenStream(), stopped(), 80, 24, paint=PAINTS[2]))


@pytest.mark.parametrize("view", ALL)
def test_nothing_that_a_model_or_a_person_wrote_is_a_command(view):
    log = stopped(12, HOSTILE, HOSTILE, HOSTILE, stages=(Stage(HOSTILE, 1, 1.0, 0.0),), state=HOSTILE)
    for width, paint in product((40, 120), PAINTS):
        for strip in drawn(view(), log, width, 36, paint=paint):
            assert strip.cell_length <= width
            assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in strip.text)


def test_the_mean_of_a_series_is_of_what_is_written():
    """Also where a stretch of the text is complete but for the step that is held up."""
    from tui_entropy.metrics.registry import BY_NAME
    from tui_entropy.ui.pages.numbers import CHUNK, Numbers

    pane, log = Numbers(), stopped(CHUNK - 1)
    drawn(pane, log, 120, 40)
    log.append(made.step(CHUNK - 1, entropy=1000.0))
    log.append(Proposed(made.step(CHUNK)))
    row = next(strip.text for strip in drawn(pane, log, 120, 40) if " entropy  " in strip.text)
    values = list(log.steps.values(BY_NAME["entropy"]))
    assert f"{sum(values) / len(values) / 0.6931471805599453:.2f}" in row


# --- Watches ---------------------------------------------------------------------------------------------------


def texts(view, log, width=120, height=36, **fields):
    return [strip.text for strip in drawn(view, log, width, height, **fields)]


def test_a_watch_is_told_with_its_probability_its_rank_and_how_far_it_is_from_others():
    log = stopped()
    first, second = texts(Watches(), log)[2:4]
    top = log.proposed.candidates[0].logprob
    assert first.split()[:4] == ["▶", "1", "·Yes", "·Paris"]
    assert first.split()[5:9] == ["36.79", "3", "+0.00", f"{-1.0 - top:+.2f}"]
    assert second.split()[2:6] == ["4.98", "9", "-2.00", f"{-3.0 - top:+.2f}"]


def test_before_a_watch_began_it_is_unknown_and_never_zero():
    log = stopped()
    row = texts(Watches(), log)[2]
    assert row.rstrip().endswith("?" * 12 + "▅") or row.rstrip()[-13:-1] == "?" * 12
    row = texts(Watches(), log, cursor=4)[2]
    assert row.split()[5:9] == ["?"] * 4
    assert "·Yes ?" in "\n".join(texts(Candidates(), log, 60, 24, cursor=4))


def test_watches_stand_under_the_candidates_where_there_is_room():
    assert "·Yes 36.8 % rank 3  ·No 5.0 % rank 9" in "\n".join(texts(Candidates(), stopped(), 60, 24))


# --- Breakpoints -----------------------------------------------------------------------------------------------


def test_breakpoints_are_told_with_their_hits_and_which_one_stopped():
    rows = texts(Breakpoints(), stopped())
    assert "1 of 2 on" in rows[0]
    assert rows[2].split()[:3] == ["▶", "1", "○"] and "4  entropy > 3 bits" in rows[2]
    assert "stopped here, off,  Paris" in rows[2]
    assert "step % 5 == 0" in rows[3] and rows[4].split() == ["+", "a", "adds", "one"]


def test_what_can_be_named_is_told_with_what_it_is_now():
    log = stopped(position=77)
    text = "\n".join(texts(Breakpoints(), log))
    assert "what it is at step 13" in text and "position 77" in text and f'token "{" Paris"}"' in text
    assert "kl ?" in text and 'p[" Yes"]' in text


# --- One question ----------------------------------------------------------------------------------------------


def asked(text, check=lambda _: Remark(), width=60):
    view = Ask("name:", print, text, check, [])
    return view, [strip.text for strip in view.draw(frame_of(made.log(1)), width, 3)]


def test_a_caret_stands_under_what_is_wrong():
    _, (answer, under) = asked("entropy >", lambda text: Remark("it ends too soon", len(text)))
    assert answer.startswith("name: entropy > ")
    assert under == " " * len("name: entropy >") + "^ it ends too soon"


def test_what_is_wrong_far_to_the_right_is_told_on_a_line_of_its_own():
    _, rows = asked("x" * 200, lambda text: Remark("this is much too long for anything of this kind", 199), 60)
    assert rows[1].strip() == "^" and rows[2].startswith("this is much")
    assert all(len(row) <= 60 for row in rows)


def test_what_is_pasted_is_shown_and_never_obeyed():
    for text in (HOSTILE, HOSTILE * 30):
        _, rows = asked(text, lambda text: Remark(text, 3))
        assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for row in rows for char in row)


def test_the_name_of_a_token_with_no_character_is_its_bytes():
    log = stopped()
    log.append(Proposed(made.step(12, b"\xf0\x9f")))
    assert f"‹{visible_bytes(bytes([0xF0, 0x9F]))}›" in "\n".join(texts(TokenStream(), log, 80, 24))
    assert "next" in texts(Waterfall(), log)[0]
