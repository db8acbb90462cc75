"""Errors that the person at the keyboard can put right."""

from tui_entropy.core.escape import visible


class UserError(Exception):
    """One sentence: what was found, what was wanted, what to do. Shown without a traceback.

    It may quote a file, a server or a model: whatever would break its line or could be obeyed is a glyph in it.
    """

    exit_code = 3

    def __init__(self, sentence: str, below: str = "") -> None:
        """below: lines that stand under the sentence, such as a table or the place of a mistake."""
        super().__init__(visible(sentence, in_table=True) + (f"\n{visible(below)}" if below else ""))
