"""Every test of the screen has its own folders."""

import pytest


@pytest.fixture(autouse=True)
def _own_folders(own_folders):
    return
