"""Small models whose texts never end."""

import pytest
import small
import tiny

from tui_entropy.engine.kernels.threads import one_thread


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request):
    """One of each family."""
    return small.endless(small.loaded(request.param))


@pytest.fixture(scope="module")
def llama():
    return small.endless(small.loaded("llama"))


@pytest.fixture(scope="module")
def on_one_thread():
    """Operators on a small model take less time than waking a second thread, beside other tests above all."""
    with one_thread:
        yield
