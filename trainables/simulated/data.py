"""Simulated data sets: realistic sizes, labels and class names; gray images and empty masks that use no memory."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from trainables.data.load import native_size
from trainables.data.shapes import CLASS_NAMES as SHAPE_NAMES
from trainables.data.shapes import MASK_NAMES as SHAPE_MASKS
from trainables.data.table import ImageTable, Splits
from trainables.data.torchvision_sets import VOC_CLASSES
from trainables.simulated.trajectories import N_CLASSES

N_TRAIN, N_TEST = 12_500, 2_000  # before a fifth of the training images is held out for validation
GRAY = 128

_CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "fashion_mnist": ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
    "shapes": SHAPE_NAMES,
}
_MASK_NAMES = {"shapes": SHAPE_MASKS, "voc2007": VOC_CLASSES, "voc2012": VOC_CLASSES}
_UNLABELED = ("voc2007", "voc2012")


class GrayTable(ImageTable):
    """A table of identical images: one byte in memory, and only the labels are pickled."""

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of SHA-256 over name, shape, labels and class names."""
        labels = b"" if self.labels is None else np.ascontiguousarray(self.labels).tobytes()
        text = "\0".join(("simulated", self.name, str(self.images.shape), *self.class_names, *self.mask_names))
        return hashlib.sha256(text.encode() + labels).hexdigest()[:16]

    def take(self, indices: np.ndarray) -> ImageTable:
        """Return the rows at `indices` (int64 [M]), in that order, as a new table."""
        labels = None if self.labels is None else self.labels[indices]
        return gray_table(self.name, len(indices), self.image_size, labels, self.class_names, self.mask_names)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return gray_table, (self.name, len(self), self.image_size, self.labels, self.class_names, self.mask_names)


def load_splits(name: str, *, max_train: int | None = None, seed: int = 0, image_size: int | None = None) -> Splits:
    """Return simulated splits of a data set; nothing is read, and any name is accepted.

    There are ten classes, but `voc2007` and `voc2012` have no labels. These two and `shapes` have masks. Pretext
    training has 10,000 images and validation 2,500, or four fifths and one fifth of `max_train`; test has 2,000.

    Args:
        name: Name of the data set.
        max_train: Maximum number of training and validation images.
        seed: Seed of the labels.
        image_size: Side in pixels; None for the data set's native size.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    size = image_size or native_size(name)
    total = N_TRAIN if max_train is None else min(max_train, N_TRAIN)
    n_validation = max(1, round(total / 5))

    def table(n_images: int) -> ImageTable:
        if not is_labeled(name):
            return gray_table(name, n_images, size, None, (), mask_names(name))
        names = _CLASS_NAMES.get(name, tuple(f"class_{index}" for index in range(N_CLASSES)))
        labels = rng.permutation(n_images) % N_CLASSES
        return gray_table(name, n_images, size, labels, names, mask_names(name))

    train, validation, test = table(max(1, total - n_validation)), table(n_validation), table(N_TEST)
    return Splits(train, validation, train, validation, test)


def is_labeled(name: str) -> bool:
    """Return whether the simulated data set of this name has labels."""
    return name not in _UNLABELED


def mask_names(name: str) -> tuple[str, ...]:
    """Return the mask classes of the simulated data set of this name; empty if it has no masks."""
    return _MASK_NAMES.get(name, ())


def gray_table(
    name: str,
    n_images: int,
    image_size: int,
    labels: np.ndarray | None,
    class_names: tuple[str, ...],
    mask_names: tuple[str, ...] = (),
) -> GrayTable:
    """Return a table of gray images and empty masks, both read-only views of a single byte.

    Args:
        name: Name of the data set.
        n_images: Number N of images.
        image_size: Side of the images in pixels.
        labels: Labels, int64 [N]; None without labels.
        class_names: Names of the classes; empty without labels.
        mask_names: Names of the classes of the masks; empty for no masks.
    """
    images = np.broadcast_to(np.uint8(GRAY), (n_images, 3, image_size, image_size))
    masks = np.broadcast_to(np.uint8(0), (n_images, image_size, image_size)) if mask_names else None
    return GrayTable(name, images, labels, masks, class_names, mask_names)
