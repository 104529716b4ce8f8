"""Geometric ops as coordinate maps along each axis, all applied by a single resampling.

Crop-resize, flip and translate treat rows and columns separately, so an axis is described by `positions`, float
[N, S]: for each sample and each output index, the input index to read from, in pixels. Maps are composed first; the
image is then interpolated once, by two products with [S, S] matrices. To apply op A and then op B to an image, compose
their maps in the opposite order: positions = A(B(indices)).

Quarter turns and elastic deformation do not treat the axes separately; `quarter_turn` and `deform` act on images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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


def quarter_turn(images: Tensor, turns: Tensor) -> Tensor:
    """Return square images [N, C, S, S], each rotated counterclockwise by its number of quarter turns, 0 to 3, [N]."""
    turns = turns[:, None, None, None]
    half = torch.where(turns >= 2, images.flip(2, 3), images)
    return torch.where(turns % 2 == 1, half.transpose(2, 3).flip(2), half)


def deform(images: Tensor, nodes: Tensor) -> Tensor:
    """Return images whose pixels are moved by a smooth field, with reflection at the border.

    Args:
        images: float [N, C, H, W].
        nodes: Displacement in pixels, down and to the right, at the nodes of a coarse grid that spans the image, float
            [N, 2, G, G]; between the nodes it is interpolated bicubically.
    """
    height, width = images.shape[2:]
    field = F.interpolate(nodes, size=(height, width), mode="bicubic", align_corners=True)
    rows = torch.arange(height, device=images.device)[:, None] + field[:, 0]
    columns = torch.arange(width, device=images.device) + field[:, 1]
    # grid_sample takes x before y, in [-1, 1] between the centers of the outer pixels.
    grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], dim=3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=True)


def _bilinear_matrix(positions: Tensor) -> Tensor:
    """Return the interpolation weights [N, S, S] of `positions`: row i has the weights of output index i."""
    indices = torch.arange(positions.shape[1], device=positions.device, dtype=positions.dtype)
    return (1 - (positions[:, :, None] - indices).abs_()).clamp_(min=0)
