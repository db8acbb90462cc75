"""Which run is chosen on the page of branches."""

from __future__ import annotations

from dataclasses import dataclass

from tui_entropy.ui.views.frame import Frame


@dataclass(frozen=True)
class BranchesState:
    """The state that the page of branches keeps."""

    branch: int = 0
    """The run that its keys act on, and that a diff compares; 0 for the one that is looked at."""
    hidden: bool = False
    """Branches that were deleted are listed too."""


def chosen(frame: Frame) -> int:
    """The run that keys act on: the one that is looked at until another is chosen."""
    branch = frame.of(BranchesState).branch
    return branch if branch in frame.log.runs else frame.log.run_number
