"""What frozen features are worth to their nearest neighbours, features themselves, and the levels they stand beside.

All of it is deterministic: the same features and labels give the same result, with no seed to choose.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augmentation.pixels import to_float
from trainables.data.table import ImageTable, as_tensor

RAW_PIXELS_SIDE = 32
_CHUNK_VALUES = 2**24  # similarities held at a time by the kNN probe: 64 MB of float32


@dataclass(frozen=True)
class Accuracy:
    """Shares of samples whose class is the best guess, or among the five best (all, with five classes or fewer)."""

    top1: float
    top5: float


@dataclass(frozen=True)
class KnnResult:
    """Accuracy of a nearest-neighbour probe, and the number of neighbours that it used."""

    k: int
    top1: float
    top5: float


@dataclass(frozen=True)
class Chance:
    """Top-1 accuracy of guessing evenly, 1 / K, and of always naming the most frequent class."""

    uniform: float
    majority: float


@torch.no_grad()
def knn_probe(
    bank_x: Tensor,
    bank_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    n_classes: int,
    *,
    k: int = 200,
    temperature: float = 0.1,
) -> KnnResult:
    """Classify queries by their k nearest bank features, weighted exp(cosine / temperature) (Wu 2018, 1805.01978).

    *_x: float [N, D]; *_y: int64 [N]. k = 200 is meant for some 50,000 features; in a small bank it reaches past
    the query's own class, so k is cut to the square root of the bank's size.
    Features that are not finite give NaN.
    """
    if not len(bank_x) or not len(query_x):
        raise ValueError(f"a kNN probe needs samples: {len(bank_x)} in the bank and {len(query_x)} queries")
    k = min(k, math.isqrt(len(bank_x)))
    if not (torch.isfinite(bank_x).all() and torch.isfinite(query_x).all()):
        return KnnResult(k, math.nan, math.nan)
    bank = F.normalize(bank_x.float(), dim=1).t()
    queries = F.normalize(query_x.float(), dim=1)
    scores = queries.new_zeros(len(queries), n_classes)
    chunk = max(1, _CHUNK_VALUES // len(bank_x))
    for query, score in zip(queries.split(chunk), scores.split(chunk), strict=True):
        similarity, neighbour = (query @ bank).topk(k, dim=1)
        score.scatter_add_(1, bank_y[neighbour], torch.exp((similarity - 1) / temperature))
    accuracy = top_accuracy(scores, query_y)
    return KnnResult(k, accuracy.top1, accuracy.top5)


@torch.no_grad()
def extract_features(
    encoder: nn.Module, images: Tensor | np.ndarray, *, batch_size: int = 512, device: torch.device | str
) -> Tensor:
    """Return the encoder's features of uint8 images [N, 3, S, S] in order, float32 [N, D] on `device`.

    The encoder runs in evaluation mode without gradients on images in [0, 1], which it normalises itself; every
    module's own mode is put back afterwards.
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


def labelled_features(encoder: nn.Module | None, table: ImageTable, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what a probe sees of a labelled table: features float32 [N, D] (raw pixels for None), labels int64 [N]."""
    assert table.labels is not None
    images, labels = as_tensor(table.images), as_tensor(table.labels).to(device)
    if encoder is None:
        return raw_pixels(images, device=device), labels
    return extract_features(encoder, images, device=device), labels


def chance(labels: Tensor | np.ndarray, n_classes: int) -> Chance:
    """Return what guessing scores on `labels` (int64 [N] in 0 .. n_classes - 1)."""
    counts = torch.bincount(torch.as_tensor(labels), minlength=n_classes)
    return Chance(uniform=1 / n_classes, majority=float(counts.max()) / len(labels))


def top_accuracy(scores: Tensor, labels: Tensor) -> Accuracy:
    """Return top-1 and top-5 of scores [N, K]; NaN where a score is NaN."""
    if not torch.isfinite(scores).all():
        return Accuracy(math.nan, math.nan)
    best = scores.topk(min(5, scores.shape[1]), dim=1).indices
    hits = best == labels[:, None]
    return Accuracy(top1=hits[:, 0].float().mean().item(), top5=hits.any(dim=1).float().mean().item())


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
