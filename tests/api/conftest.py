"""Inspectors of small models whose texts never end."""

import pytest
import small

from tui_entropy import Inspector

DRAWN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 3}


@pytest.fixture(scope="module")
def llama():
    return small.endless(small.loaded("llama"))


@pytest.fixture
def inspector(llama):
    """Of texts that are drawn, so that knobs and seeds tell."""
    with Inspector(llama, **DRAWN) as opened:
        yield opened
