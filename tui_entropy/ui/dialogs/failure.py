"""The end of an app that fails: it closes without a word, and whoever ran it says what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.app import App

    Base = App[None]
else:
    Base = object


class ClosesOnFailure(Base):
    """An App that leaves its failure to whoever runs it, where Textual would print all that it knows: values of
    variables among them, which may be anything that a model or a file says."""

    @property
    def failure(self) -> Exception | None:
        """The error that ended it before its time; None if nothing did."""
        return self._exception

    def _fatal_error(self) -> None:
        self._close_messages_no_wait()

    def _print_error_renderables(self) -> None:
        self._exit_renderables.clear()
