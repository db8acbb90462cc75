"""Next and previous of what matters in a text, and its search."""

from itertools import pairwise

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspectors import screen_text, settled, up
from made_frames import frame_of
from recordings import recorded, session

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import Ended, KnobsChanged, Paused, Ready
from tui_entropy.records.sampling import Knobs
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.views.jump_targets import KINDS, MATCHES, JumpState, Matches, choices, count, targets
from tui_entropy.ui.views.tint_scale import scale_of

TEXTS = [" The", " cat", " and", " the", " oth", "er", ",", " over", " there", "\n", "THE"]


def text_of(n=40, **fields):
    log = made.log(n, texts=TEXTS, marks=False)
    return frame_of(log, **fields)


def searching(query, frame):
    return targets(frame_of(frame.log, kind=MATCHES, query=query))


# --- What is jumped to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relative", [True, False])
def test_hot_tokens_are_those_with_the_hot_colour(relative):
    frame = text_of(300, relative=relative)
    for n in range(3):
        frame.log.append(made.step(300 + n, " odd", entropy=9.0))
    values = frame.log.steps.values(frame.tint)
    scale, paint = scale_of(frame), frame.paint
    hottest = paint.calm_tint(3) if relative else paint.tint(1.0)
    above = [at for at, value in enumerate(values) if scale.style(paint, value) == hottest]
    found = targets(frame)
    assert found and set(found) <= set(above)
    assert not relative or list(found) == above


def test_hot_tokens_follow_the_tint_and_a_text_that_grows_or_is_shown_from_the_start_again():
    log = made.log(60, texts=TEXTS, marks=False)
    for name in ("entropy", "surprisal", "entropy"):
        frame = frame_of(log, tint=BY_NAME[name])
        scale = scale_of(frame)
        assert list(targets(frame)) == [
            at for at, value in enumerate(log.steps.values(frame.tint)) if scale.is_hot(value)
        ]
        log.append(made.step(len(log.steps), " more", entropy=9.0))


def test_changes_and_breakpoint_hits_are_where_they_were():
    log = made.log(12, marks=False)
    log.append(KnobsChanged(1, 12, Knobs(temperature=1.2)))
    log.append(Paused(1, "breakpoint: rank > 3", 1))
    log.append(made.step(12))
    log.append(Paused(1, "by you"))
    log.append(made.step(13))
    frame = frame_of(log, kind="changes")
    assert list(targets(frame)) == [12] and count(frame) == "1 changes"
    assert list(targets(frame_of(log, kind="breakpoint hits"))) == [12]
    assert choices(frame) == ["hot tokens", "breakpoint hits", "changes"]


def test_a_branch_has_the_hits_of_what_it_shares():
    log = made.log(5, marks=False)
    for n in (5, 6, 7):
        log.append(Paused(1, "breakpoint: rank > 3", 1))
        log.append(made.step(n))
    log.append(made.started(run=2, parent=1, shared=6))
    assert log.run.breakpoint_hits == [5]


# --- The search ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [("the", [0, 3, 4, 8, 10]), ("The", [0]), ("THE", [10]), ("other,", [4]), (" the", [0, 3, 8]), ("\n", [9]),
     ("there\nthe", [8]), (".", []), ("e o", [3])],
)  # fmt: skip
def test_a_search_goes_over_the_borders_of_tokens_and_small_letters_find_capitals(query, found):
    assert list(searching(query, text_of(len(TEXTS)))) == found


@given(st.lists(st.text("abA", max_size=3), max_size=12), st.text("abA", min_size=1, max_size=3), st.integers(1, 5))
def test_a_search_in_a_text_that_grows_finds_what_one_of_the_whole_finds(texts, query, stride):
    grown, whole = Matches(query), Matches(query)
    for n in range(0, len(texts) + stride, stride):
        grown.update(texts[:n])
    whole.update(texts)
    assert grown.spans == whole.spans
    joined = "".join(texts)
    fold = str.lower if query == query.lower() else str
    assert len(whole.spans) == fold(joined).count(query)
    assert all(one[1] <= two[1] for one, two in pairwise(whole.spans))
    for first, last in whole.spans:
        assert fold(query) in fold("".join(texts[first : last + 1]))
        assert all(whole.holds(step) for step in range(first, last + 1))
    whole.update(texts[:3])
    again = Matches(query)
    again.update(texts[:3])
    assert whole.spans == again.spans


@pytest.mark.parametrize("color", ["truecolor", "16", "mono"])
def test_matches_are_marked_in_the_text_token_by_token(color):
    paint = Paint(color=color)
    frame = frame_of(made.log(len(TEXTS), texts=TEXTS, marks=False), paint=paint, cursor=1, following=False,
                     kind=MATCHES, query="other,")  # fmt: skip
    strips = TokenStream().draw(frame, 80, 20)
    marked = "".join(segment.text for strip in strips[1:] for segment in strip if segment.style == paint.match)
    assert marked == " other,"
    assert paint.match not in (paint.cursor, *(paint.calm_tint(step) for step in range(4)))


def test_a_match_that_a_later_token_completes_is_marked_on_lines_that_are_drawn_already():
    texts = ["word "] * 30 + ["half"]
    log, stream = made.log(31, texts=texts, marks=False), TokenStream()
    look = {"kind": MATCHES, "query": "word half\nend", "cursor": 0, "following": False}
    assert not marked(stream, frame_of(log, **look))
    log.append(made.step(31, "\n"))
    log.append(made.step(32, "end"))
    assert marked(stream, frame_of(log, **look)).replace(" ", "") == "wordhalf⏎end"


def marked(stream, frame):
    strips = stream.draw(frame, 60, 20)[1:]
    return "".join(segment.text for strip in strips for segment in strip if segment.style == frame.paint.match)


# --- The keys ------------------------------------------------------------------------------------------------------


async def typed(pilot, text):
    for letter in text:
        await pilot.press({" ": "space", ",": "comma"}.get(letter, letter))


async def test_the_pair_goes_through_hot_tokens_and_after_a_search_through_its_matches():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        log = made.log(44, texts=TEXTS, marks=False)
        start = log.run.started
        app.take([Ready(made.card()), start, *log.steps, Ended(1, "end of text")])
        await settled(app, pilot)
        hot = list(targets(app.frame))
        app.go_to(0)
        went = []
        for _ in hot:
            await pilot.press("semicolon")
            went.append(app.frame.cursor)
        assert went == ([*hot[1:], hot[0]] if hot[0] == 0 else hot) and len(hot) > 1
        await pilot.press("colon")
        assert app.frame.cursor == hot[hot.index(went[-1]) - 1]
        await settled(app, pilot)
        assert f"{hot.index(app.frame.cursor) + 1} of {len(hot)} hot tokens" in screen_text(app)
        app.go_to(1)
        await pilot.press("slash")
        await typed(pilot, "the")
        assert "20 'the'" in screen_text(app)
        await pilot.press("enter")
        assert app.frame.cursor == 3 and not app.frame.following
        await settled(app, pilot)
        assert "2 of 20 'the'" in screen_text(app)
        await pilot.press("semicolon", "semicolon")
        assert app.frame.cursor == 8
        await pilot.press("colon")
        assert app.frame.cursor == 4
        app.go_to(0)
        await pilot.press("colon")
        assert app.frame.cursor == 43 and "from the last on again" in app.frame.notice
        await pilot.press("slash", "enter")
        assert app.frame.of(JumpState) == JumpState()


async def test_a_search_without_a_match_says_so_and_leaves_the_cursor():
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        log = made.log(20, texts=TEXTS, marks=False)
        app.take([Ready(made.card()), log.run.started, *log.steps])
        await settled(app, pilot)
        app.go_to(5)
        await pilot.press("slash")
        await typed(pilot, "zebra")
        await pilot.press("enter")
        assert app.frame.cursor == 5 and app.frame.notice == "no 'zebra' in this text"
        await pilot.press("semicolon")
        assert app.frame.cursor == 5 and "there are no 'zebra'" in app.frame.notice
        await pilot.press("apostrophe")
        assert "hot tokens" in app.frame.notice


async def test_it_works_in_a_replay_and_what_is_not_shown_yet_is_not_found(tmp_path):
    file = recorded(tmp_path / "story.tui", *session(30, layers=2, heads=2), layers=2, heads=2)
    app = ReplayApp(Playback(Trace.open(file), first=None))
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        app.show(**app.frame.put(JumpState, kind=MATCHES, query="e"))
        found = list(targets(app.frame))
        await pilot.press("colon")
        assert app.frame.cursor in found
        app.playback.seek(10)
        app.come_to()
        assert list(targets(app.frame)) == [step for step in found if step < 10]


async def test_a_hostile_query_is_drawn_as_signs():
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        log = made.log(20, texts=TEXTS, marks=False)
        app.take([Ready(made.card()), log.run.started, *log.steps])
        await settled(app, pilot)
        app.show(**app.frame.put(JumpState, kind=MATCHES, query="\x1b[31m‮[b]" + "x" * 99))
        await settled(app, pilot)
        assert "\x1b" not in screen_text(app) and "…'" in count(app.frame)


def test_every_kind_is_known_by_a_name_that_the_label_of_its_key_tells():
    assert next(iter(KINDS)) == JumpState().kind and {*KINDS} >= {"flips", MATCHES}
