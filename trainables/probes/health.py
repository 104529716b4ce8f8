"""Health metrics of a representation: collapse, effective rank, uniformity and alignment."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.devices import in_float64

HEALTH_METRICS = FEATURE_STD, RANKME, UNIFORMITY, ALIGNMENT = (
    "health/feature_std",
    "health/rankme",
    "health/uniformity",
    "health/alignment",
)
MAX_SAMPLES = 512  # RankMe costs min(N, D)^3; with fewer than its authors' 25,600, compare runs of one method only


@torch.no_grad()
def health_metrics(features: Tensor, view_a: Tensor | None = None, view_b: Tensor | None = None) -> dict[str, float]:
    """Return the health metrics of features, computed on the first 512 rows.

    Args:
        features: Float [N, D], N >= 2. Features of zero length stay zero.
        view_a: Features of one augmented view of each image, float [N, D].
        view_b: Features of another view of the same images, float [N, D].

    Returns:
        Floats by name; NaN where the features are not finite.

        - `health/feature_std`: standard deviation of each dimension of the l2-normalized features, averaged, times
          sqrt(D); near 1 is healthy, 0 is collapsed to a point (SimSiam, 2011.10566).
        - `health/rankme`: exp of the entropy of the singular values, in [1, min(N, D)] (RankMe, 2210.02885).
        - `health/uniformity`: log mean exp(-2 |a - b|^2) over pairs of l2-normalized features; 0 is collapsed, near -4
          is spread evenly over the sphere, lower is better (Wang & Isola, 2005.10242).
        - `health/alignment`: mean |a - b|^2 over the l2-normalized views of an image; 0 is aligned, 2 is unrelated
          (same source). Only with two views.
    """
    features = features[:MAX_SAMPLES].float()
    metrics = dict.fromkeys((FEATURE_STD, RANKME, UNIFORMITY), math.nan)
    if torch.isfinite(features).all():
        unit = F.normalize(features, dim=1)
        metrics[FEATURE_STD] = (unit.std(dim=0, correction=0).mean() * math.sqrt(unit.shape[1])).item()
        metrics[RANKME] = rankme(features)
        metrics[UNIFORMITY] = uniformity(unit)
    if view_a is not None and view_b is not None:
        a, b = (F.normalize(view[:MAX_SAMPLES].float(), dim=1) for view in (view_a, view_b))
        metrics[ALIGNMENT] = (a - b).square().sum(dim=1).mean().item()
    return metrics


def rankme(features: Tensor) -> float:
    """Return exp(-sum p log p) of finite features [N, D], where p = sigma / sum(sigma) + 1e-7.

    The singular values sigma are the square roots of the eigenvalues of the smaller Gram matrix, in float64, which is
    several times faster than an SVD.
    """
    matrix = in_float64(features)
    matrix = matrix / matrix.abs().max().clamp(min=1e-30)
    gram = matrix.t() @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.t()
    singular_values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    p = singular_values / singular_values.sum().clamp(min=1e-30) + 1e-7
    return torch.exp(-(p * p.log()).sum()).item()


def uniformity(unit: Tensor) -> float:
    """Return log mean exp(-2 |a - b|^2) over all pairs of rows of l2-normalized features [N, D]."""
    return torch.pdist(unit).square().mul(-2.0).exp().mean().log().item()
