"""Frames and paints that views are drawn with."""

import made

from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.pages.big_chart import BigChart
from tui_entropy.ui.pages.layers import Layers
from tui_entropy.ui.pages.numbers import Numbers
from tui_entropy.ui.pages.quadrants import Quadrants
from tui_entropy.ui.pages.runs.branches import Branches
from tui_entropy.ui.pages.runs.comparison import Lanes
from tui_entropy.ui.pages.runs.continuations import Fan
from tui_entropy.ui.pages.runs.diff import Diff
from tui_entropy.ui.pages.waterfall import Waterfall
from tui_entropy.ui.panes.attention import AttentionMap
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.chart import Chart
from tui_entropy.ui.panes.heads import HeadGrid
from tui_entropy.ui.panes.knobs import KnobStrip
from tui_entropy.ui.panes.status import Status
from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.views.frame import Frame

LANES = (Branches, Diff, Lanes, Fan)
PAGED = (Numbers, Layers, Waterfall, Quadrants, BigChart)
VIEWS = (TokenStream, Chart, Candidates, HeadGrid, AttentionMap, KnobStrip, Status, *PAGED, *LANES)
SIZES = ((1, 1), (7, 3), (20, 2), (48, 8), (80, 5), (80, 24), (200, 60))
PAINTS = (Paint(), Paint(color="16"), Paint(color="mono", ascii=True))


def frame_of(log: SessionView, **fields: object) -> Frame:
    """fields: of the frame, and of what pages keep."""
    cursor = len(log.steps) - 1 if log.steps else None
    of_pages = {name: fields.pop(name) for name in fields.keys() - Frame.__dataclass_fields__.keys()}
    own = {"paint": PAINTS[0], "cursor": cursor, "layer": 29, "pages": made.kept_by_pages(**of_pages)}
    return Frame(log, **(own | fields))  # type: ignore[arg-type]
