"""Image tables and the five splits of a study: the form that every data set is loaded into."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.data.cache import file_of, joined, key_of, remembered, rows, uncached
from trainables.data.cache.arrays import LARGE_BYTES, FileArray
from trainables.data.groups import joined_groups
from trainables.data.intensity import Intensity
from trainables.data.inventory import Inventory
from trainables.data.row_hashes import RowHashes, hash_rows
from trainables.errors import DataError

UNLABELED = -1
DTYPES = ("uint8", "uint16", "float32")
VOID = 255  # mask value that metrics ignore, as in Pascal VOC
_HASHES = "hashes"  # the attribute, once it is computed


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images as plain numpy arrays, large ones in files, which the processes of a node share without a copy.

    Images in memory are shared by Ray's object store, those in files by their path: a pickled table has the path.

    Attributes:
        name: Name of the data set.
        images: uint8, uint16 or float32 [N, C, S, S], contiguous. White is 255, 65,535 or 1; see `to_float`.
        labels: int64 [N] with -1 where unlabeled, or None if the data set has no labels.
        masks: Class ids uint8 [N, S, S] with 255 for void, or None if the data set has no masks.
        class_names: Names of the classes 0 .. K-1 of `labels`; empty without labels.
        mask_names: Names of the classes of `masks`; empty without masks.
        groups: Id of each image's group, int64 [N], or None if the images are independent. Images of one group (one
            plate, one patient) are never on two sides of a split.
        intensity: How the values in the files were scaled to those in `images`; None for 8 bits, which stay as they
            are. New images need the same scaling.

    Raises:
        DataError: Shapes, dtypes or labels are wrong.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    masks: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    mask_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    intensity: Intensity | None = None

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype not in DTYPES or images.ndim != 4 or not images.shape[1] or images.shape[2] != images.shape[3]:
            raise DataError(
                f"{self.name}: images must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]} [N, C, S, S], "
                f"not {images.dtype} {images.shape}"
            )
        self._check_labels()
        if self.masks is not None and self.masks.shape != (len(images), *images.shape[2:]):
            raise DataError(f"{self.name}: images {images.shape} but masks of shape {self.masks.shape}")
        if self.groups is not None and (self.groups.shape != (len(images),) or self.groups.dtype != np.int64):
            raise DataError(
                f"{self.name}: groups must be int64 [{len(images)}], not {self.groups.dtype} {list(self.groups.shape)}"
            )

    def _check_labels(self) -> None:
        labels, last = self.labels, self.n_classes - 1
        if labels is None:
            return
        if labels.shape != (len(self),):
            raise DataError(f"{self.name}: {len(self)} images but labels of shape {labels.shape}")
        if labels.dtype != np.int64:
            raise DataError(f"{self.name}: labels must be int64, not {labels.dtype}; use labels.astype(np.int64)")
        if len(labels) and (labels.min() < UNLABELED or labels.max() > last):
            raise DataError(
                f"{self.name}: labels must be -1 (unlabeled) to {last}, the positions in class_names, "
                f"not {labels.min()} to {labels.max()}"
            )

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != _HASHES}
        return state | {"images": file_of(self.images) or self.images}

    def __setstate__(self, state: dict[str, Any]) -> None:
        images = state["images"]
        vars(self).update(state, images=images.open() if isinstance(images, FileArray) else images)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def n_channels(self) -> int:
        """Number of channels of the images: 3 for color and gray, otherwise as in the files."""
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        """Side of the square images, in pixels."""
        return self.images.shape[-1]

    @property
    def n_classes(self) -> int:
        """Number of classes of `labels`; 0 without labels."""
        return len(self.class_names)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of SHA-256 over shapes, bytes, class names and groups."""
        if self.images.nbytes < LARGE_BYTES or _HASHES not in vars(self):
            return self._digest()
        rest = (self.labels, self.masks, self.class_names, self.mask_names, self.groups)
        key = key_of(str(self.images.dtype), self.images.shape, self.hashes.content, *rest)
        return remembered("fingerprints", key, lambda: np.array(self._digest())).item()

    @functools.cached_property
    def hashes(self) -> RowHashes:
        """Hashes of the images; tables that are made of this one take theirs over."""
        return hash_rows(self.images)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for array in (self.images, self.labels, self.masks):
            if array is not None:
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        digest.update("\0".join((*self.class_names, "", *self.mask_names)).encode())
        if self.groups is not None:  # fingerprints of tables without groups are those of earlier versions
            digest.update(f"groups{self.groups.shape}".encode())
            digest.update(np.ascontiguousarray(self.groups).data)
        return digest.hexdigest()[:16]

    def take(self, indices: np.ndarray) -> ImageTable:
        """Return the rows at `indices`, int64 [M], in that order, as a new table."""
        taken = dataclasses.replace(
            self,
            images=rows(self.images, indices),
            labels=None if self.labels is None else self.labels[indices],
            masks=None if self.masks is None else np.ascontiguousarray(self.masks[indices]),
            groups=None if self.groups is None else self.groups[indices],
        )
        if _HASHES in vars(self):
            vars(taken)[_HASHES] = self.hashes.take(indices)
        return taken

    def joined(self, other: ImageTable, labels: np.ndarray | None, masks: np.ndarray | None) -> ImageTable:
        """Return the images and groups of this table and then of another one, with the labels and masks of all."""
        groups = None
        if self.groups is not None or other.groups is not None:
            groups = joined_groups(self.groups, len(self), other.groups, len(other))
        both = dataclasses.replace(
            self,
            images=joined(self.images, other.images),
            labels=labels,
            masks=masks,
            mask_names=() if masks is None else self.mask_names,
            groups=groups,
        )
        vars(both)[_HASHES] = self.hashes.joined(other.hashes)
        return both

    def uncached(self) -> ImageTable:
        """Return the table with its images in memory, for processes that cannot read this machine's files."""
        return dataclasses.replace(self, images=uncached(self.images))

    def without_masks(self) -> ImageTable:
        """Return the table without its masks."""
        return dataclasses.replace(self, masks=None, mask_names=())

    def subset(self, n_images: int | None, seed: int) -> ImageTable:
        """Return `n_images` rows drawn without replacement; None returns the table itself.

        Subsets of one seed are nested: a subset of 200 is the first 200 rows of a subset of 1,000.

        Raises:
            DataError: The table has fewer rows.
        """
        if n_images is None or n_images == len(self):
            return self
        if n_images > len(self):
            raise DataError(f"{self.name}: n_images = {n_images}, but only {len(self)} training images are available")
        order = np.random.default_rng(np.random.SeedSequence([seed, 0x5E7])).permutation(len(self))
        return self.take(order[:n_images])


@dataclass(frozen=True, eq=False)
class Leaks:
    """Images of the held-out splits with a near duplicate in `pretext_train`.

    Attributes:
        policy: What was done about near duplicates: `stop`, `move` or `allow`.
        test: Whether each test image has one, bool [N].
        validation: Whether each image of `pretext_validation` has one, bool [M].
        n_moved: Number of images that were moved, or left out of training, to keep near duplicates on one side.
    """

    policy: str
    test: np.ndarray
    validation: np.ndarray
    n_moved: int = 0

    @property
    def found(self) -> bool:
        """Whether there is any."""
        return bool(self.test.any() or self.validation.any())


_TABLES = ("pretext_train", "pretext_validation", "probe_train", "probe_validation", "test")  # tables of a data set


@dataclass(frozen=True, eq=False)
class Splits:
    """The five splits of one data set, made once and shared by all trials.

    Rows are in random order, except that `test` has the order of its files and that further images without labels
    come last in `pretext_train`.

    Attributes:
        pretext_train: Images that pretext tasks train on; they may have no labels.
        pretext_validation: Images for the pretext task's own metrics; none of them is in a training split.
        probe_train: Annotated images only (a label, or a mask in a data set without labels); None if there are none.
        probe_validation: Annotated images, none of them in a training split; None if there are none.
        test: Images that only the final evaluation reads, none of them in another split; empty without labels and
            masks, for which there is nothing to evaluate.
        leaks: Near duplicates across the splits; None if nobody looked for them.
        inventory: What was found in the files of the data set; None if nobody looked.
    """

    pretext_train: ImageTable
    pretext_validation: ImageTable
    probe_train: ImageTable | None
    probe_validation: ImageTable | None
    test: ImageTable
    leaks: Leaks | None = None
    inventory: Inventory | None = None

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.pretext_train.name

    @property
    def labeled(self) -> bool:
        """Whether a classification probe can be fitted."""
        return all(table is not None and table.labels is not None for table in self._probed)

    @property
    def masked(self) -> bool:
        """Whether a segmentation probe can be fitted."""
        return all(table is not None and table.masks is not None for table in self._probed)

    @property
    def annotated(self) -> bool:
        """Whether any probe can be fitted."""
        return self.labeled or self.masked

    def uncached(self) -> Splits:
        """Return the splits with all images in memory, for processes that cannot read this machine's files."""
        return self._with_each(ImageTable.uncached)

    def without_masks(self) -> Splits:
        """Return the splits for classification probes alone; masks are left out."""
        return self._with_each(ImageTable.without_masks)

    def held_out(self, probe_split: str) -> ImageTable:
        """Return the annotated images that probes are scored on: the test split for `test`, or else for validation."""
        if probe_split == "test":
            return self.test
        assert self.probe_validation is not None
        return self.probe_validation

    def _with_each(self, change: Callable[[ImageTable], ImageTable]) -> Splits:
        tables = {name: table for name in _TABLES if (table := getattr(self, name)) is not None}
        changed: dict[int, Any] = {id(table): change(table) for table in tables.values()}  # two splits may be one table
        return dataclasses.replace(self, **{name: changed[id(table)] for name, table in tables.items()})

    @property
    def _probed(self) -> tuple[ImageTable | None, ...]:
        return self.probe_train, self.probe_validation, self.test

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits of SHA-256 over the fingerprints of the five splits."""
        tables = (getattr(self, name) for name in _TABLES)
        joined = "/".join("-" if table is None else table.fingerprint for table in tables)
        return hashlib.sha256(joined.encode()).hexdigest()[:16]


def as_tensor(array: np.ndarray) -> Tensor:
    """Return a tensor that shares the array's memory. Do not write to it: Ray's arrays are read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*", category=UserWarning)
        return torch.from_numpy(array)


def to_float(images: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Return images [N, C, H, W] as float32 in [0, 1]; convolutions are fastest on `torch.channels_last`.

    Args:
        images: uint8, white at 255; uint16, white at 65,535; or float32, which is not scaled.
        memory_format: Memory format of the result.
    """
    images = images.contiguous(memory_format=memory_format)
    if images.dtype == torch.float32:
        return images
    return images / (255 if images.dtype == torch.uint8 else 65_535)
