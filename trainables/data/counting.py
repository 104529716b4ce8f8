"""Counting of a data set's images for its inventory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.data.inventory import SPLITS, Found, Inventory
from trainables.data.table import UNLABELED, ImageTable, Splits

WITHOUT_LABEL, WITH_MASK, ALL = "without a label", "with a mask", "images"


def take_inventory(splits: Splits, keys: Sequence[bytes], found: Found | None = None) -> Inventory:
    """Return the inventory of a data set.

    Args:
        splits: Its splits.
        keys: A hash of each image's pixels, of all images that were read.
        found: Facts about its files.
    """
    tables = (splits.pretext_train, splits.pretext_validation, splits.test)
    by_split = {split: _counts(table, splits) for split, table in zip(SPLITS, tables, strict=True)}
    kinds = dict.fromkeys(kind for own in by_split.values() for kind in own)
    counts = {kind: {split: by_split[split].get(kind, 0) for split in SPLITS} for kind in kinds}
    groups = [table.groups for table in tables if table.groups is not None]
    table = splits.pretext_train
    return Inventory(
        splits.name,
        {kind: own for kind, own in counts.items() if any(own.values())},
        table.class_names,
        table.image_size,
        table.n_channels,
        str(table.images.dtype),
        len(keys) - len(set(keys)),
        len(np.unique(np.concatenate(groups))) if groups else None,
        found,
    )


def _counts(table: ImageTable, splits: Splits) -> dict[str, int]:
    """Return the number of images of each class, or with and without a mask."""
    if table.labels is not None:
        counts = {name: int((table.labels == index).sum()) for index, name in enumerate(table.class_names)}
        return counts | {WITHOUT_LABEL: int((table.labels == UNLABELED).sum())}
    if not splits.masked:
        return {ALL: len(table)}
    masked = splits.probe_train if table is splits.pretext_train else table
    n_masked = 0 if masked is None else len(masked)
    return {WITH_MASK: n_masked, ALL: len(table) - n_masked}
