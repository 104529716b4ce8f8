"""Weighted k-nearest-neighbor probe on frozen features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.probes.accuracy import Accuracy, top_accuracy

_CHUNK_VALUES = 2**24  # similarities in memory at a time: 64 MB of float32


@dataclass(frozen=True)
class KnnResult:
    """Result of a kNN probe.

    Attributes:
        k: Number of neighbors that were used.
        accuracy: Accuracy on the queries.
    """

    k: int
    accuracy: Accuracy


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
    """Classify queries by their k nearest neighbors, weighted by exp(cosine / temperature) (Wu 2018, 1805.01978).

    Args:
        bank_x: Features to search, float [M, D].
        bank_y: Labels of the bank, int64 [M].
        query_x: Features to classify, float [N, D].
        query_y: Labels of the queries, int64 [N].
        n_classes: Number of classes.
        k: Maximum number of neighbors. The default suits about 50,000 features; with fewer, it would reach beyond the
            query's own class, so k is cut to the square root of the bank's size.
        temperature: Temperature of the weights.

    Returns:
        Accuracy on the queries; NaN if any feature is not finite.

    Raises:
        ValueError: The bank or the queries are empty.
    """
    if not len(bank_x) or not len(query_x):
        raise ValueError(f"a kNN probe needs samples: {len(bank_x)} in the bank and {len(query_x)} queries")
    k = min(k, math.isqrt(len(bank_x)))
    if not (torch.isfinite(bank_x).all() and torch.isfinite(query_x).all()):
        return KnnResult(k, Accuracy())
    bank = F.normalize(bank_x.float(), dim=1).t()
    queries = F.normalize(query_x.float(), dim=1)
    scores = queries.new_zeros(len(queries), n_classes)
    chunk = max(1, _CHUNK_VALUES // len(bank_x))
    for query, score in zip(queries.split(chunk), scores.split(chunk), strict=True):
        similarity, neighbor = (query @ bank).topk(k, dim=1)
        score.scatter_add_(1, bank_y[neighbor], torch.exp((similarity - 1) / temperature))
    return KnnResult(k, top_accuracy(scores, query_y))
