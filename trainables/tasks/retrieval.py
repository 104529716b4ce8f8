"""Retrieval of the other view of an image: the metrics of tasks whose objective has no level at chance."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.distributed import worker_rank

TEMPERATURE = 0.5  # the same for all trials, so that their losses can be compared


@torch.no_grad()
def retrieval(queries: Tensor, keys: Tensor) -> dict[str, Tensor]:
    """Return how well each query finds the key of its own image among the keys of all images.

    An objective that a constant network solves, such as BYOL's, does not show whether anything was learned. Retrieval
    does: a constant network is at chance.

    Args:
        queries: Embeddings of one view of this worker's n images, [n, D].
        keys: Embeddings of the other view of all N images, [N, D], with those of this worker at
            `worker_rank() * n`; N = n for one worker.

    Returns:
        `accuracy`, whether the own key has the highest cosine, and `loss`, the cross-entropy in nats of a softmax over
        the cosines / 0.5, each float32 [n].
    """
    queries, keys = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
    with torch.autocast(queries.device.type, enabled=False):
        logits = queries @ keys.T / TEMPERATURE
    rank = worker_rank() if len(keys) > len(queries) else 0
    own = torch.arange(len(queries), device=queries.device) + rank * len(queries)
    correct = (logits.argmax(dim=1) == own).float()
    return {"accuracy": correct, "loss": F.cross_entropy(logits, own, reduction="none")}


def retrieval_chance(n_images: int) -> dict[str, float]:
    """Return the levels of `retrieval` for embeddings that tell nothing about their image: 1 / N and ln(N)."""
    return {"accuracy": 1 / n_images, "loss": math.log(n_images)}
