"""What a view draws, as rows of text."""

from made_frames import frame_of

from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.views.view import View


def rows(view: View, log: SessionView, width: int, height: int, **fields: object) -> list[str]:
    return [strip.text for strip in view.draw(frame_of(log, **fields), width, height)]
