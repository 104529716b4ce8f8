"""Hashes of a table's images, by which equal and similar images are found without reading all pixels again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.cache import remembered_in_entry

HASH_SIDE = 8  # pixels: side of the thumbnail that finds candidates
VERSION = 1  # to be raised whenever the same images have other hashes than before

_CONTENT_BYTES = 16
_CHUNK_PIXELS = 2**20  # pixels per channel that are read at a time


class RowHashes(NamedTuple):
    """Hashes of N images.

    Attributes:
        content: BLAKE2b of each image's pixels, uint8 [N, 16]; equal images have equal hashes.
        perceptual: Gray thumbnail of each image without its mean, of unit length, float32 [N, 64]: the inner product of
            two is their correlation. An image without any contrast has 0, which is similar to no other.
    """

    content: np.ndarray
    perceptual: np.ndarray

    def take(self, rows: np.ndarray) -> RowHashes:
        """Return the hashes of the images at `rows`, int64 [M]."""
        return RowHashes(self.content[rows], self.perceptual[rows])

    def joined(self, other: RowHashes) -> RowHashes:
        """Return the hashes of these images and then those of others."""
        return RowHashes(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))

    @property
    def keys(self) -> list[bytes]:
        """Hash of each image's pixels."""
        return [row.tobytes() for row in self.content]


def hash_rows(images: np.ndarray) -> RowHashes:
    """Return the hashes of images; those of images in the cache are computed once.

    Args:
        images: Images of any dtype, [N, C, S, S].
    """

    def compute() -> np.ndarray:
        parts = (_content(images), _perceptual(images).view(np.uint8))
        return np.concatenate(parts, axis=1)

    packed = remembered_in_entry(images, f"hashes-{VERSION}-{HASH_SIDE}-{torch.__version__}", compute)
    perceptual = np.ascontiguousarray(packed[:, _CONTENT_BYTES:]).view(np.float32)
    return RowHashes(np.ascontiguousarray(packed[:, :_CONTENT_BYTES]), perceptual)


def gray(images: np.ndarray, rows: np.ndarray) -> Iterator[Tensor]:
    """Yield the images at `rows` in gray, float32 [R, 1, S, S], so few at a time that memory stays bounded."""
    n_rows = max(1, _CHUNK_PIXELS // images.shape[-1] ** 2)
    for start in range(0, len(rows), n_rows):
        yield torch.from_numpy(images[rows[start : start + n_rows]]).float().mean(1, keepdim=True)


def _content(images: np.ndarray) -> np.ndarray:
    digests = (hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=_CONTENT_BYTES) for image in images)
    joined = b"".join(digest.digest() for digest in digests)
    return np.frombuffer(joined, np.uint8).reshape(len(images), _CONTENT_BYTES)


def _perceptual(images: np.ndarray) -> np.ndarray:
    rows = np.arange(len(images))
    found = [_unit(F.adaptive_avg_pool2d(chunk, HASH_SIDE).flatten(1)) for chunk in gray(images, rows)]
    return torch.cat(found).numpy() if found else np.zeros((0, HASH_SIDE**2), np.float32)


def _unit(values: Tensor) -> Tensor:
    """Return rows without their mean, scaled to unit length; a row without variation becomes 0."""
    centered = values - values.mean(1, keepdim=True)
    length = centered.norm(dim=1, keepdim=True)
    scale = values.abs().amax(1, keepdim=True).clamp_min(1e-12) * values.shape[1] ** 0.5
    return torch.where(length > 1e-5 * scale, centered / length.clamp_min(1e-30), 0)
