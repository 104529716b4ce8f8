"""Images of a data set as they enter a table: read from files, and scaled where they have more than 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainables.data.images import ImageReader, read_all
from trainables.data.intensity import Depth, Intensity, UserWindow, find_intensity
from trainables.errors import DataError


class Pixels(NamedTuple):
    """Images as they enter a table.

    Attributes:
        images: uint8, uint16 or float32 [M, C, S, S], scaled to the range of the type.
        kept: Their indices among the files, int64 [M].
        intensity: How the values in the files were scaled; None if no value was changed.
    """

    images: np.ndarray
    kept: np.ndarray
    intensity: Intensity | None


def read_scaled(
    paths: Sequence[Path],
    reader: ImageReader,
    *,
    n_train: int,
    window: UserWindow | None = None,
    known: Intensity | None = None,
    n_channels: int | None = None,
    name: str,
    root: Path,
    on_bad_image: str,
) -> Pixels:
    """Read all images of a data set and scale those of more than 8 bits.

    Args:
        paths: Image files, the training files first.
        reader: Reader of one file.
        n_train: Number of training files, from which the windows are computed.
        window: The user's [low, high], or one such pair per channel; None for percentiles.
        known: Windows of an earlier data set, which replace those of this one.
        n_channels: Channels that the images must have; None for any number.
        name: Name of the data set, for messages.
        root: Folder that paths in messages are relative to.
        on_bad_image: See `read_all`.

    Raises:
        DataError: As for `read_all`, or the images have another number of channels.
        ConfigError: `window` does not fit the images.
    """
    images, kept = read_all(paths, reader, name=name, root=root, on_bad_image=on_bad_image)
    reader.warn_of_stacks(name)
    if n_channels is not None and images.shape[1] != n_channels:
        raise DataError(f"{name}: the images in {root} have {images.shape[1]} channels; they must have {n_channels}")
    depths = [reader.depths[paths[index]] for index in kept]
    found = find_intensity(images, depths, int(np.searchsorted(kept, n_train)), window)
    intensity = found if known is None else known.completed_by(found)
    if intensity is None:
        return Pixels(images, kept, None)
    windowed = scaled(images, depths, intensity)
    return Pixels(windowed, kept, None if windowed is images and images.dtype == np.uint8 else intensity)


def scaled(images: np.ndarray, depths: Sequence[Depth], intensity: Intensity) -> np.ndarray:
    """Return images scaled by the windows of a data set; those of 8 bits stay as they are without a window for them.

    Args:
        images: Stored values, uint8, uint16 or float32 [N, C, S, S]; the last two are scaled in place.
        depths: Depth of each image's file.
        intensity: The windows.
    """
    if images.dtype == np.uint8:
        if not any(each.bits == 8 for each in intensity.windows):
            return images
        images = images.astype(np.uint16)
    intensity.apply(images, depths)
    return images
