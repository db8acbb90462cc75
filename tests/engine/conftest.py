"""Small models whose texts never end."""

from contextlib import nullcontext

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


@pytest.fixture(scope="module", autouse=True)
def on_one_thread(request):
    """Operators on a small model take less time than waking a second thread, beside other tests above all. The
    default model is read as a user has it read, and kernels are tried with the threads that they choose."""
    marks = getattr(request.module, "pytestmark", [])
    is_real = "real" in {mark.name for mark in (marks if isinstance(marks, list) else [marks])}
    with nullcontext() if is_real or "kernels" in request.path.parts else one_thread:
        yield
