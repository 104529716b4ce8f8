"""Top-1 and top-5 accuracy of class scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Accuracy:
    """Shares of samples whose class is the best guess, or among the five best (all, with five classes or fewer)."""

    top1: float
    top5: float


def top_accuracy(scores: Tensor, labels: Tensor) -> Accuracy:
    """Return top-1 and top-5 of scores [N, K]; NaN where a score is NaN."""
    if not torch.isfinite(scores).all():
        return Accuracy(math.nan, math.nan)
    best = scores.topk(min(5, scores.shape[1]), dim=1).indices
    hits = best == labels[:, None]
    return Accuracy(top1=hits[:, 0].float().mean().item(), top5=hits.any(dim=1).float().mean().item())
