"""How the record of a run ends that did not come to its end."""

from __future__ import annotations

import traceback

from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import PipeClosed
from tui_entropy.records.events import Ended, Failed


def ended_by(run: int, error: BaseException) -> Ended | Failed:
    """The event that the record ends with for a run that did not come to its end."""
    match error:
        case KeyboardInterrupt():
            return Ended(run, "stopped by ctrl-C")
        case PipeClosed():
            return Ended(run, "stopped, since nobody reads stdout any more")
        case UserError():
            return Ended(run, str(error))
        case _:
            return Failed(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))
