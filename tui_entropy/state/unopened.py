"""UnopenedRecording: one that a source began with, and that nobody has gone on with yet."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Command, Reopen, SelectHead
from tui_entropy.records.events import Differences
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer
from tui_entropy.records.source import Audience

MORE_TOKENS = 512
"""Tokens that may be written where nothing is left of a run's own limit, and nobody said how many."""


class UnopenedRecording(Struct, frozen=True):
    """What may be done before a person agreed to go on with it."""

    path: str
    differences: tuple[str, ...]
    """Half a sentence for each way in which something is not what it was."""

    def is_agreed(self, command: Reopen, audience: Audience) -> bool:
        """Whether it is gone on with; where something differs and nobody agreed to that, they are asked. Raises
        UserError for another recording."""
        if self.path != command.path:
            raise not_begun_with(command.path)
        if self.differences and not command.despite:
            audience.answer(Differences(command.path, self.differences))
            return False
        return True

    def put_off(self, command: Command, audience: Audience) -> None:
        """What cannot be done yet. A screen asks and looks by itself, and is not refused. Raises UserError for all
        else."""
        if isinstance(command, AskProbe):
            answer = ProbeAnswer(command.name, command.run, command.position, command.options, record=False)
            audience.answer(replace(answer, unavailable="this recording is not gone on with yet"))
        elif not isinstance(command, SelectHead):
            raise UserError("this recording is not gone on with yet: agree to what differs, or begin another text")


def not_begun_with(path: str) -> UserError:
    return UserError(f"this engine did not begin with {path}: `tui-entropy open` starts one that does")
