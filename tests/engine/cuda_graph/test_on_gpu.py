"""On a CUDA device: the text and the numbers of the CPU, with the step held in graphs too."""

import pytest
import tiny
import torch
from graph_steps import GREEDY, WITHOUT, close, steps
from rewind_models import DRAWN
from small import endless
from small import loaded as small_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here"),
]


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def here(family):
    return endless(small_model(family))


@pytest.fixture(scope="module")
def there(family):
    """The same weights on the device."""
    found = endless(small_model(family))
    found.model.to("cuda")
    return found


def test_it_writes_and_says_what_the_cpu_does(here, there):
    for one, other in zip(steps(there, GREEDY, graph=False), steps(here, GREEDY, graph=False), strict=True):
        close(one, other)


@pytest.mark.parametrize("controls", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_step_in_a_graph_writes_and_says_what_a_plain_one_does(family, there, controls):
    if family in WITHOUT:
        pytest.skip(WITHOUT[family])
    for one, other in zip(steps(there, controls), steps(there, controls, graph=False), strict=True):
        close(one, other)
