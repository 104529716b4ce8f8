"""Splitting of a data set's training and test parts into the five splits of a study."""

from __future__ import annotations

import dataclasses
import hashlib
import logging

import numpy as np

from trainables.data.table import UNLABELED, ImageTable, Splits
from trainables.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


def make_splits(
    train: ImageTable,
    test: ImageTable,
    *,
    seed: int = 0,
    validation_fraction: float = 0.2,
    extra_pretext: ImageTable | None = None,
) -> Splits:
    """Draw the validation splits from the training part, stratified by label.

    Training, validation and test never share an image: training images with the same pixels as a held-out one are
    removed, and a warning counts them. The probe splits are the annotated images of the pretext splits (a label, or a
    mask in a data set without labels): the same table object if all images are annotated, None if none is.

    Args:
        train: Official training part.
        test: Official test part; it becomes the test split unchanged.
        seed: Seed of the validation draw and of the order of the rows.
        validation_fraction: Share of each class to hold out, in (0, 1).
        extra_pretext: Unannotated images that are added to pretext training only.

    Raises:
        ConfigError: The fraction is outside (0, 1).
        DataError: Too few images are left.
    """
    if not 0 < validation_fraction < 1:
        raise ConfigError(f"validation_fraction = {validation_fraction}: must be between 0 and 1")
    pool = _without(train, [test])
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5711]))
    held_out = _stratified(pool, validation_fraction, rng)
    # Random order makes the first rows of any split a fair sample of it.
    validation = pool.take(rng.permutation(np.flatnonzero(held_out)))
    fit = _without(pool.take(rng.permutation(np.flatnonzero(~held_out))), [validation])
    if not len(fit) or not len(validation):
        raise DataError(f"{train.name}: {len(pool)} training images are too few to hold out a validation split")
    pretext = fit if extra_pretext is None else _joined(fit, _without(extra_pretext, [validation, test]))
    return Splits(pretext, validation, _annotated(fit), _annotated(validation), test)


def content_keys(table: ImageTable) -> list[bytes]:
    """Return a hash of each image's pixels; equal pixels give equal keys."""
    return [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in table.images]


def _without(table: ImageTable, held_out: list[ImageTable]) -> ImageTable:
    """Return the table without the images that are also in a held-out table."""
    taken = {key for other in held_out for key in content_keys(other)}
    fresh = np.array([key not in taken for key in content_keys(table)], bool)
    if fresh.all():
        return table
    logger.warning("%s: %d training images are also held out and are removed from training", table.name, (~fresh).sum())
    return table.take(np.flatnonzero(fresh))


def _stratified(table: ImageTable, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Choose the held-out rows, bool [N]: a fraction of each class, at least one image if it has two, never all."""
    labels = np.zeros(len(table), np.int64) if table.labels is None else table.labels
    held_out = np.zeros(len(table), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        n_held_out = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held_out[members[:n_held_out]] = True
    return held_out


def _annotated(table: ImageTable) -> ImageTable | None:
    if table.labels is None:
        return table if table.masks is not None else None
    labeled = table.labels != UNLABELED
    if labeled.all():
        return table
    return table.take(np.flatnonzero(labeled)) if labeled.any() else None


def _joined(table: ImageTable, extra: ImageTable) -> ImageTable:
    """Return one table for pretext training with the images of both: extra images unlabeled, no masks."""
    labels = None
    if table.labels is not None:
        labels = np.concatenate([table.labels, np.full(len(extra), UNLABELED, np.int64)])
    images = np.concatenate([table.images, extra.images])
    return dataclasses.replace(table, images=images, labels=labels, masks=None, mask_names=())
