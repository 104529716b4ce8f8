"""Images of a data set as they enter a table: read with all broken files reported together, and scaled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainables.data.cache import copied
from trainables.data.intensity import Depth, Intensity, UserWindow, find_intensity
from trainables.data.readers.bad_image import BadImage
from trainables.data.readers.decoded import decode_all
from trainables.data.readers.images import ImageReader
from trainables.errors import DataError, printable

logger = logging.getLogger(__name__)

_MAX_NAMED = 3  # broken images that a message names


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


def read_all(
    paths: Sequence[Path], read: Callable[[Path], np.ndarray], *, name: str, root: Path, on_bad_image: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read many image files and report all broken ones together.

    Args:
        paths: Image files.
        read: Function that reads one file as uint8, uint16 or float32 [C, S, S], or raises BadImage.
        name: Name of the data set, for messages.
        root: Folder that paths in messages are relative to.
        on_bad_image: `stop` raises one error that names the first few broken files; `skip` leaves them out and logs one
            warning.

    Returns:
        Images [M, C, S, S], of the smallest type that holds the values of all, and their indices in `paths`, int64 [M].

    Raises:
        DataError: A file is broken and `on_bad_image` is `stop`, or no image is left.
    """
    images, broken, _ = decode_all(paths, read)
    bad = [(paths[index], reason) for index, reason in broken.items()]
    if bad:
        what = f"{name}: {len(bad)} of {len(paths)} images in {root} cannot be used: {_first_few(bad, root)}"
        if on_bad_image == "stop" or images is None:
            raise DataError(f"{what}. {_remedy(bad)}")
        logger.warning("%s. They are left out", printable(what))
    if images is None:
        raise DataError(f"{name}: {root} has no images")
    kept = np.setdiff1d(np.arange(len(paths)), list(broken))
    return images, kept


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
        images: Stored values, uint8, uint16 or float32 [N, C, S, S]; the last two are scaled in place if they are
            writable.
        depths: Depth of each image's file.
        intensity: The windows.
    """
    if images.dtype == np.uint8:
        if not any(each.bits == 8 for each in intensity.windows):
            return images
        images = copied(images, np.uint16)
    elif not images.flags.writeable:
        images = copied(images)
    intensity.apply(images, depths)
    return images


def _first_few(bad: list[tuple[Path, BadImage]], root: Path) -> str:
    # Smallest first, since the message should show how far image_size would have to be lowered.
    ordered = sorted(bad, key=lambda item: item[1].short_side or 0)
    named = [f"{path.relative_to(root).as_posix()} ({reason})" for path, reason in ordered[:_MAX_NAMED]]
    return ", ".join(named) + (f" and {len(bad) - _MAX_NAMED} more" if len(bad) > _MAX_NAMED else "")


def _remedy(bad: list[tuple[Path, BadImage]]) -> str:
    small = [reason.short_side for _, reason in bad if reason.short_side is not None]
    lower = f", lower image_size to {min(small)}, enlarge them with on_small_image: enlarge" if small else ""
    return f"Fix or remove them{lower}, or leave them out with on_bad_image: skip"
