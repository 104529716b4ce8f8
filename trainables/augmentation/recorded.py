"""A function of tensors on a GPU that is recorded once and then started as a whole, as a CUDA graph.

The kernels of an augmentation of small images take less time than to start them one by one: recorded, the two views
of 128 images of 32 px take a fifth of the time (measured on an H100).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

MOST_RECORDINGS = 8  # of one function: each keeps its intermediate results' memory


class Recorded:
    """`function`, recorded for each shape of its inputs at the second call with it; the first runs it as it is.

    function: of tensors on one CUDA device, or None, to a new tensor. The same shapes must make it start the same
        kernels, none of which may wait for the host. It is not differentiated.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._recordings: dict[Hashable, _Recording | None] = {}

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Return what the function returns, to the bit."""
        key = tuple(None if x is None else (x.shape, x.stride(), x.dtype, x.device) for x in inputs)
        if key not in self._recordings:
            if len(self._recordings) < MOST_RECORDINGS:
                self._recordings[key] = None
            return self._function(*inputs)
        recording = self._recordings[key]
        if recording is None:
            recording = self._recordings[key] = _Recording(self._function, inputs)
        return recording.replay(inputs)


class _Recording:
    """One CUDA graph, and the tensors that it reads from and writes to."""

    def __init__(self, function: Callable[..., Tensor], inputs: tuple[Tensor | None, ...]) -> None:
        self._inputs = tuple(None if x is None else x.clone() for x in inputs)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads of the process, such as NCCL's, may use the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(*self._inputs)

    def replay(self, inputs: tuple[Tensor | None, ...]) -> Tensor:
        for own, given in zip(self._inputs, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        self._graph.replay()
        return self._output.clone()
