"""The request to a data set's loader, and the tables that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainables.data.intensity import UserWindow
from trainables.data.inventory import Found
from trainables.data.table import ImageTable
from trainables.errors import DataError
from trainables.files import expanded

ON_BAD_IMAGE = ("stop", "skip")
ON_SMALL_IMAGE = ("stop", "enlarge")
RESIZE = ("crop", "squash")
# Rules by which files become splits. FORMER are those of studies before version 0.2, which keep them: a validation
# folder joins the training images, and a fifth of a set without labels is held out as a test split that nothing reads.
FORMER, CURRENT = 1, 2
SPLIT_RULES = (FORMER, CURRENT)


class Tables(NamedTuple):
    """A data set as loaded.

    Attributes:
        train: Official training part.
        test: Official test part; empty if there is none, as without labels.
        unannotated: Images without labels and masks, or None.
        files: Names of the files of the training, test, validation and unannotated images, for messages; None if there
            are none.
        test_is_drawn: Whether the test part was held out from the training part rather than given.
        found: Facts about the files; None for data sets that are not read from image files.
        validation: Official validation part; None if validation images are to be drawn from the training part.
    """

    train: ImageTable
    test: ImageTable
    unannotated: ImageTable | None = None
    files: tuple[tuple[str, ...], ...] | None = None
    test_is_drawn: bool = False
    found: Found | None = None
    validation: ImageTable | None = None


@dataclass(frozen=True)
class Request:
    """The arguments of one call of `load_splits`, with every default filled in.

    Attributes:
        name: Name of the data set.
        root: Data root, or None.
        image_size: Side of the images in pixels.
        max_train: Maximum number of images on the training side; None for all.
        seed: Seed of the draw of `max_train` images.
        download: Whether a missing data set is downloaded.
        on_bad_image: `stop` or `skip`.
        resize: How a photograph becomes a square: `crop` or `squash`.
        stack: Pages that are read of a file with several: the `first`, all as `channels`, or all `pages` as images.
        window: Values that become black and white in images of more than 8 bits, [low, high] or one pair per channel;
            None for percentiles of the training images.
        on_small_image: `stop` or `enlarge`, for files smaller than `image_size`.
        group_pattern: Regular expression that finds the group of an image in its path, or None.
        split_rules: Rules by which files become splits, one of SPLIT_RULES.
    """

    name: str
    root: Path | None
    image_size: int
    max_train: int | None = None
    seed: int = 0
    download: bool = False
    on_bad_image: str = "stop"
    resize: str = "crop"
    stack: str = "first"
    window: UserWindow | None = None
    on_small_image: str = "stop"
    group_pattern: str | None = None
    split_rules: int = CURRENT

    @property
    def enlarge(self) -> bool:
        """Whether images smaller than `image_size` are enlarged."""
        return self.on_small_image == "enlarge"

    @property
    def squash(self) -> bool:
        """Whether photographs are squashed instead of cropped to a square."""
        return self.resize == "squash"

    def choose(self, n_images: int) -> np.ndarray:
        """Return the indices of the training images to read, int64, ascending; nested over `max_train`."""
        if self.max_train is None or self.max_train >= n_images:
            return np.arange(n_images)
        order = np.random.default_rng(np.random.SeedSequence([self.seed, 0xDA7A])).permutation(n_images)
        return np.sort(order[: self.max_train])

    def data_root(self) -> Path:
        """Return the data root with links resolved.

        Raises:
            DataError: No data root was given, or it is not a folder.
        """
        if self.root is None:
            raise DataError(f"{self.name} is read from a data root, but none was given; add --data-root DIR")
        root = expanded(self.root).resolve()
        if not root.is_dir() and not self.download:
            raise DataError(
                f"{self.name}: the data root {root} is not a folder; give an existing one with --data-root DIR"
            )
        return root

    def missing(self, *looked_for: str, downloadable: bool = False) -> DataError:
        """Return the error for a missing data set; `looked_for` are the paths below the data root that were tried."""
        fetch = ", or add --download to fetch it there" if downloadable else ""
        return DataError(
            f"{self.name} is not in {self.data_root()}: looked for {' and '.join(looked_for)}. "
            f"Give the folder that contains it with --data-root DIR{fetch}"
        )
