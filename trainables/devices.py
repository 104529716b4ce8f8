"""Devices: which one a trial computes on, and what to do where it lacks a number format.

`cuda` is a GPU of NVIDIA, `mps` the GPU of a Mac. With the environment variable FALLBACK, which PyTorch reads at its
import, operations that it lacks on `mps` run on the CPU, and PyTorch warns of each.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

CUDA, MPS, CPU = "cuda", "mps", "cpu"
GPU_RESOURCE, MPS_RESOURCE = "GPU", "mps"  # names among Ray's resources; Ray itself does not count the GPU of a Mac
FALLBACK = ("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # name and value


def has_mps() -> bool:
    """Return whether this machine is a Mac with a GPU that PyTorch can use."""
    return torch.backends.mps.is_available()


def device_of(resources: Mapping[str, float]) -> torch.device:
    """Return the device of a trial that has reserved these resources, by Ray's names for them."""
    if GPU_RESOURCE in resources and torch.cuda.is_available():
        return torch.device(CUDA)
    return torch.device(MPS if MPS_RESOURCE in resources and has_mps() else CPU)


def synchronized_time(device: torch.device) -> float:
    """Return the time in seconds, by `time.perf_counter`, once a device has done all work that was launched on it."""
    if device.type == CUDA:
        torch.cuda.synchronize(device)
    elif device.type == MPS:
        torch.mps.synchronize()
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the time that work takes in seconds, with all that it launches on a device."""
    began = synchronized_time(device)
    work()
    return synchronized_time(device) - began


def free_memory(device: torch.device) -> None:
    """Return memory that this process no longer uses to a device."""
    gc.collect()
    if device.type == CUDA:
        torch.cuda.empty_cache()
    elif device.type == MPS:
        torch.mps.empty_cache()


def in_float64(values: Tensor) -> Tensor:
    """Return values as float64, on the CPU where their device does not have this type, as `mps`."""
    return (values.cpu() if values.device.type == MPS else values).double()


def placed(images: Tensor, device: torch.device | str) -> Tensor:
    """Return images on a device; 16-bit ones as float32 in [0, 1] where the device does not have this type, as `mps`.

    Args:
        images: uint8, uint16 or float32 [N, C, S, S]; see `trainables.data.table.to_float`.
        device: Device to place them on.
    """
    if images.dtype == torch.uint16 and torch.device(device).type == MPS:
        images = images / 65_535
    return images.to(device)
