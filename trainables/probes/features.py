"""Features of an encoder and raw pixels, as the probes take them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augmentation.pixels import to_float
from trainables.data.table import ImageTable, as_tensor

RAW_PIXELS_SIDE = 32


@dataclass(frozen=True)
class Chance:
    """Top-1 accuracy of guessing evenly, 1 / K, and of always naming the most frequent class."""

    uniform: float
    majority: float


@torch.no_grad()
def extract_features(
    encoder: nn.Module, images: Tensor | np.ndarray, *, batch_size: int = 512, device: torch.device | str
) -> Tensor:
    """Return the encoder's features of uint8 images [N, 3, S, S] in order, float32 [N, D] on `device`.

    The encoder runs in evaluation mode without gradients on images in [0, 1], which it normalizes itself; every
    module's own mode is put back afterward.
    """
    with _evaluation_mode(encoder):
        features = [
            encoder(_to_float(images[i : i + batch_size], device)).float() for i in range(0, len(images), batch_size)
        ]
    return torch.cat(features)


@torch.no_grad()
def raw_pixels(images: Tensor | np.ndarray, *, batch_size: int = 512, device: torch.device | str = "cpu") -> Tensor:
    """Return the pixels of uint8 images [N, 3, S, S] as features: float32 in [0, 1], [N, 3 * T * T], T = min(S, 32).

    Larger images are averaged over areas down to 32 px, so that a probe of photographs stays feasible.
    """
    batches = [_to_float(images[i : i + batch_size], device) for i in range(0, len(images), batch_size)]
    return torch.cat([_shrink(batch).flatten(1) for batch in batches])


def labeled_features(encoder: nn.Module | None, table: ImageTable, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what a probe sees of a labeled table: features float32 [N, D] (raw pixels for None), labels int64 [N]."""
    assert table.labels is not None
    images, labels = as_tensor(table.images), as_tensor(table.labels).to(device)
    if encoder is None:
        return raw_pixels(images, device=device), labels
    return extract_features(encoder, images, device=device), labels


def chance(labels: Tensor | np.ndarray, n_classes: int) -> Chance:
    """Return what guessing scores on `labels` (int64 [N] in 0 .. n_classes - 1)."""
    counts = torch.bincount(torch.as_tensor(labels), minlength=n_classes)
    return Chance(uniform=1 / n_classes, majority=float(counts.max()) / len(labels))


def _to_float(images: Tensor | np.ndarray, device: torch.device | str) -> Tensor:
    if isinstance(images, np.ndarray):
        images = torch.tensor(images)  # a copy: arrays from Ray's object store are read-only
    return to_float(images.to(device))


def _shrink(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images, RAW_PIXELS_SIDE) if images.shape[-1] > RAW_PIXELS_SIDE else images


@contextlib.contextmanager
def _evaluation_mode(encoder: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
