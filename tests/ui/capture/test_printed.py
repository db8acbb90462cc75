"""Answers on stdout, with colours and without."""

import pytest
from made_panels import answer, token_map
from msgspec.structs import replace

from tui_entropy.core.look import Look
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.capture import printed


@pytest.mark.parametrize(("color", "tinted"), [("auto", False), ("mono", False), ("16", True)])
def test_a_scale_of_tints_is_told_where_tints_are_seen(capsys, color, tinted):
    """Stdout is no terminal here, so that by itself it has no colours."""
    printed.show(
        replace(answer(), panels=(token_map(),)), SessionView(), True, Look("dark", color, False, False, False)
    )
    said = capsys.readouterr().out
    assert "word" in said and ("100 %" in said or "\x1b[" in said) == tinted and "aaa" not in said
