"""What holds for every view, whatever the size, the terminal and the state."""

import unicodedata
from itertools import product

import made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import LANES, PAGED, PAINTS, SIZES, VIEWS, frame_of

from tui_entropy.records.events import Ended, Failed, Paused, Progress, Ready
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.panes.attention import AttentionMap
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.chart import Chart
from tui_entropy.ui.panes.heads import HeadGrid
from tui_entropy.ui.panes.knobs import KnobStrip
from tui_entropy.ui.panes.status import Status
from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.views.view import View


def loading() -> SessionView:
    log = SessionView()
    log.append(Progress("downloading", 45, 93, "MB"))
    return log


def after(*events: object) -> SessionView:
    log = made.log(12)
    for event in events:
        log.append(event)  # type: ignore[arg-type]
    return log


def ready() -> SessionView:
    log = SessionView()
    log.append(Ready(made.card()))
    return log


def full() -> SessionView:
    log = made.log(60)
    log.append(made.attention(last=log.steps[-1].position - 1))
    return log


def lost() -> SessionView:
    log = made.log(12)
    log.lose("the engine was killed")
    return log


STATES = {
    "starting": SessionView, "loading": loading, "ready": ready, "reading": lambda: made.log(0), "writing": full,
    "paused": lambda: after(Paused(1, "asked")), "ended": lambda: after(Ended(1, "end of text")),
    "failed": lambda: after(Failed("out of memory", fatal=True)), "lost": lost,
}  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("state", STATES)
def test_a_view_never_draws_beyond_its_size(view: type[View], state: str):
    log = STATES[state]()
    assert log.state == state
    for (width, height), paint in product(SIZES, PAINTS):
        strips = view().draw(frame_of(log, paint=paint, head=3), width, height)
        assert len(strips) <= height
        assert all(strip.cell_length <= width for strip in strips), (width, height)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("state", ["starting", "ready", "reading"])
def test_an_empty_view_says_something(view: type[View], state: str):
    assert any(strip.text.strip() for strip in view().draw(frame_of(STATES[state]()), 80, 6))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.binary(min_size=1, max_size=12) | st.text(min_size=1, max_size=8).map(str.encode), min_size=1, max_size=8
    )
)
def test_no_byte_of_the_model_reaches_the_terminal_as_a_command(tokens: list[bytes]):
    text = b"".join(tokens).decode("utf-8", "replace")
    log = made.log(0, prompt=text)
    for n, data in enumerate(tokens):
        log.append(made.step(n, data))
    log.append(made.attention(last=log.steps[-1].position - 1))
    for view, width in product(VIEWS, (30, 90)):
        for strip in view().draw(frame_of(log), width, 12):
            assert strip.cell_length <= width
            assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in strip.text)


@pytest.mark.parametrize("view", VIEWS)
def test_drawing_the_same_frame_again_gives_the_same_rows(view: type[View]):
    pane, frame = view(), frame_of(full())
    assert pane.draw(frame, 100, 20) == pane.draw(frame, 100, 20) == view().draw(frame, 100, 20)


@pytest.mark.parametrize("view", [TokenStream, Chart, Candidates, HeadGrid, AttentionMap, *PAGED[:4]])
def test_the_title_names_the_step_under_the_cursor(view: type[View]):
    assert "step 31" in view().draw(frame_of(full(), cursor=30), 100, 20)[0].text


@pytest.mark.parametrize("view", [Chart, Candidates, HeadGrid, AttentionMap, KnobStrip, Status, *PAGED, *LANES])
def test_plain_ascii_is_plain(view: type[View]):
    log = made.log(30, texts=[" plain"])
    log.append(made.attention(last=log.steps[-1].position - 1))
    for strip in view().draw(frame_of(log, paint=PAINTS[2]), 120, 20):
        assert strip.text.isascii(), strip.text
