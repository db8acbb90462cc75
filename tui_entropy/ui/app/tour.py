"""A recording with captions: each is a sentence and what it speaks of, shown when its time has come."""

from __future__ import annotations

import tomllib
from asyncio import TimerHandle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import text_of
from tui_entropy.records.commands import Continue, Pause
from tui_entropy.trace.playback import Playback
from tui_entropy.ui.app.replay_app import PlayActions, ReplayApp
from tui_entropy.ui.keys.keymap import BY_ID, KEY_IDS, PAGES, with_keys
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.views.pane_layout import PANES

TOUR = Path(__file__).parents[2] / "tour"
"""The folder of the recording that ships, and of its captions."""
RESTS = "the tour waits while you look around: space goes on, q leaves"


class Caption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sentence for those who look on, and what is seen with it."""

    at: float
    """Seconds since the beginning."""
    text: str
    """With ids of keys in {}."""
    cursor: int | None = None
    """The token that is looked at, counted from 1; None for the newest."""
    page: str = ""
    pane: str = ""
    """The one in focus; empty for the text."""

    def sentence(self, own: Mapping[str, str], ascii: bool = False) -> str:
        """With each key as it is pressed, where `own` are a person's."""
        return with_keys(self.text, own, ascii)


class Captions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Those of a recording, in order."""

    text_seconds: float
    """In which the text is written, however long that took."""
    caption: tuple[Caption, ...]


def read_captions(path: Path) -> Captions:
    """Raises UserError for what is no such file, and for a caption that names what there is not."""
    try:
        captions = msgspec.convert(tomllib.loads(text_of(path)), Captions)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} holds no captions ({error})") from error
    if not captions.caption or [one.at for one in captions.caption] != sorted(one.at for one in captions.caption):
        raise UserError(f"{path}: wanted one caption at least, in the order of their times")
    for one in captions.caption:
        unknown = [f"key {key}" for key in KEY_IDS.findall(one.text) if key not in BY_ID]
        unknown += [f"page {one.page}"] if one.page and one.page not in PAGES else []
        unknown += [f"pane {one.pane}"] if one.pane and one.pane not in PANES else []
        if unknown:
            raise UserError(f"{path}: the caption at {one.at:g} s names the {unknown[0]}, which there is not")
    return captions


@dataclass
class Timeline:
    """How far it is: seconds that have passed, of which those that somebody stands still are none."""

    passed: float = 0.0
    since: float | None = None
    """When it went on last; None while it stands still."""

    def at(self, now: float) -> float:
        return self.passed + (now - self.since if self.since is not None else 0.0)


class TourApp(ReplayApp):
    """Goes through the captions by itself. Any key acts as in a replay, and the tour waits then until `space`."""

    def __init__(self, playback: Playback, captions: Captions, **more: Any) -> None:
        super().__init__(playback, **more)
        self.captions: Sequence[Caption] = captions.caption
        playback.set_speed(max(playback.seconds / captions.text_seconds, 1e-3))
        self.timeline = Timeline()
        self._nth = -1
        self._alarm: TimerHandle | None = None

    def parts(self) -> Iterable[Actions[Any]]:
        """The actions of keys, where `space` is of the tour too."""
        return *(part for part in super().parts() if not isinstance(part, PlayActions)), TourActions(self)

    def begin(self) -> None:
        super().begin()
        self.go_on()

    def on_unmount(self) -> None:
        super().on_unmount()
        self._wake(None)

    @property
    def goes(self) -> bool:
        """It goes on by itself."""
        return self.timeline.since is not None

    def go_on(self) -> None:
        self.timeline.since = self.clock.time()
        if not self.playback.at_end:
            self.playback.handle(Continue())
            self.schedule()
        self._nth -= self._nth >= 0  # what the person left is shown again
        self._come()

    def rest(self) -> None:
        """Stand still, as it is."""
        self.timeline = Timeline(self.timeline.at(self.clock.time()))
        self._wake(None)
        if self.playback.playing:
            self.playback.handle(Pause())
            self.schedule()

    def on_acted(self, name: str, arguments: tuple[object, ...]) -> None:
        super().on_acted(name, arguments)
        if name not in ("pause", "quit") and self.goes:
            self.rest()
            self.say(RESTS)

    def _come(self) -> None:
        """To the caption whose time it is, and again when the next one's has come."""
        now = self.timeline.at(self.clock.time())
        nth = sum(one.at <= now for one in self.captions) - 1
        if nth != self._nth:
            self._nth = nth
            self._show_caption(self.captions[nth])
        last = nth + 1 == len(self.captions)
        self._wake(None if last else self.captions[nth + 1].at - now)

    def _wake(self, seconds: float | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None if seconds is None else self.clock.call_later(seconds, self._come)

    def _show_caption(self, caption: Caption) -> None:
        self.close_page()
        self.actions["escape"]()
        cursor = None if caption.cursor is None else min(caption.cursor - 1, self.frame.last)
        self.come_to(
            cursor=cursor,
            following=cursor is None,
            caption=caption.sentence(self.frame.keymap, self.frame.paint.ascii),
        )
        if caption.pane:
            self.actions["pane"](caption.pane)
        if caption.page:
            self.open_page(caption.page)

    def _played_text(self) -> str:
        return f"tour {self._nth + 1}/{len(self.captions)}"


class TourActions(PlayActions):
    """Those of a recording; `space` has the tour wait or go on."""

    app: TourApp

    def action_pause(self) -> None:
        if self.app.goes:
            self.app.rest()
        else:
            self.app.go_on()
        self._played()
