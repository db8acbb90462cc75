"""From the command line to a running screen: look at the terminal, choose colours, open the inspector."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_entropy.config.settings import Config, read_config
from tui_entropy.core.look import Look
from tui_entropy.core.streams import say
from tui_entropy.ui.terminal.detect import drawable

if TYPE_CHECKING:
    from textual.driver import Driver

    from tui_entropy.records.commands import Reopen, Write
    from tui_entropy.records.corpus.results import Opening, Results
    from tui_entropy.records.model import ModelSpec
    from tui_entropy.ui.app.viewer import Viewer
    from tui_entropy.ui.drawing.paint import Paint
    from tui_entropy.ui.keys.session_choice import Session

KEPT = ("bits", "tint", "relative", "demo")
"""Fields of a frame that the screen of the next session begins with."""
STAYS = {"TUI_ENTROPY_KEEP": "30m", "TUI_ENTROPY_ON_LEAVE": "write"}
"""How long an engine stays that goes on with a recording from its replay, and what it does alone, as of `open`."""
MAX_TOKENS = 512
"""That may be written on from a text that results are about."""
GIL_SWITCH_S = 0.0005
"""After which the thread that draws makes way for those that read keys and write frames."""


def start(spec: ModelSpec, begin: Write | Reopen | None, look: Look, **engine: Any) -> None:
    """Open the inspector on a text or a recording, and stay until it is left, then tell how to come back. engine: as
    InspectorApp takes it.

    Raises UserError where there is no terminal to draw on.
    """
    stay(
        _inspector(spec, begin, _paint(look, "`run --headless` (and --jsonl) gives plain output"), look, **engine),
        look,
    )


def replay(file: Path, run: int | None, look: Look, *, speed: float, first: int | None) -> None:
    """Show a recording and stay until it is left. first: tokens there at the beginning, None for all.

    Raises UserError for a file that is no recording and where nothing can be drawn.
    """
    from tui_entropy.trace.reader import Trace

    trace = Trace.open(file)
    paint = _paint(look, "--snapshot FILE.svg and --cast FILE.cast need no terminal")
    from tui_entropy.trace.playback import Playback

    stay(_player(Playback(trace, run, speed=speed, first=first), paint, look), look)


def tour(look: Look) -> None:
    """Show the recording that ships, with its captions, and stay until it is left. What is changed there is not kept.

    Raises UserError where nothing can be drawn.
    """
    paint = _paint(look, "`replay FILE.tui --snapshot FILE.svg` needs no terminal")
    from tui_entropy.trace.playback import Playback
    from tui_entropy.trace.reader import Trace
    from tui_entropy.ui.app.tour import TOUR, TourApp, read_captions

    playback, captions = Playback(Trace.open(TOUR / "tour.tui")), read_captions(TOUR / "tour.toml")
    stay(TourApp(playback, captions, **_common(paint, look, read_config())), look)


def results(found: Results, look: Look) -> None:
    """Show results and stay until they are left; a text that is opened in the inspector leads back to them.

    Raises UserError where nothing can be drawn.
    """
    paint = _paint(look, "--headless prints them")
    from tui_entropy.ui.results.app import ResultsApp

    state = None
    while True:
        app = ResultsApp(found, paint, state, driver(look.diff))
        app.run(mouse=look.mouse)
        if app.failure is not None:
            raise app.failure
        if app.opening is None:
            return
        state = app.state
        stay(_text_of(found, app.opening, paint, look), look)


def _text_of(found: Results, opening: Opening, paint: Paint, look: Look) -> Viewer:
    """The inspector on a token of a text that results are about. It is not recorded, and its engine ends with it."""
    from tui_entropy.records.commands import Write
    from tui_entropy.records.sampling import Knobs

    model, text = found.models[opening.model], found.texts[opening.text]
    begin = Write(text.text, None, False, MAX_TOKENS, Knobs(), read=True, token_ids=text.token_ids)
    return _inspector(model.spec, begin, paint, look, vectors=model.vectors, looks_at=opening.position)


def _paint(look: Look, otherwise: str) -> Paint:
    """otherwise: what can be had where nothing can be drawn, for the UserError that says so."""
    mode = drawable(look.color, otherwise)
    from tui_entropy.ui.drawing.paint import Paint
    from tui_entropy.ui.drawing.theme import load

    return Paint(load(look.theme), mode, look.ascii_only)


def _inspector(spec: ModelSpec, begin: Write | Reopen | None, paint: Paint, look: Look, **engine: Any) -> Viewer:
    from tui_entropy.transport import discovery
    from tui_entropy.ui.app.app import InspectorApp

    config = read_config()
    common = _common(paint, look, config)
    command = engine.pop("engine_command", discovery.command())
    return _as_set(InspectorApp(spec, begin, engine_command=command, **common, **engine), config)


def _player(playback: Any, paint: Paint, look: Look) -> Viewer:
    from tui_entropy.ui.app.replay_app import ReplayApp

    config = read_config()
    return _as_set(ReplayApp(playback, **_common(paint, look, config)), config)


def _common(paint: Paint, look: Look, config: Config) -> dict[str, Any]:
    """What every screen is made with."""
    from tui_entropy.core import paths
    from tui_entropy.ui.keys.keymap import keymap

    keys = keymap(paths.keymap(), config)
    return {"paint": paint, "keymap": keys, "driver_class": driver(look.diff)}


def _as_set(app: Viewer, config: Config) -> Viewer:
    """The screen as a person's settings have it, which keeps what they change of it."""
    from tui_entropy.ui.app.look_keeper import LookKeeper, with_look
    from tui_entropy.ui.keys.keymap import wrong_keys

    app.frame = with_look(app.frame, config)
    app.keeper = LookKeeper(app, config)
    app.mistake = next(iter([*config.mistakes, *wrong_keys(config)]), "")
    return app


def _screen_of(session: Session, before: Viewer, look: Look) -> Viewer:
    """The screen of a session, looking like the one before. Raises UserError for a recording that has gone."""
    from tui_entropy.records.model import ModelSpec
    from tui_entropy.trace.playback import Playback
    from tui_entropy.trace.reader import Trace

    frame = before.frame
    if session.reopens and session.file is not None:
        app = _reopened(session, frame.paint, look)
    elif session.socket is not None:
        app = _inspector(ModelSpec(""), None, frame.paint, look, attach=session.socket)
    else:
        assert session.file is not None
        app = _player(Playback(Trace.open(session.file), first=None), frame.paint, look)
    app.mistake = ""
    app.frame = replace(app.frame, **{name: getattr(frame, name) for name in KEPT})
    return app


def _reopened(session: Session, paint: Paint, look: Look) -> Viewer:
    """The screen of an engine that goes on with a recording. Raises UserError."""
    from tui_entropy.records.commands import Reopen
    from tui_entropy.trace.library import new_path, reopened_spec
    from tui_entropy.transport.discovery import lifetime_options

    assert session.file is not None
    spec, prompt = reopened_spec(session.file, {})
    keep, on_leave = (os.environ.get(name, usual) for name, usual in STAYS.items())
    begin, trace = Reopen(str(session.file), session.run), new_path(spec.name, prompt)
    return _inspector(spec, begin, paint, look, trace=trace, **lifetime_options(keep, on_leave))


def driver(diff: bool) -> type[Driver] | None:
    """The driver of the terminal; None, for Textual's choice, where ours cannot run."""
    if sys.platform == "win32":
        return None
    from tui_entropy.ui.terminal.driver import DiffingDriver, PlainDriver

    return DiffingDriver if diff else PlainDriver


def stay(app: Viewer, look: Look) -> None:
    """On this screen, and on those that a person goes to from it. Then tell the last words of each, of sessions that
    were shown twice the later ones. Raises UserError."""
    sys.setswitchinterval(GIL_SWITCH_S)
    app.frame = replace(app.frame, demo=look.demo)
    last_words: dict[str, str] = {}
    try:
        while True:
            app.run(mouse=look.mouse)
            if app.failure is not None:
                raise app.failure
            last_words[app.whereabouts] = app.parting
            if app.next is None:
                break
            app = _screen_of(app.next, app, look)
    finally:
        for sentence in filter(None, last_words.values()):
            say(sentence)
    if app.return_code:
        sys.exit(app.return_code)
