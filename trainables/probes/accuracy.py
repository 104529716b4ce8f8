"""Top-1 and top-5 accuracy of class scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of class scores, as shares of samples.

    Attributes:
        top1: Share whose class has the highest score.
        top5: Share whose class is among the five highest scores; 1 with five classes or fewer.
    """

    top1: float
    top5: float


def top_accuracy(scores: Tensor, labels: Tensor) -> Accuracy:
    """Return the accuracy of scores, float [N, K], on labels, int64 [N]; NaN if any score is not finite."""
    if not torch.isfinite(scores).all():
        return Accuracy(math.nan, math.nan)
    best = scores.topk(min(5, scores.shape[1]), dim=1).indices
    hits = best == labels[:, None]
    return Accuracy(top1=hits[:, 0].float().mean().item(), top5=hits.any(dim=1).float().mean().item())
