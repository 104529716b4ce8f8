"""Feature extraction for the probes: frozen encoders and raw pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.table import ImageTable, as_tensor, to_float
from trainables.devices import placed

RAW_PIXELS_SIDE = 32
# On a CPU, activations of more images leave the cache, which takes 1.7 times as long (conv4 at 32 px, measured).
BATCH_ON_CPU, BATCH = 128, 512


@torch.no_grad()
def extract_features(
    encoder: nn.Module, images: Tensor | np.ndarray, *, batch_size: int | None = None, device: torch.device | str
) -> Tensor:
    """Return an encoder's features of images, in order.

    The encoder runs in evaluation mode on images in [0, 1], which it normalizes itself. The mode of every module is
    restored afterward.

    Args:
        encoder: Module that maps float images [N, C, S, S] to features [N, D].
        images: uint8, uint16 or float32 [N, C, S, S].
        batch_size: Images per forward pass; None for what is fast on the device.
        device: Device of the encoder.

    Returns:
        Features, float32 [N, D] on `device`.
    """
    batch_size = batch_size or (BATCH_ON_CPU if torch.device(device).type == "cpu" else BATCH)
    with _evaluation_mode(encoder):
        features = [
            encoder(_float_batch(images[i : i + batch_size], device)).float() for i in range(0, len(images), batch_size)
        ]
    return torch.cat(features)


@torch.no_grad()
def raw_pixels(images: Tensor | np.ndarray, *, batch_size: int = 512, device: torch.device | str = "cpu") -> Tensor:
    """Return pixels as features.

    Images larger than 32 px are area-averaged to 32 px, so that a probe on photographs stays feasible.

    Args:
        images: uint8, uint16 or float32 [N, C, S, S].
        batch_size: Images per batch.
        device: Device of the result.

    Returns:
        Pixels in [0, 1], float32 [N, C * T * T] with T = min(S, 32).
    """
    batches = [_float_batch(images[i : i + batch_size], device) for i in range(0, len(images), batch_size)]
    return torch.cat([_downsample(batch).flatten(1) for batch in batches])


def labeled_features(encoder: nn.Module | None, table: ImageTable, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the features, float32 [N, D], and labels, int64 [N], of a labeled table.

    Args:
        encoder: Encoder to apply; None for raw pixels.
        table: Table with labels.
        device: Device of the encoder and the result.
    """
    assert table.labels is not None
    images, labels = as_tensor(table.images), as_tensor(table.labels).to(device)
    if encoder is None:
        return raw_pixels(images, device=device), labels
    return extract_features(encoder, images, device=device), labels


def _float_batch(images: Tensor | np.ndarray, device: torch.device | str) -> Tensor:
    if isinstance(images, np.ndarray):
        images = torch.tensor(images)  # a copy: arrays from Ray's object store are read-only
    return to_float(placed(images, device))


def _downsample(images: Tensor) -> Tensor:
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
