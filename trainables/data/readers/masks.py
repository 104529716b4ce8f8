"""Images with class masks: both are read with the same crop, whatever the depth of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainables.data.readers.images import ImageReader, read_mask
from trainables.data.table import VOID
from trainables.errors import DataError


@dataclass(frozen=True)
class MaskedReader(ImageReader):
    """A reader of images that may have masks, and its own record of the masks.

    An image with a mask must be stored upright, since masks have no EXIF orientation.

    Attributes:
        masks: Mask of each image file that has one.
        n_classes: Number of classes of the masks.
        read_masks: Class ids of each image that was read with a mask, uint8 [S, S].
    """

    masks: Mapping[Path, Path] = field(default_factory=dict)
    n_classes: int = VOID
    read_masks: dict[Path, np.ndarray] = field(default_factory=dict)

    def __call__(self, path: Path) -> np.ndarray:
        """Read an image file, and its mask if it has one.

        Raises:
            BadImage: The image or its mask cannot be read, or they do not match.
        """
        if path not in self.masks:
            return self.read(path)
        planes = self.read(path, oriented=False)
        size = self.sizes[path]
        mask = self.page_of(self.masks[path])
        self.read_masks[path] = read_mask(
            mask.file, size, self.image_size, self.n_classes, squash=self.squash, page=mask.number
        )
        return planes

    def masks_of(self, paths: Sequence[Path]) -> np.ndarray:
        """Return the masks of files that were read, uint8 [N, S, S]."""
        if not paths:
            return np.empty((0, self.image_size, self.image_size), np.uint8)
        return np.stack([self.read_masks[path] for path in paths])

    def check_classes(self, name: str) -> None:
        """Check that the masks that were read tell at least two classes apart.

        Args:
            name: Name of the data set, for the message.

        Raises:
            DataError: They do not, so that any segmentation would be right.
        """
        is_used = np.zeros(VOID + 1, bool)
        for mask in self.read_masks.values():
            is_used |= np.bincount(mask.ravel(), minlength=VOID + 1) > 0
        classes = np.flatnonzero(is_used[:VOID])
        if self.read_masks and len(classes) < 2:
            only = f"the single class {classes[0]}" if len(classes) else "no class"
            remedy = f"{VOID} means void, which is not scored: write the object as 1"
            if not is_used[VOID]:
                remedy = "correct them, or remove the column mask"
            raise DataError(f"{name}: the masks have {only}, and a segmentation needs two; {remedy}")

    @property
    def mask_names(self) -> tuple[str, ...]:
        """The numbers of the classes up to the highest one in any mask."""
        highest = max((int(mask[mask != VOID].max(initial=0)) for mask in self.read_masks.values()), default=0)
        return tuple(map(str, range(highest + 1)))
