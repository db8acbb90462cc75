"""A view on the whole screen, over the usual panes, and what its keys do."""

from __future__ import annotations

import asyncio
from asyncio import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tui_entropy.core.errors import UserError
from tui_entropy.ui.keys.session_choice import Session, SessionsState, chosen_session
from tui_entropy.ui.pages.layers import LayersState, shows_lens
from tui_entropy.ui.pages.numbers import NumbersState
from tui_entropy.ui.pages.page import Page
from tui_entropy.ui.pages.waterfall import WaterfallState
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.host import Host

if TYPE_CHECKING:
    from tui_entropy.trace.library import Summary

MAX_LISTED = 200
"""Recordings that the page of sessions lists, the newest."""


class PageActions(Actions[Host]):
    """Which page is open, and what is looked at on it."""

    page: Page | None = None
    """The one that is open."""

    def action_open(self, name: str) -> None:
        """A page in place of any other; the key of the one that is open closes it."""
        again = self.page is not None and self.page.called == name
        self.action_close_page()
        if not again:
            self.page = Page(name)
            self.app.push_screen(self.page)
            self.app.show(place=name, typed="", row=0)

    def action_close_page(self) -> None:
        if self.page is not None:
            page, self.page = self.page, None
            self.app.close(page)
            self.app.show(place=self.app.place, following=self.app.frame.following)

    def action_row(self, by: int) -> None:
        """The rows of a page are what its view says."""
        if self.page is not None:
            for view in self.page.views:
                if changes := view.moved(self.app.frame, by):
                    self.app.show(**changes)

    def action_tint_chosen(self) -> None:
        self.app.show(tint=self.app.frame.of(NumbersState).chosen, attention_tint=False)

    def action_chart_chosen(self) -> None:
        plotted, chosen = self.app.frame.chart_series, self.app.frame.of(NumbersState).chosen
        without = tuple(metric for metric in plotted if metric != chosen)
        self.app.show(chart_series=without if chosen in plotted else (*plotted, chosen))

    def action_lens_view(self) -> None:
        frame = self.app.frame
        self.app.show(**frame.put(LayersState, lens=not shows_lens(frame)))

    def action_stage(self, by: int) -> None:
        frame = self.app.frame
        stage = min(max(frame.of(WaterfallState).stage + by, 0), len(frame.knobs.order) - 1)
        self.app.show(**frame.put(WaterfallState, stage=stage))


class SessionActions(Actions[Host]):
    """The actions on the page of sessions. They are looked for when it opens, on a thread: there may be many."""

    def action_sessions(self) -> None:
        app = self.app
        app.open_page("sessions")
        if app.page is None:
            return
        app.show(**app.frame.put(SessionsState, sessions=None, here=app.whereabouts))
        looked = asyncio.get_running_loop().run_in_executor(None, partial(found_sessions, MAX_LISTED))
        looked.add_done_callback(self._on_found)

    def _on_found(self, looked: Future[tuple[tuple[Session, ...], int]]) -> None:
        if looked.cancelled():
            return
        if isinstance(mistake := looked.exception(), UserError):
            self.app.refuse(str(mistake))
            return
        sessions, n_more = looked.result()
        self.app.show(**self.app.frame.put(SessionsState, sessions=sessions, n_more=n_more))

    def action_go_to_session(self) -> None:
        """Once it is known to be there: nobody leaves what is on screen for something that cannot be shown."""
        session = chosen_session(self.app.frame)
        if session is None:
            self.app.refuse("there is no other session to go to")
        elif session.name == self.app.whereabouts:
            self.app.close_page()
            self.app.refuse("this screen shows it already")
        elif mistake := unreachable(session):
            self.app.refuse(mistake)
        else:
            self.app.leave_for(session)


def found_sessions(n: int) -> tuple[tuple[Session, ...], int]:
    """The engines that run and the newest n recordings of none of them, as SessionsState lists them, and how many
    older ones there are. Raises UserError as `discovery.running` does."""
    from tui_entropy.trace import library
    from tui_entropy.transport import discovery

    engines, theirs = [], set()
    for engine in reversed(discovery.running()):
        now = engine.standing
        known = Session(None, engine.socket, "busy", command=f"attach {engine.id}")
        if now is not None:
            model = now.model.name if now.model else ""
            known = known._replace(state=now.state, at=now.began, model=model, n_tokens=now.tokens)
            file = Path(now.trace)
            if now.trace and file.parent != engine.socket.parent:  # there it goes with its engine
                kept = _of_recording(library.summary(file))
                known = kept._replace(socket=known.socket, state=known.state, command=known.command)
                theirs.add(file)
        engines.append(known)
    others = [file for file in library.files() if file not in theirs]  # after the engines, which may begin new ones
    return (*engines, *(_of_recording(library.summary(file)) for file in others[:n])), max(len(others) - n, 0)


def _of_recording(one: Summary) -> Session:
    from tui_entropy.trace.library import typed_name

    return Session(
        one.path, None, "", one.at, one.model, one.n_runs, one.n_tokens, one.prompt, one.readable,
        command=f"replay {typed_name(one.path)}",
    )  # fmt: skip


def unreachable(session: Session) -> str:
    """Why a session cannot be shown, in a sentence; empty where it can."""
    from tui_entropy.trace.reader import Trace
    from tui_entropy.transport import discovery

    try:
        if session.socket is not None:
            discovery.ask(session.socket)
            return ""
        assert session.file is not None
        trace = Trace.open(session.file)
        n_runs = len(trace.runs)
        trace.close()
        return "" if n_runs else f"{session.file} holds no run: there is nothing to show in it"
    except UserError as mistake:
        return str(mistake)
    except OSError:
        return "this engine has ended meanwhile"
