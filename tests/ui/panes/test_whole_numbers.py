"""No number of any pane or page is cut, however narrow it is: it stands there whole, or what it belongs to is left
out."""

import re
from collections.abc import Iterator

import made
import made_lanes
import pytest
from made_frames import VIEWS, frame_of

from tui_entropy.records.events import Paused
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.pages.breakpoints import Breakpoints
from tui_entropy.ui.pages.layers import Layers
from tui_entropy.ui.pages.numbers import Numbers
from tui_entropy.ui.pages.probes import Probes
from tui_entropy.ui.pages.server import Server
from tui_entropy.ui.pages.sessions import Sessions
from tui_entropy.ui.pages.watches import Watches
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.hints import Hints
from tui_entropy.ui.panes.knobs import KnobStrip
from tui_entropy.ui.panes.status import Status
from tui_entropy.ui.panes.stream import TwinStream
from tui_entropy.ui.views.list_view import Rows
from tui_entropy.ui.views.view import View

ALL = (*VIEWS, TwinStream, Hints, Breakpoints, Watches, Probes, Server, Sessions)
CUT = re.compile(r"(\d[.,]?|(?<!\w)[-+])…(?!\d)")  # 2.1…3.4 are two numbers
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w.])")
WIDTHS = range(20, 201)


def paused() -> SessionView:
    log = made.log(60)
    log.append(made.attention(last=log.steps[-1].position - 1))
    log.append(Paused(1, "breakpoint"))
    return log


LOGS = {
    "paused": paused, "shadowed": made_lanes.shadowed, "twins": made_lanes.twins, "forest": made_lanes.forest,
    "fanned": made_lanes.fanned,
}  # fmt: skip


def concrete(view: type[View] = View) -> Iterator[type[View]]:
    for kind in view.__subclasses__():
        if kind.__module__.startswith(("tui_entropy.ui.panes.", "tui_entropy.ui.pages.")):
            yield kind
        yield from concrete(kind)


def test_every_view_is_looked_at():
    assert set(concrete()) - {Rows} == set(ALL)


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("view", ALL)
def test_no_number_is_cut_at_any_width(view: type[View], name: str):
    log = LOGS[name]()
    frame = frame_of(log, knobs=log.knobs, cursor=20)
    for width in WIDTHS if name == "paused" else (20, 33, 46, 47, 71, 79, 80, 95, 110, 120, 140, 160):
        for strip in view().draw(frame, width, 15):
            assert strip.cell_length <= width
            assert not CUT.search(strip.text), f"{width}: {strip.text}"


@pytest.mark.parametrize("view", [Candidates, Status, KnobStrip, Hints, Numbers, Layers])
def test_a_narrow_pane_shows_no_number_that_a_wide_one_does_not(view: type[View]):
    log = paused()
    frame = frame_of(log, knobs=log.knobs, cursor=20)

    def numbers(width: int) -> set[str]:
        """Those of the course of a series, which says how many tokens it has room for, are not of the pane."""
        text = "\n".join(strip.text for strip in view().draw(frame, width, 60))
        return set(NUMBER.findall(re.sub(r"(newest|last) \d+", "", text)))

    whole = set().union(*(numbers(width) for width in (220, 260, 300, 400)))
    for width in WIDTHS:
        assert numbers(width) <= whole, width
