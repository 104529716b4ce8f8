"""Weighted k-nearest-neighbor probe of frozen features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.probes.accuracy import top_accuracy

_CHUNK_VALUES = 2**24  # similarities held at a time by the kNN probe: 64 MB of float32


@dataclass(frozen=True)
class KnnResult:
    """Accuracy of a nearest-neighbor probe, and the number of neighbors that it used."""

    k: int
    top1: float
    top5: float


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
        similarity, neighbor = (query @ bank).topk(k, dim=1)
        score.scatter_add_(1, bank_y[neighbor], torch.exp((similarity - 1) / temperature))
    accuracy = top_accuracy(scores, query_y)
    return KnnResult(k, accuracy.top1, accuracy.top5)
