"""Pixel ops: deterministic, batched functions with explicit per-sample parameters.

Images are float32 [N, C, H, W] in [0, 1] and stay so; every function returns a new tensor. The definitions follow
`torchvision.transforms.v2.functional`, and the tests compare each function with its counterpart there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.augmentation.geometry import separable

# Weights of R, G and B in the luma of ITU-R BT.601. Augmentation uses torchvision's rounding, and context
# prediction the standard's, as in its first version: a common rounding would change the curves of existing trials.
LUMA = (0.2989, 0.587, 0.114)
LUMA_CONTEXT_PREDICTION = (0.299, 0.587, 0.114)


def luma(images: Tensor) -> Tensor:
    """Return the luma of every pixel, [N, 1, H, W]; the mean of channels that are not red, green and blue."""
    if images.shape[1] != len(LUMA):
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.unbind(1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze_(1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale all pixels by `factor` (float [N], at least 0; 1 changes nothing)."""
    return (images * _per_sample(factor)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance of all pixels from the image's mean luma by `factor` (float [N])."""
    weight = _per_sample(factor)
    mean = luma(images.mean(dim=(2, 3), keepdim=True))
    return (images * weight).add_(mean * (1 - weight)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance of all pixels from their own gray by `factor` (float [N]; 0 gives gray)."""
    weight = _per_sample(factor)
    return (images * weight).add_(luma(images).mul_(1 - weight)).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue by `shift` (float [N] in [-0.5, 0.5], in turns of the color circle).

    RGB to HSV and back, keeping value and chroma (value x saturation):
    channel = value - chroma * clip(min(k, 4 - k), 0, 1), k = (n + 6 hue) mod 6, n = 5, 3, 1 for R, G, B.
    """
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    sextant = _sextant(red, green, blue, value, chroma).add_(6 * shift[:, None, None])
    k = sextant[:, None] + torch.arange(5, 0, -2, device=images.device)[:, None, None]
    k.sub_((k / 6).floor_(), alpha=6)  # k mod 6; far cheaper than torch.remainder
    ramp = torch.minimum(k, 4 - k).clamp_(0, 1)
    return torch.addcmul(value[:, None], chroma[:, None], ramp, value=-1)


def to_gray(images: Tensor, grayed: Tensor) -> Tensor:
    """Replace the samples with `grayed` (bool [N]) by their luma in all three channels."""
    return torch.lerp(images, luma(images), _per_sample(grayed).float())  # exact at 0 and 1; faster than torch.where


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur with a Gaussian; the border is reflected without repeating the edge.

    Args:
        images: Float [N, C, H, W].
        sigma: Standard deviation in pixels, float [N]; 0 changes nothing.
        radius: Distance in pixels beyond which the Gaussian is cut off; below the side of the image.
    """
    height, width = images.shape[2:]
    distance = torch.arange(radius + 1, device=images.device, dtype=images.dtype)
    taps = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3)[:, None]) ** 2)
    rows = _reflected_convolution(taps, height)
    return separable(images, rows, rows if width == height else _reflected_convolution(taps, width)).clamp_(0, 1)


def erase(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, color: Tensor) -> Tensor:
    """Fill a box with one color.

    Args:
        images: Float [N, C, H, W].
        top: First row, float [N] in whole pixels.
        left: First column, float [N] in whole pixels.
        height: Rows of the box, float [N] in whole pixels; 0 erases nothing.
        width: Columns of the box, float [N] in whole pixels.
        color: Value of each channel in [0, 1], float [N, C].
    """
    inside = _span(top, height, images.shape[2])[:, :, None] & _span(left, width, images.shape[3])[:, None, :]
    return torch.lerp(images, color[:, :, None, None], inside[:, None].float())


def add_noise(images: Tensor, noise: Tensor, sd: Tensor) -> Tensor:
    """Add standard normal `noise` (the shape of `images`) scaled by `sd` (float [N])."""
    return torch.addcmul(images, noise, _per_sample(sd)).clamp_(0, 1)


def _per_sample(parameter: Tensor) -> Tensor:
    return parameter[:, None, None, None]


def _sextant(red: Tensor, green: Tensor, blue: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Return the hue of every pixel in sixths of a turn, [N, H, W] in [-1, 5]; 0 where there is no color."""
    is_red = (red == value).float()
    is_green = (green == value).float().mul_(1 - is_red)
    is_blue = 1 - is_red - is_green
    difference = (green - blue).mul_(is_red)
    difference.addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    return difference.div_(chroma.clamp(min=1e-12)).add_(is_green, alpha=2).add_(is_blue, alpha=4)


def _reflected_convolution(taps: Tensor, side: int) -> Tensor:
    """Return the matrices [N, side, side] of a symmetric convolution with `taps` [N, radius + 1] by distance."""
    index = torch.arange(side, device=taps.device)
    direct = (index[:, None] - index).abs()
    before = index[:, None] + index  # distance to the image of pixel j mirrored at the first pixel
    after = 2 * (side - 1) - before
    before[:, 0] = after[:, -1] = -1  # the edge pixels themselves are not repeated
    distances = torch.arange(taps.shape[1], device=taps.device)[:, None, None]
    occurrences = (direct == distances).float() + (before == distances).float() + (after == distances).float()
    matrix = torch.matmul(taps, occurrences.flatten(1)).view(-1, side, side)
    return matrix / matrix.sum(dim=2, keepdim=True)


def _span(start: Tensor, length: Tensor, side: int) -> Tensor:
    """Return a mask [N, side] of the indices in [start, start + length)."""
    index = torch.arange(side, device=start.device)
    return (index >= start[:, None]) & (index < (start + length)[:, None])
