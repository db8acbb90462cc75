"""Functions over tensors that stay where they are, each recorded once as a CUDA graph and replayed ever after.

Launching thousands of small kernels one by one takes the host longer than a small model takes the device. A graph
is one launch. It holds addresses, shapes and every number that Python knew when it was recorded; so what changes must
lie in tensors, and nothing may wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Result = TypeVar("Result")

MOST = 24
"""Graphs that are kept; the one that was not used for longest goes first."""


class Graphs:
    """On a device without graphs the functions are called: they are the same ones."""

    def __init__(self, device: torch.device) -> None:
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}
        self._records = device.type == "cuda"
        self._rehearses = False
        self._pool: Any = None
        self.failed = ""
        """Why a function could not be recorded, in half a sentence; empty while all could. Those are called then."""

    @contextmanager
    def dry_run(self) -> Iterator[None]:
        """Functions are called, and raise Waits where they could not be recorded."""
        self._rehearses = True
        try:
            with _NoLooking(), _NoWaiting():  # type: ignore[no-untyped-call]
                yield
        finally:
            self._rehearses = False

    def run(self, key: Hashable, function: Callable[[], Result]) -> Result:
        """The result of the function; its tensors are good until the next call with this key.

        key: tells apart all that is not in tensors, and the addresses of those that are.
        """
        if not self._records or self._rehearses:
            return function()
        try:
            recorded = self._recorded.pop(key, None) or self._record(function)
        except RuntimeError as error:  # of torch and CUDA
            reason = str(error).strip().split("\n", 1)[0]
            self.failed, self._records = f"it could not be recorded ({reason[:100]})", False
            self._recorded.clear()
            return function()
        self._recorded[key] = recorded
        if len(self._recorded) > MOST:
            del self._recorded[next(iter(self._recorded))]
        graph, result = recorded
        graph.replay()
        return result  # type: ignore[no-any-return]

    def _record(self, function: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result]:
        # Libraries set themselves up in their first calls, which cannot be recorded; on a stream of its own, as the
        # recording will be.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function()
        torch.cuda.current_stream().wait_stream(side)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                result = function()
        finally:
            torch.cuda.set_stream(stream)  # a recording that fails leaves its own behind
        return graph, result


class Waits(Exception):
    """The function that was called needs to know on the host what the device has not worked out yet."""


LOOKING = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__"}
"""What Python asks of a tensor to know a number of it."""
WAITING = {"nonzero", "masked_select", "_unique2", "unique_consecutive"}
"""Operators that cannot return before the device has told how large their result is."""
MASKED = {"index", "index_put", "index_put_"}
"""Those that cannot where a mask says what is meant."""


class _NoLooking(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in LOOKING:
            raise Waits(f"it waits for the device ({name.strip('_')})")
        return func(*args, **(kwargs or {}))


class _NoWaiting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        waits = name in WAITING or (name == "repeat_interleave" and func._overloadname == "Tensor")
        if name in MASKED:
            waits = any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        if name in ("_to_copy", "copy_"):
            there = {arg.device for arg in (*args, result) if isinstance(arg, Tensor)}
            waits = len(there) > 1
        if waits:
            raise Waits(f"it waits for the device ({name.strip('_')})")
        return result
