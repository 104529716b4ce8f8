"""Splitting of a data set's training and test parts into the five splits of a study."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence

import numpy as np

from trainables.data.groups import hold_out_groups
from trainables.data.leaks import (
    ALLOW,
    LEAK,
    MOVE,
    TRAINING,
    VALIDATION,
    NameOf,
    check_leaks,
    labels_of,
    separated,
    without_leaks,
)
from trainables.data.table import UNLABELED, ImageTable, Splits
from trainables.errors import ConfigError, DataError

VALIDATION_FRACTION = 0.2  # share of each training class that validates

logger = logging.getLogger(__name__)


def make_splits(
    train: ImageTable,
    test: ImageTable,
    *,
    seed: int = 0,
    validation_fraction: float = VALIDATION_FRACTION,
    extra_pretext: ImageTable | None = None,
    leak: str = ALLOW,
    test_fraction: float | None = None,
    files: Sequence[Sequence[str]] | None = None,
    validation: ImageTable | None = None,
) -> Splits:
    """Draw the validation splits from the training part, stratified by label, with groups kept together.

    Training, validation and test never share an image or a group: training images with the same pixels as a held-out
    one, or in a group of the test split, are removed, and a warning counts them. The probe splits are the annotated
    images of the pretext splits (a label, or a mask in a data set without labels): the same table object if all images
    are annotated, None if none is.

    Args:
        train: Official training part.
        test: Official test part; its annotated images become the test split, unless `test_fraction` is given. Empty for
            none.
        seed: Seed of the validation draw and of the order of the rows.
        validation_fraction: Share of each class to hold out, in (0, 1).
        extra_pretext: Unannotated images that are added to pretext training only.
        leak: What happens to near duplicates across splits: `stop` raises an error that names them, `move` puts them
            on one side, `allow` counts them in `Splits.leaks` and warns.
        test_fraction: Share of each class in `test` if it was drawn from the same images as `train`, so that `move` may
            draw its near duplicates again. None for an official one: `move` then removes their copies from training.
        files: Files of the images of `train`, `test`, `validation` and `extra_pretext`, for messages. Those of a table
            that is not given are ignored, and the last ones may be missing.
        validation: Official validation part, in place of a draw; it becomes the validation splits, in random order and
            without what it shares with `test`.

    Raises:
        ConfigError: The fraction is outside (0, 1), or there is no such `leak`.
        DataError: Too few images are left, no test image is annotated though training images are, or there are near
            duplicates and `leak` is `stop`.
    """
    if not 0 < validation_fraction < 1:
        raise ConfigError(f"validation_fraction = {validation_fraction}: must be between 0 and 1")
    if leak not in LEAK:
        raise ConfigError(f"leak = {leak!r}: must be one of {', '.join(LEAK)}")
    move, name_of = leak == MOVE, _namer((train, test, validation, extra_pretext), files)
    n_test_moved = n_moved = 0
    if move and test_fraction is not None:
        train, test, n_test_moved = _moved_parts(train, test, test_fraction)
    pool = without_leaks(_without(train, [test]), [test], near=move)
    if validation is None:
        fit, validation, n_moved = _drawn(pool, validation_fraction, seed, move=move)
    else:
        fit, validation = _given(pool, validation, test, seed, move=move)
    if not len(fit) or not len(validation):
        raise DataError(f"{train.name}: {_too_few(pool)}")
    pretext = fit
    if extra_pretext is not None:
        both = [validation, test]
        pretext = _joined(fit, without_leaks(_without(extra_pretext, both), both, near=move))
    test = _tested(fit, test)
    _warn_of_missing_classes(train, {TRAINING: fit, VALIDATION: validation, "test": test})
    splits = Splits(pretext, validation, _annotated(fit), _annotated(validation), test)
    return dataclasses.replace(splits, leaks=check_leaks(splits, leak, n_test_moved + n_moved, name_of))


def _drawn(pool: ImageTable, fraction: float, seed: int, *, move: bool) -> tuple[ImageTable, ImageTable, int]:
    """Return training and validation images drawn from one table, in random order, and the number that moved.

    Random order makes the first rows of any split a fair sample of it.
    """
    rng, n_moved = np.random.default_rng(np.random.SeedSequence([seed, 0x5711])), 0
    held_out = _held_out(pool, fraction, rng)
    if move:
        held_out, n_moved = separated(pool, held_out, fraction, seed)
    validation = pool.take(rng.permutation(np.flatnonzero(held_out)))
    return _without(pool.take(rng.permutation(np.flatnonzero(~held_out))), [validation]), validation, n_moved


def _given(
    pool: ImageTable, validation: ImageTable, test: ImageTable, seed: int, *, move: bool
) -> tuple[ImageTable, ImageTable]:
    """Return training images without those of a given validation part, and that part, both in random order."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5711]))
    validation = without_leaks(_without(validation, [test], VALIDATION), [test], near=move, part=VALIDATION)
    validation = validation.take(rng.permutation(len(validation)))
    fit = without_leaks(_without(pool, [validation]), [validation], near=move)
    return fit.take(rng.permutation(len(fit))), validation


def content_keys(table: ImageTable) -> list[bytes]:
    """Return a hash of each image's pixels; equal pixels give equal keys."""
    return table.hashes.keys


def _without(table: ImageTable, held_out: list[ImageTable], part: str = TRAINING) -> ImageTable:
    """Return the table of a part without the images that are also in a held-out table."""
    taken = {key for other in held_out for key in content_keys(other)}
    fresh = np.array([key not in taken for key in content_keys(table)], bool)
    if fresh.all():
        return table
    n, name = (~fresh).sum(), table.name
    logger.warning("%s: %d %s images are also held out and are removed from %s", name, n, part, part)
    return table.take(np.flatnonzero(fresh))


def _held_out(table: ImageTable, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Choose the held-out rows, bool [N]: a fraction of each class, at least one image if it has two, never all."""
    labels = labels_of(table)
    if table.groups is not None:
        return hold_out_groups(labels, table.groups, fraction, rng.permutation(len(table)))
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


def _tested(train: ImageTable, test: ImageTable) -> ImageTable:
    """Return the test images that probes can be scored on; all of them if no training image is annotated."""
    if _annotated(train) is None:
        return test
    annotated = _annotated(test)
    if not annotated:
        raise DataError(
            f"{train.name}: training images have labels or masks, but no test image has; a loader of your own returns "
            "annotated test images, or images without annotation alone"
        )
    return annotated


def _joined(table: ImageTable, extra: ImageTable) -> ImageTable:
    """Return one table for pretext training with the images of both: extra images unlabeled, no masks."""
    labels = None
    if table.labels is not None:
        labels = np.concatenate([table.labels, np.full(len(extra), UNLABELED, np.int64)])
    return table.joined(extra, labels, None)


def _moved_parts(train: ImageTable, test: ImageTable, fraction: float) -> tuple[ImageTable, ImageTable, int]:
    """Return the two parts with near duplicates on one side, and the number of images that were moved."""
    every = _stacked(train, test)
    in_test = np.arange(len(every)) >= len(train)
    moved, n_moved = separated(every, in_test, fraction, 0)
    if not n_moved:
        return train, test, 0
    return every.take(np.flatnonzero(~moved)), every.take(np.flatnonzero(moved)), n_moved


def _stacked(first: ImageTable, second: ImageTable) -> ImageTable:
    """Return the rows of two tables of one data set in one table."""

    def stacked(field: str) -> np.ndarray | None:
        arrays = getattr(first, field), getattr(second, field)
        return None if arrays[0] is None else np.concatenate(arrays)

    return first.joined(second, stacked("labels"), stacked("masks"))


def _too_few(pool: ImageTable) -> str:
    """Return why a validation split cannot be held out."""
    if pool.groups is not None and len(np.unique(pool.groups)) < 2:
        return f"all {len(pool)} training images are in one group, and groups stay together: none can be held out"
    return f"{len(pool)} training images are too few to hold out a validation split"


def _warn_of_missing_classes(train: ImageTable, parts: Mapping[str, ImageTable]) -> None:
    """Warn of classes that a split lacks, as where their images are in one group or are near duplicates."""
    if train.labels is None:
        return
    for part, table in parts.items():
        missing = np.setdiff1d(train.labels, labels_of(table))
        names = [train.class_names[label] for label in missing if label != UNLABELED]
        if names:
            logger.warning(
                "%s: no %s image of class %s: all its images are in other splits, as where groups or near duplicates "
                "cannot be divided",
                train.name,
                part,
                ", ".join(names),
            )


def _namer(tables: Sequence[ImageTable | None], files: Sequence[Sequence[str]] | None) -> NameOf:
    """Return a function that names the file of a row, by its pixels, or the row where the files are not known."""

    @functools.cache
    def by_content() -> dict[bytes, str]:
        if files is None:
            return {}
        return {
            key: name
            for table, names in zip(tables, files, strict=False)
            if table is not None
            for key, name in zip(content_keys(table), names, strict=True)
        }

    def name_of(table: ImageTable, row: int) -> str:
        return by_content().get(table.hashes.content[row].tobytes(), f"image {row}")

    return name_of
