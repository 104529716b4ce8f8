"""A function of tensors on a GPU that is recorded once and then started as a whole, as a CUDA graph.

The kernels of an augmentation of small images take less time than to start them one by one: recorded, the two views
of 128 images of 32 px take a fifth of the time (measured on an H100).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Hashable, Iterator

import torch
from torch import Tensor

MAX_GRAPHS = 8  # of one function: each keeps its intermediate results' memory


class CudaGraphCache:
    """The recordings of one function, one for each shape of its inputs.

    The first call with a shape runs the function as it is, the second records it.
    """

    def __init__(self) -> None:
        self._by_shape: dict[Hashable, _Recording | None] = {}

    def __call__(self, function: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        """Return what the function returns, to the bit.

        function: of tensors on one CUDA device, or None, to a new tensor, and the same one at every call. The same
            shapes must make it start the same kernels, none of which may wait for the host. It is not differentiated.
        """
        shape = tuple(None if x is None else (x.shape, x.stride(), x.dtype, x.device) for x in inputs)
        if shape not in self._by_shape:
            if len(self._by_shape) < MAX_GRAPHS:
                self._by_shape[shape] = None
            return function(*inputs)
        recording = self._by_shape[shape]
        if recording is None:
            recording = self._by_shape[shape] = _Recording(function, inputs)
        return recording.replay(inputs)


class _Recording:
    """One CUDA graph, and the tensors that it reads from and writes to."""

    def __init__(self, function: Callable[..., Tensor], inputs: tuple[Tensor | None, ...]) -> None:
        self._inputs = tuple(None if x is None else x.clone() for x in inputs)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads of the process, such as NCCL's, may use the device meanwhile.
        with _no_collection(), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(*self._inputs)

    def replay(self, inputs: tuple[Tensor | None, ...]) -> Tensor:
        """Return the output for these inputs."""
        for own, given in zip(self._inputs, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        self._graph.replay()
        return self._output.clone()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from destroying an old graph, which would spoil the one that is being recorded.

    PyTorch no longer collects before it begins (pytorch/pytorch#161037).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
