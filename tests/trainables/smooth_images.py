"""Smooth images, seeded generators and float tensors for the tests of augmentation."""

from __future__ import annotations

import torch
from torch import Tensor

N, SIDE = 6, 32


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_images(n: int = N, side: int = SIDE) -> Tensor:
    """Return uint8 [n, 3, side, side] with structure at a scale of some pixels, unlike white noise."""
    coarse = torch.rand(n, 3, 8, 8, generator=seeded(7))
    images = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1)
    return (images * 255).round().to(torch.uint8)


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)
