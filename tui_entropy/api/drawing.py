"""Drawing: HTML that a notebook shows and a file can hold."""

from __future__ import annotations

from html import escape
from os import PathLike
from pathlib import Path

from tui_entropy.core.errors import UserError

FRAME_HEIGHT = 640
"""Pixels of a page within a notebook."""


class Drawing:
    """A piece of HTML, or a whole page. A notebook shows it as the value of a cell.

    Example:
        >>> drawing = inspector.show()
        >>> drawing.html[:4]
        '<div'
    """

    def __init__(self, html: str, about: str, is_page: bool = False) -> None:
        self.html = html
        """Needs nothing else: no network, no file beside it, and but for a page no script."""
        self._about, self._is_page = about, is_page

    def save(self, path: str | PathLike[str]) -> Path:
        """Write it into a file, as UTF-8. Raises UserError where that cannot be written.

        Example:
            >>> inspector.run.page().save("run.html").name
            'run.html'
        """
        head = "" if self._is_page else '<!DOCTYPE html>\n<meta charset="utf-8">\n'
        try:
            Path(path).write_bytes((head + self.html).encode("utf-8", "replace"))
        except OSError as problem:
            raise UserError(f"{path} cannot be written: {problem.strerror}; name another file") from problem
        return Path(path)

    def _repr_html_(self) -> str:
        if not self._is_page:
            return self.html
        style = f"width: 100%; height: {FRAME_HEIGHT}px; border: 1px solid #ccc"
        return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{escape(self.html)}"></iframe>'

    def __repr__(self) -> str:
        return f"<{self._about}: {len(self.html):,} characters of HTML; a notebook shows it, .save(path) keeps it>"
