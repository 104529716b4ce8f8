"""Batches of a trial: which sizes are possible, and which images each step takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainables.rng import stream_seed
from trainables.trial import TrialConfig


def batch_size_problem(batch_size: int, *, n_images: int, workers: int) -> str:
    """Return the problem with a batch size and its remedy, as the predicate of a sentence; empty if there is none.

    Args:
        batch_size: Images per optimizer step, over all workers.
        n_images: Images that the task trains on.
        workers: Workers that share each batch.
    """
    if batch_size > n_images:
        return f"is more than the {n_images} training images; use at most {n_images}"
    if batch_size == 1:
        return "is too small: BatchNorm needs at least 2 images; use at least 2"
    if batch_size % workers or batch_size < 2 * workers:
        return (
            f"cannot be shared by workers = {workers}: each takes the same number of images, and BatchNorm needs "
            f"at least 2; use a multiple of {workers} from {2 * workers} up"
        )
    return ""


def batches(trial: TrialConfig, n_images: int, first: int) -> Iterator[np.ndarray]:
    """Yield the rows of each step's batch, int64 [batch_size]; every epoch is a new permutation.

    Args:
        trial: Configuration, with seed, batch size and number of steps.
        n_images: Number of training images.
        first: Step to begin at, counted from 0.
    """
    per_epoch = n_images // trial.batch_size
    order, epoch = np.empty(0, dtype=np.int64), -1
    for step in range(first, trial.budget_steps):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = np.random.default_rng(stream_seed(trial.seed, "order", epoch)).permutation(n_images)
        start = step % per_epoch * trial.batch_size
        yield order[start : start + trial.batch_size]
