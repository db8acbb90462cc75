"""Small models whose texts never end."""

import pytest
import small
import tiny


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request):
    """One of each family."""
    return small.endless(small.loaded(request.param))


@pytest.fixture(scope="module")
def llama():
    return small.endless(small.loaded("llama"))
