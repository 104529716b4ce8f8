"""What a loader of a data set is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainables.data.table import ImageTable
from trainables.errors import DataError

ON_BAD_IMAGE = ("stop", "skip")
RESIZE = ("crop", "squash")


class Tables(NamedTuple):
    """A data set as its loader gives it: the official training and test part, and images that have no annotation."""

    train: ImageTable
    test: ImageTable
    unannotated: ImageTable | None = None


@dataclass(frozen=True)
class Request:
    """One call of `load_splits`, with every default filled in.

    image_size: side of the images in pixels.
    max_train: at most so many images on the training side, None for all.
    on_bad_image: `stop` or `skip`.
    resize: how a photograph becomes a square, `crop` or `squash`.
    """

    name: str
    root: Path | None
    image_size: int
    max_train: int | None = None
    seed: int = 0
    download: bool = False
    on_bad_image: str = "stop"
    resize: str = "crop"

    @property
    def squash(self) -> bool:
        """Whether photographs are squashed into the square instead of cut to it."""
        return self.resize == "squash"

    def choose(self, n_images: int) -> np.ndarray:
        """Return which of `n_images` training images to read: int64, ascending, nested over `max_train`."""
        if self.max_train is None or self.max_train >= n_images:
            return np.arange(n_images)
        order = np.random.default_rng(np.random.SeedSequence([self.seed, 0xDA7A])).permutation(n_images)
        return np.sort(order[: self.max_train])

    def data_root(self) -> Path:
        """Return the data root, links resolved. Raises DataError where none was given or it is no folder."""
        if self.root is None:
            raise DataError(f"{self.name} is read from a data root, and none was given: add --data-root DIR")
        root = self.root.expanduser().resolve()
        if not root.is_dir() and not self.download:
            raise DataError(
                f"{self.name}: the data root {root} is not a folder; give an existing one with --data-root DIR"
            )
        return root

    def missing(self, *looked_for: str, downloadable: bool = False) -> DataError:
        """Return the error for a data set of which none of `looked_for` (below the data root) is there."""
        fetch = ", or add --download to fetch it there" if downloadable else ""
        return DataError(
            f"{self.name} is not in {self.data_root()}: looked for {' and '.join(looked_for)}. "
            f"Give the folder that holds it with --data-root DIR{fetch}"
        )
