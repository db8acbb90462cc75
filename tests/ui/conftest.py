"""Every test of the screen has its own folders, and waits for no more than it must."""

import pytest
from at_rest import asked_of_the_loop


@pytest.fixture(autouse=True)
def _own_folders(own_folders):
    return


@pytest.fixture(autouse=True, scope="session")
def _waits():
    with asked_of_the_loop():
        yield
