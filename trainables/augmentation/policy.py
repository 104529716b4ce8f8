"""A policy `{op: magnitude}` and the random parameters that it draws for every image of a batch.

What magnitude m in (0, 1] means, in the order in which the ops are applied:

============  =====================================================================================================
crop_resize   window of area U[1 - 0.92 m, 1], log aspect ratio U[-m, m] ln(4/3), resized to full size; m = 1 is the
              crop of Inception and SimCLR (Szegedy 1409.4842; Chen 2002.05709, appendix A)
flip          horizontal flip with probability m / 2
translate     shift by up to m / 4 of the side, whole pixels, both axes, gap filled by reflection; m = 0.5 is the
              4 px of padded crops at 32 px (He 1512.03385)
color_jitter  with probability 0.8: brightness, contrast, saturation factors U[1 - 0.8 m, 1 + 0.8 m], hue shift
              U[-0.2 m, 0.2 m] turns, in this order; m is SimCLR's color strength s
gray          gray with probability m; SimCLR has 0.2
blur          with probability 0.5: Gaussian, sigma m U[0.1, 2] px at 224 px, in proportion to the side; m = 1 is
              SimCLR's. At 32 px that is below a third of a pixel, and SimCLR leaves it out
erase         with probability 0.5: box of area m U[0.02, 0.33], log aspect ratio U[-1, 1] ln 3.3, filled with one
              random color (random erasing, Zhong 1708.04896, ranges as in torchvision.transforms.RandomErasing)
noise         Gaussian pixel noise of standard deviation m U[0, 0.1]
============  =====================================================================================================
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.augmentation import geometry, pixels
from trainables.augmentation.cuda_graphs import CudaGraphCache
from trainables.data.table import to_float
from trainables.errors import ConfigError
from trainables.rng import SharedGenerator, sample

# How many uniform numbers an image needs for each op. All are always drawn, in this order.
_N_DRAWS = {
    "crop_resize": 4,
    "flip": 1,
    "translate": 2,
    "color_jitter": 5,
    "gray": 1,
    "blur": 2,
    "erase": 8,
    "noise": 1,
}

OPS: tuple[str, ...] = tuple(_N_DRAWS)

JITTER_PROBABILITY = 0.8
BLUR_PROBABILITY = 0.5
ERASE_PROBABILITY = 0.5

_CHUNK_VALUES = 2**17  # half a MB of float32
_MIN_CHUNK = 8


class Augmentation:
    """Augment whole batches by a policy: each image gets parameters of its own.

    policy: magnitude in [0, 1] of each op of OPS; an op that is left out is off.
    strength: scales all magnitudes; their product is cut at 1. Strength 0 is the identity, to the bit.

    A call takes the same random numbers from its generator whatever the policy and the strength, and each op reads its
    own share of them. So two trials with the same stream that differ in one op differ in nothing else, and the same
    image under twice the strength is moved the same way, further: ablations are paired.

    Raises ConfigError for an unknown op, or a magnitude or strength out of range.
    """

    def __init__(self, policy: Mapping[str, float], strength: float = 1.0) -> None:
        if not _is_number(strength) or strength < 0:
            raise ConfigError(f"augmentation_strength = {strength!r}: must be a finite number of 0 or more")
        self.policy = validate_policy(policy)
        self.strength = strength
        self.magnitudes = {op: min(1.0, m * strength) for op, m in self.policy.items() if m * strength > 0}
        self._graphs = CudaGraphCache()

    def __repr__(self) -> str:
        return f"Augmentation({self.policy}, strength={self.strength})"

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return float32 images [N, 3, H, W] in [0, 1] made from uint8 images [N, 3, H, W] on the same device.

        `generator` must live on that device too. Nothing waits for the device, and nothing runs in reduced precision
        under autocast.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"augmentation takes uint8 images, not {images.dtype}")
        numbers = uniform_numbers(len(images), generator)
        field = sample(torch.randn, _child(generator), *images.shape) if "noise" in self.magnitudes else None
        with torch.autocast(images.device.type, enabled=False):
            if images.is_cuda:
                return self._graphs(self._augment, images, numbers, field)
            size = _chunk_size(images)
            chunks = [
                self._augment(
                    images[i : i + size],
                    numbers[:, i : i + size],
                    None if field is None else field[i : i + size],
                )
                for i in range(0, max(1, len(images)), size)
            ]
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)

    def _augment(self, images: Tensor, numbers: Tensor, noise: Tensor | None) -> Tensor:
        draws = by_op(numbers)
        views = self._move(to_float(images), draws)
        for op, change in _PIXEL_OPS.items():
            if op in self.magnitudes:
                views = change(views, self.magnitudes[op], draws[op])
        if noise is not None:
            views = pixels.add_noise(views, noise, draws["noise"][0] * (0.1 * self.magnitudes["noise"]))
        return views

    def _move(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Crop, flip and translate by one resampling."""
        magnitudes = self.magnitudes
        if not magnitudes.keys() & {"crop_resize", "flip", "translate"}:
            return images
        n, _, height, width = images.shape
        rows = geometry.identity_positions(n, height, images.device)
        columns = geometry.identity_positions(n, width, images.device)
        if "translate" in magnitudes:
            down, right = translation(magnitudes["translate"], draws["translate"], height, width)
            rows = geometry.translate(rows, down, height)
            columns = geometry.translate(columns, right, width)
        if "flip" in magnitudes:
            columns = geometry.flip(columns, draws["flip"][0] < 0.5 * magnitudes["flip"], width)
        if "crop_resize" in magnitudes:
            top, left, h, w = crop_window(magnitudes["crop_resize"], draws["crop_resize"], height, width)
            rows = geometry.crop(rows, top, h, height)
            columns = geometry.crop(columns, left, w, width)
        return geometry.resample(images, rows, columns)


def validate_policy(policy: Mapping[str, float]) -> dict[str, float]:
    """Return the policy in the order of OPS. Raises ConfigError for an unknown op or a magnitude outside [0, 1]."""
    for op, magnitude in policy.items():
        if op not in OPS:
            close = difflib.get_close_matches(str(op), OPS, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"augmentation.{op}: no such op; {hint}There are {', '.join(OPS)}")
        if not _is_number(magnitude) or not 0 <= magnitude <= 1:
            raise ConfigError(f"augmentation.{op} = {magnitude!r}: must be a number in [0, 1]")
    return {op: float(policy[op]) for op in OPS if op in policy}


def uniform_numbers(n: int, generator: torch.Generator) -> Tensor:
    """Return the uniform numbers in [0, 1) of all ops for `n` images, float32 [k, n], in the order of OPS."""
    return sample(torch.rand, generator, n, sum(_N_DRAWS.values())).t().contiguous()


def by_op(numbers: Tensor) -> dict[str, Tensor]:
    """Return each op's share of the numbers [k, n]."""
    return dict(zip(OPS, numbers.split(list(_N_DRAWS.values())), strict=True))


def crop_window(magnitude: float, u: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
    """Return top, left, height and width of the crop, float [N] in whole pixels, from four uniform numbers.

    The aspect ratio is drawn among those that let a window of the area fit, where torchvision draws again.
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

    Height or width is 0 for the images that are left alone.
    """
    h, w = _box(magnitude * (0.02 + 0.31 * u[1]), math.log(3.3), u[2], height, width)
    applied = (u[0] < ERASE_PROBABILITY).float()
    return _place(u[3], height - h), _place(u[4], width - w), h * applied, w


def _color_jitter(images: Tensor, magnitude: float, u: Tensor) -> Tensor:
    brightness, contrast, saturation, hue = jitter_factors(magnitude, u)
    images = pixels.adjust_brightness(images, brightness)
    images = pixels.adjust_contrast(images, contrast)
    images = pixels.adjust_saturation(images, saturation)
    return pixels.adjust_hue(images, hue)


def _gray(images: Tensor, magnitude: float, u: Tensor) -> Tensor:
    return pixels.to_gray(images, u[0] < magnitude)


def _blur(images: Tensor, magnitude: float, u: Tensor) -> Tensor:
    side = min(images.shape[2:])
    unit = magnitude * side / 224
    sigma = (u[0] < BLUR_PROBABILITY).float() * (0.1 + 1.9 * u[1]) * unit
    return pixels.gaussian_blur(images, sigma, radius=min(math.ceil(4 * 2 * unit), side - 1))


def _erase(images: Tensor, magnitude: float, u: Tensor) -> Tensor:
    top, left, h, w = erased_box(magnitude, u[:5], *images.shape[2:])
    return pixels.erase(images, top, left, h, w, color=u[5:].t())


_PIXEL_OPS = {"color_jitter": _color_jitter, "gray": _gray, "blur": _blur, "erase": _erase}


def _box(area: Tensor, max_log_ratio: float, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return height and width in whole pixels of a box of `area` (share of the image) with a drawn aspect ratio."""
    limit = (-area.log()).clamp(max=max_log_ratio)  # sqrt(area * ratio) <= 1 and sqrt(area / ratio) <= 1
    root_ratio = torch.exp(0.5 * (2 * u - 1) * limit)
    h = (area.sqrt() / root_ratio * height).round().clamp(max=height)
    return h, (area.sqrt() * root_ratio * width).round().clamp(max=width)


def _place(u: Tensor, room: Tensor) -> Tensor:
    """Return a whole number drawn evenly from 0 .. room."""
    return torch.minimum((u * (room + 1)).floor(), room)


def _chunk_size(images: Tensor) -> int:
    """Return how many images to treat at a time on a CPU.

    The intermediate images should stay in the cache, and below the size at which the allocator hands memory back to
    the system after each op: measured 1.8 times as fast as the batch of 256 at 32 px as a whole.
    """
    return max(_MIN_CHUNK, _CHUNK_VALUES // images.shape[1:].numel())


def _child(generator: torch.Generator) -> torch.Generator:
    """Return a generator seeded by the state of `generator`, whose own stream does not move.

    Noise takes a number a pixel; from the parent's stream it would shift all later draws of every other op.
    """
    state = generator.get_state().numpy().tobytes()  # on the host for every device, so nothing waits
    seed = int.from_bytes(hashlib.blake2b(state, digest_size=8).digest(), "big") >> 1
    if isinstance(generator, SharedGenerator):
        return generator.child(seed)
    return torch.Generator(generator.device).manual_seed(seed)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


identity = Augmentation({})
