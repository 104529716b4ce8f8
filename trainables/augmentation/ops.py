"""The augmentation ops, in the order in which they are applied.

What each op draws per image, and the meaning of its magnitude m in (0, 1]:

=============  ====================================================================================================
crop_resize    window of area U[1 - 0.92 m, 1], log aspect ratio U[-m, m] ln(4/3), resized to full size; m = 1 is the
               crop of Inception and SimCLR (Szegedy 1409.4842; Chen 2002.05709, appendix A)
flip           horizontal flip with probability m / 2
vertical_flip  vertical flip with probability m / 2
translate      shift by up to m / 4 of the side, whole pixels, both axes, gap filled by reflection; m = 0.5 is the
               4 px of padded crops at 32 px (He 1512.03385)
quarter_turn   turn by 90, 180 or 270 degrees, each with probability m / 4, without interpolation
elastic        smooth displacement: at the nodes of a 5 x 5 grid Gaussian in each direction, standard deviation 0.04 m
               of the side (after Simard 2003 and Ronneberger 1505.04597), gap filled by reflection
color_jitter   with probability 0.8: brightness, contrast, saturation factors U[1 - 0.8 m, 1 + 0.8 m], hue shift
               U[-0.2 m, 0.2 m] turns, in this order; m is SimCLR's color strength s. Images of other than three
               channels have no saturation and hue: brightness and contrast only
gray           gray with probability m; SimCLR uses 0.2. Off for images of other than three channels
blur           with probability 0.5: Gaussian, sigma m U[0.1, 2] px at 224 px, in proportion to the side; m = 1 is
               SimCLR's. At 32 px that is below a third of a pixel, and SimCLR leaves it out
erase          with probability 0.5: box of area m U[0.02, 0.33], log aspect ratio U[-1, 1] ln 3.3, filled with one
               random color (random erasing, Zhong 1708.04896, ranges as in torchvision.transforms.RandomErasing)
noise          Gaussian pixel noise of standard deviation m U[0, 0.1]
=============  ====================================================================================================

Vertical flips, quarter turns and elastic deformation keep the class of what has no upright side and no fixed shape, as
under a microscope or from a satellite. They are in no default policy, and a task names those that it refuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from trainables.augmentation import geometry, pixels
from trainables.registry import Registry
from trainables.rng import sample

COLORS = 3  # channels of images in color
JITTER_PROBABILITY = 0.8
BLUR_PROBABILITY = 0.5
ERASE_PROBABILITY = 0.5
MAX_NOISE_SD = 0.1
ELASTIC_NODES, ELASTIC_SD = 5, 0.04  # nodes of the grid along a side, and displacement in sides at full magnitude


class Draws(NamedTuple):
    """Random numbers of one op for N images.

    Attributes:
        shared: The op's rows of the numbers that all ops share, float32 [k, N], uniform in [0, 1).
        own: Numbers that the op's `draw` returned, [N, ...]; None for an op without `draw`.
    """

    shared: Tensor
    own: Tensor | None = None


Positions = tuple[Tensor, Tensor]  # rows [N, H] and columns [N, W] to read from; see `geometry`


@dataclass(frozen=True, kw_only=True)
class Op:
    """One augmentation op; exactly one of `move` and `change` is set.

    Attributes:
        shared: How many numbers per image the op reads from the block of uniform numbers that all ops share. Each call
            draws the block at once from its generator, so these counts and their order are fixed. A new op has 0 and
            uses `draw` instead, which leaves the draws of all other ops unchanged.
        draw: Returns the op's own random numbers [N, ...] for images of shape [N, C, H, W]. Its generator is derived
            from the call's generator and `stream`.
        stream: Name from which the op's own generator is derived; None for the op's name.
        move: Geometric ops: `move(positions, magnitude, draws)` returns new positions. All moves of a policy are
            applied by one resampling, before any change.
        change: Pixel ops: `change(images, magnitude, draws)` returns new float32 images [N, C, H, W] in [0, 1].
        needs_color: Whether the op means nothing for images of other than three channels, where it is off.
    """

    shared: int = 0
    draw: Callable[[torch.Size, torch.Generator], Tensor] | None = None
    stream: str | None = None
    move: Callable[[Positions, float, Draws], Positions] | None = None
    change: Callable[[Tensor, float, Draws], Tensor] | None = None
    needs_color: bool = False


def color_ops() -> tuple[str, ...]:
    """Return the names of the ops that are off for images of other than three channels."""
    return tuple(name for name, op in REGISTRY.items() if op.needs_color)


def crop_window(magnitude: float, u: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
    """Return top, left, height and width of the crop, float [N] in whole pixels, from four uniform numbers.

    The aspect ratio is drawn among those for which a window of this area fits; torchvision redraws instead.

    Args:
        magnitude: Magnitude m in (0, 1].
        u: Uniform numbers for area, aspect ratio, top and left, float [4, N].
        height: Height of the images in pixels.
        width: Width of the images in pixels.
    """
    area = 1 - 0.92 * magnitude * u[0]
    h, w = (length.clamp(min=1) for length in _box(area, magnitude * math.log(4 / 3), u[1], height, width))
    return _place(u[2], height - h), _place(u[3], width - w), h, w


def translation(magnitude: float, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the shift down and to the right, float [N] in whole pixels, from two uniform numbers."""
    return (2 * u[0] - 1).mul(0.25 * magnitude * height).round(), (2 * u[1] - 1).mul(0.25 * magnitude * width).round()


def jitter_factors(magnitude: float, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return factors of brightness, contrast and saturation and the hue shift, float [N], from five uniform numbers."""
    applied = (u[0] < JITTER_PROBABILITY).float()
    offsets = [applied * (2 * column - 1) * magnitude for column in u[1:]]
    return 1 + 0.8 * offsets[0], 1 + 0.8 * offsets[1], 1 + 0.8 * offsets[2], 0.2 * offsets[3]


def erased_box(magnitude: float, u: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
    """Return top, left, height and width of the box, float [N] in whole pixels, from five uniform numbers.

    The height is 0 for images that are left unchanged.

    Args:
        magnitude: Magnitude m in (0, 1].
        u: Uniform numbers for whether to erase, area, aspect ratio, top and left, float [5, N].
        height: Height of the images in pixels.
        width: Width of the images in pixels.
    """
    h, w = _box(magnitude * (0.02 + 0.31 * u[1]), math.log(3.3), u[2], height, width)
    applied = (u[0] < ERASE_PROBABILITY).float()
    return _place(u[3], height - h), _place(u[4], width - w), h * applied, w


def _crop_resize(positions: Positions, magnitude: float, draws: Draws) -> Positions:
    rows, columns = positions
    height, width = rows.shape[1], columns.shape[1]
    top, left, h, w = crop_window(magnitude, draws.shared, height, width)
    return geometry.crop(rows, top, h, height), geometry.crop(columns, left, w, width)


def _flip(positions: Positions, magnitude: float, draws: Draws) -> Positions:
    rows, columns = positions
    return rows, geometry.flip(columns, draws.shared[0] < 0.5 * magnitude, columns.shape[1])


def _translate(positions: Positions, magnitude: float, draws: Draws) -> Positions:
    rows, columns = positions
    height, width = rows.shape[1], columns.shape[1]
    down, right = translation(magnitude, draws.shared, height, width)
    return geometry.translate(rows, down, height), geometry.translate(columns, right, width)


def _color_jitter(images: Tensor, magnitude: float, draws: Draws) -> Tensor:
    brightness, contrast, saturation, hue = jitter_factors(magnitude, draws.shared)
    images = pixels.adjust_brightness(images, brightness)
    images = pixels.adjust_contrast(images, contrast)
    if images.shape[1] != COLORS:
        return images
    images = pixels.adjust_saturation(images, saturation)
    return pixels.adjust_hue(images, hue)


def _gray(images: Tensor, magnitude: float, draws: Draws) -> Tensor:
    return pixels.to_gray(images, draws.shared[0] < magnitude)


def _blur(images: Tensor, magnitude: float, draws: Draws) -> Tensor:
    u, side = draws.shared, min(images.shape[2:])
    unit = magnitude * side / 224
    sigma = (u[0] < BLUR_PROBABILITY).float() * (0.1 + 1.9 * u[1]) * unit
    return pixels.gaussian_blur(images, sigma, radius=min(math.ceil(4 * 2 * unit), side - 1))


def _erase(images: Tensor, magnitude: float, draws: Draws) -> Tensor:
    u = draws.shared
    top, left, h, w = erased_box(magnitude, u[:5], *images.shape[2:])
    of_channel = torch.arange(images.shape[1], device=images.device) % COLORS
    return pixels.erase(images, top, left, h, w, color=u[5:].t()[:, of_channel])


def _one_number(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return sample(torch.rand, generator, shape[0])


def _two_numbers(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return sample(torch.rand, generator, shape[0], 2)


def _vertical_flip(positions: Positions, magnitude: float, draws: Draws) -> Positions:
    assert draws.own is not None
    rows, columns = positions
    return geometry.flip(rows, draws.own < 0.5 * magnitude, rows.shape[1]), columns


def _quarter_turn(images: Tensor, magnitude: float, draws: Draws) -> Tensor:
    assert draws.own is not None
    turned, which = draws.own.unbind(dim=1)
    turns = torch.where(turned < 0.75 * magnitude, 1 + (3 * which).floor(), 0.0)
    return geometry.quarter_turn(images, turns)


def _elastic_nodes(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return sample(torch.randn, generator, shape[0], 2, ELASTIC_NODES, ELASTIC_NODES)


def _elastic(images: Tensor, magnitude: float, draws: Draws) -> Tensor:
    assert draws.own is not None
    return geometry.deform(images, draws.own * (ELASTIC_SD * magnitude * min(images.shape[2:])))


def _noise_field(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return sample(torch.randn, generator, *shape)


def _noise(images: Tensor, magnitude: float, draws: Draws) -> Tensor:
    assert draws.own is not None
    return pixels.add_noise(images, draws.own, draws.shared[0] * (MAX_NOISE_SD * magnitude))


def _box(area: Tensor, max_log_ratio: float, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return height and width, in whole pixels, of a box of `area` (share of the image) with a random aspect ratio."""
    limit = (-area.log()).clamp(max=max_log_ratio)  # sqrt(area * ratio) <= 1 and sqrt(area / ratio) <= 1
    root_ratio = torch.exp(0.5 * (2 * u - 1) * limit)
    h = (area.sqrt() / root_ratio * height).round().clamp(max=height)
    return h, (area.sqrt() * root_ratio * width).round().clamp(max=width)


def _place(u: Tensor, room: Tensor) -> Tensor:
    """Return a whole number drawn evenly from 0 .. room."""
    return torch.minimum((u * (room + 1)).floor(), room)


REGISTRY: Registry[Op] = Registry(
    "op",
    {
        "crop_resize": Op(shared=4, move=_crop_resize),
        "flip": Op(shared=1, move=_flip),
        "vertical_flip": Op(draw=_one_number, move=_vertical_flip),
        "translate": Op(shared=2, move=_translate),
        "quarter_turn": Op(draw=_two_numbers, change=_quarter_turn),
        "elastic": Op(draw=_elastic_nodes, change=_elastic),
        "color_jitter": Op(shared=5, change=_color_jitter),
        "gray": Op(shared=1, change=_gray, needs_color=True),
        "blur": Op(shared=2, change=_blur),
        "erase": Op(shared=8, change=_erase),
        # The first op with its own generator. Its stream has no name, so that existing trials keep their noise.
        "noise": Op(shared=1, draw=_noise_field, stream="", change=_noise),
    },
)

OPS: tuple[str, ...] = REGISTRY.built_in

Function = TypeVar("Function", bound=Callable[..., Any])


def register_op(
    name: str,
    *,
    moves: bool = False,
    draw: Callable[[torch.Size, torch.Generator], Tensor] | None = None,
    needs_color: bool = False,
) -> Callable[[Function], Function]:
    """Return a decorator that makes a function an augmentation op, applied after those of this package.

    The function is `change` of `Op`, or `move` with `moves`. It must not wait for the GPU (no `.item()`, no boolean
    indexing), since batches there are augmented by a recorded CUDA graph.

    Args:
        name: Name of the op in a policy.
        moves: Whether the function maps positions rather than images.
        draw: As in `Op`; `draws.own` has the numbers that it returns.
        needs_color: As in `Op`.

    Raises:
        ConfigError: The name is taken.
    """

    def op(function: Function) -> Op:
        move, change = (function, None) if moves else (None, function)
        return Op(draw=draw, move=move, change=change, needs_color=needs_color)

    return REGISTRY.decorator(name, op)
