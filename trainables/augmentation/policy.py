"""Augmentation of whole batches by a policy `{op: magnitude}` of the ops in `trainables.augmentation.ops`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.augmentation import geometry
from trainables.augmentation.cuda_graphs import CudaGraphCache
from trainables.augmentation.ops import COLORS, REGISTRY, Draws
from trainables.data.table import to_float
from trainables.devices import CPU
from trainables.errors import ConfigError, suggestion
from trainables.rng import derived, sample

_CHUNK_VALUES = 2**17  # half a MB of float32
_MIN_CHUNK = 8
_DTYPES = (torch.uint8, torch.uint16, torch.float32)

# SimCLR's views of CIFAR-10 at jitter strength 0.5, without blur (Chen et al. 2020, arXiv:2002.05709, appendix B.9).
SIMCLR_CIFAR10_VIEWS: Mapping[str, float] = {"crop_resize": 1.0, "flip": 1.0, "color_jitter": 0.5, "gray": 0.2}


class Augmentation:
    """Augmentation of whole batches by a policy, with independent parameters for each image.

    A call draws the same random numbers from its generator whatever the policy and the strength, and each op reads its
    own numbers. Two trials with the same stream that differ in one op therefore differ in nothing else, and doubling
    the strength changes the same image in the same way, but more: ablations are paired.

    Args:
        policy: Magnitude in [0, 1] of each op; an op that is left out is off.
        strength: Factor on all magnitudes, at least 0; the products are clipped to 1. Strength 0 is exactly the
            identity.

    Raises:
        ConfigError: An op is unknown, or a magnitude or the strength is out of range.
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
        """Return augmented views of a batch.

        The call does not synchronize with the device, and runs in full precision even under autocast.

        Args:
            images: uint8, uint16 or float32 [N, C, H, W]; see `to_float`.
            generator: Source of all randomness, on the device of the images.

        Returns:
            Views in [0, 1], float32 [N, C, H, W].
        """
        if images.dtype not in _DTYPES:
            raise TypeError(f"augmentation takes images of {', '.join(map(str, _DTYPES))}, not {images.dtype}")
        numbers = uniform_numbers(len(images), generator)
        own = [self._own_numbers(op, images.shape, generator) for op in self.magnitudes]
        with torch.autocast(images.device.type, enabled=False):
            if images.is_cuda:
                return self._graphs(self._augment, images, numbers, *own)
            size = _chunk_size(images) if images.device.type == CPU else max(1, len(images))
            chunks = []
            for start in range(0, max(1, len(images)), size):
                part = slice(start, start + size)
                parts = (None if drawn is None else drawn[part] for drawn in own)
                chunks.append(self._augment(images[part], numbers[:, part], *parts))
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)

    def _own_numbers(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        op = REGISTRY[name]
        if op.draw is None:
            return None
        return op.draw(shape, derived(generator, name if op.stream is None else op.stream))

    def _augment(self, images: Tensor, numbers: Tensor, *own: Tensor | None) -> Tensor:
        shared = by_op(numbers)
        draws = {name: Draws(shared[name], drawn) for name, drawn in zip(self.magnitudes, own, strict=True)}
        views = self._move(to_float(images), draws)
        for name, magnitude in self.magnitudes.items():
            op = REGISTRY[name]
            if op.change is not None and (images.shape[1] == COLORS or not op.needs_color):
                views = op.change(views, magnitude, draws[name])
        return views

    def _move(self, images: Tensor, draws: Mapping[str, Draws]) -> Tensor:
        """Apply all geometric ops by one resampling; their maps are composed in the reverse order of the ops."""
        moves = {name: move for name in reversed(self.magnitudes) if (move := REGISTRY[name].move) is not None}
        if not moves:
            return images
        n, _, height, width = images.shape
        rows = geometry.identity_positions(n, height, images.device)
        columns = geometry.identity_positions(n, width, images.device)
        for name, move in moves.items():
            rows, columns = move((rows, columns), self.magnitudes[name], draws[name])
        return geometry.resample(images, rows, columns)


def validate_policy(policy: Mapping[str, float]) -> dict[str, float]:
    """Return the policy with its ops in the order in which they are applied.

    Raises:
        ConfigError: An op is unknown or a magnitude is outside [0, 1].
    """
    for op, magnitude in policy.items():
        if op not in REGISTRY:
            raise ConfigError(f"augmentation.{op}: no such op; {suggestion(str(op), REGISTRY)}")
        if not _is_number(magnitude) or not 0 <= magnitude <= 1:
            raise ConfigError(f"augmentation.{op} = {magnitude!r}: must be a number in [0, 1]")
    return {op: float(policy[op]) for op in REGISTRY if op in policy}


def uniform_numbers(n: int, generator: torch.Generator) -> Tensor:
    """Draw the numbers that all ops share, float32 [k, n], uniform in [0, 1), in the order of the ops."""
    return sample(torch.rand, generator, n, sum(op.shared for op in REGISTRY.values())).t().contiguous()


def by_op(numbers: Tensor) -> dict[str, Tensor]:
    """Return the rows of each op among the shared numbers [k, n]."""
    return dict(zip(REGISTRY, numbers.split([op.shared for op in REGISTRY.values()]), strict=True))


def _chunk_size(images: Tensor) -> int:
    """Return how many images to process at a time on a CPU.

    Intermediate images should stay in the cache, and below the size at which the allocator returns memory to the system
    after each op. For 256 images of 32 px, chunks are 1.8 times as fast as the whole batch (measured).
    """
    return max(_MIN_CHUNK, _CHUNK_VALUES // images.shape[1:].numel())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


identity = Augmentation({})
