"""What is measured about a running representation: has it collapsed, how many dimensions does it use."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_SAMPLES = 512  # RankMe costs min(N, D)^3; below its authors' 25,600 samples it only compares runs of one method


@torch.no_grad()
def health(features: Tensor, view_a: Tensor | None = None, view_b: Tensor | None = None) -> dict[str, float]:
    """Return health figures of features, float [N, D] with N >= 2; the first 512 rows count.

    view_a, view_b: features of two augmented views of the same images, float [N, D], row by row.

    health/feature_std: standard deviation of each dimension of the l2-normalized features, averaged, times sqrt(D);
        near 1 healthy, 0 collapsed to one point (SimSiam, 2011.10566).
    health/rankme: exp of the entropy of the singular values, 1 .. min(N, D) (RankMe, 2210.02885).
    health/uniformity: log mean exp(-2 |a - b|^2) over pairs of l2-normalized features; 0 collapsed, near -4 spread
        evenly over the sphere, the lower the better (Wang & Isola, 2005.10242).
    health/alignment: mean |a - b|^2 over the l2-normalized views of an image; 0 aligned, 2 unrelated (same source);
        only where two views are given.

    Features of zero length stay zero. A figure whose features are not finite is NaN; nothing is raised for it.
    """
    features = features[:MAX_SAMPLES].float()
    figures = {"health/feature_std": math.nan, "health/rankme": math.nan, "health/uniformity": math.nan}
    if torch.isfinite(features).all():
        unit = F.normalize(features, dim=1)
        figures["health/feature_std"] = (unit.std(dim=0, correction=0).mean() * math.sqrt(unit.shape[1])).item()
        figures["health/rankme"] = rankme(features)
        figures["health/uniformity"] = uniformity(unit)
    if view_a is not None and view_b is not None:
        a, b = (F.normalize(view[:MAX_SAMPLES].float(), dim=1) for view in (view_a, view_b))
        figures["health/alignment"] = (a - b).square().sum(dim=1).mean().item()
    return figures


def rankme(features: Tensor) -> float:
    """Return exp(-sum p log p), p = sigma / sum(sigma) + 1e-7, of the singular values of finite features [N, D].

    They are the roots of the eigenvalues of the smaller Gram matrix, in float64: several times faster than an SVD.
    """
    matrix = features.double()
    matrix = matrix / matrix.abs().max().clamp(min=1e-30)
    gram = matrix.t() @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.t()
    singular_values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    p = singular_values / singular_values.sum().clamp(min=1e-30) + 1e-7
    return torch.exp(-(p * p.log()).sum()).item()


def uniformity(unit: Tensor, t: float = 2.0) -> float:
    """Return log mean exp(-t |a - b|^2) over all pairs of the rows of l2-normalized features [N, D]."""
    return torch.pdist(unit).square().mul(-t).exp().mean().log().item()
