"""Limits of screens on an engine: bytes, timeouts, and the sentences for those that are let go."""

from __future__ import annotations

from tui_entropy.records.commands import Command, Pause, Stop

MAX_BACKLOG_BYTES = 32 * 2**20
"""Bytes that may wait for a screen."""
MAX_CATCH_UP_BYTES = 2**20
"""Bytes of what it missed that may wait for it."""
CATCH_UP_SLICE_S = 0.02
"""Seconds that telling one screen what it missed may take between two tokens."""
FIRST_COMMAND_TIMEOUT_S = 60.0
"""Seconds for the first order to come; a screen that was killed before never gives it."""
STARTER_TIMEOUT_S = 1.0
"""Seconds for whoever started the engine to come, before it begins without."""
CLOSE_TIMEOUT_S = 0.2
"""Seconds that the last words may take."""

WATCHES = "another screen is in control of this engine: ctrl+g takes control"
WAITS = "an application asks for a text, which waits until this one has ended: s ends it"
TOO_MANY_WAIT = "too many texts are asked for at once: ask again later"
TOO_SLOW = "the engine let this screen go, as it did not read for too long: `tui-entropy attach {}` comes back"
LET_GO = "the engine let this screen go ({}): `tui-entropy attach {}` comes back"
FULL = "others came, and it has room for no more"
MEMORY_FULL = "it sent or was sent too much that is not whole or was not read"
MISTAKEN = "the engine was told what it cannot do: {}"
ENDED = "the engine was ended from another screen, by `tui-entropy stop` or by a signal"
LEAVING: dict[str, Command | None] = {"write": None, "pause": Pause("the last screen left"), "stop": Stop()}
"""One of ON_LEAVE -> what it commands."""
