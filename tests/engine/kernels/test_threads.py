"""One thread for small operators, and as many as before behind them, also where one use lies in another."""

import pytest
import torch

from tui_entropy.engine.kernels.threads import one_thread


@pytest.fixture
def three():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_as_many_are_there_afterwards_as_before(three):
    @one_thread
    def inner():
        return torch.get_num_threads()

    with one_thread:
        assert inner() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="x"), one_thread:
        raise ValueError("x")
    assert torch.get_num_threads() == 3
