"""Geometric ops as coordinate maps along each axis, all applied by a single resampling.

Crop-resize, flip and translate treat rows and columns separately, so an axis is described by `positions`, float
[N, S]: for each sample and each output index, the input index to read from, in pixels. Maps are composed first; the
image is then interpolated once, by two products with [S, S] matrices. To apply op A and then op B to an image, compose
their maps in the opposite order: positions = A(B(indices)).
"""

from __future__ import annotations

import torch
from torch import Tensor


def identity_positions(n: int, side: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the identity map of an axis of `side` pixels, float32 [n, side]."""
    return torch.arange(side, device=device, dtype=torch.float32).expand(n, side)


def crop(positions: Tensor, start: Tensor, length: Tensor, side: int) -> Tensor:
    """Stretch the window [start, start + length) to `side` pixels.

    Pixel centers are aligned as in `torchvision.transforms.v2.functional.resized_crop`, and nothing outside the window
    is read. A window is never larger than the output, so interpolation with and without antialiasing is the same.

    Args:
        positions: Map of the axis, float [N, side].
        start: First pixel of the window, float [N], at least 0.
        length: Length of the window in pixels, float [N]; start + length <= side.
        side: Pixels along the axis.
    """
    inside = (positions + 0.5) * (length / side)[:, None] - 0.5
    return torch.minimum(inside.clamp(min=0), length[:, None] - 1) + start[:, None]


def flip(positions: Tensor, flipped: Tensor, side: int) -> Tensor:
    """Mirror the axis of the samples for which `flipped` (bool [N]) is True."""
    return torch.where(flipped[:, None], side - 1 - positions, positions)


def translate(positions: Tensor, shift: Tensor, side: int) -> Tensor:
    """Move the content by `shift` (float [N], pixels, below `side`), toward higher indices where positive.

    The gap is filled by reflection without repeating the edge: black bars would show a pretext task, such as rotation
    or context prediction, where the border of the image is.
    """
    return (side - 1) - ((side - 1) - (positions - shift[:, None]).abs()).abs()


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read float images [N, C, H, W] at `rows` [N, H] x `columns` [N, W] by bilinear interpolation.

    At integer positions the result is exactly the pixel value, since all other weights are zero.
    """
    return separable(images, _bilinear_matrix(rows), _bilinear_matrix(columns))


def separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows @ image @ columns^T for every sample and channel: [N, H, H], [N, C, H, W], [N, W, W]."""
    n, channels, height, width = images.shape
    across = torch.bmm(images.reshape(n, channels * height, width), columns.transpose(1, 2))
    return torch.matmul(rows[:, None], across.view(n, channels, height, width))


def _bilinear_matrix(positions: Tensor) -> Tensor:
    """Return the interpolation weights [N, S, S] of `positions`: row i has the weights of output index i."""
    indices = torch.arange(positions.shape[1], device=positions.device, dtype=positions.dtype)
    return (1 - (positions[:, :, None] - indices).abs_()).clamp_(min=0)
