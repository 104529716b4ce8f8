"""Stored values of files that Pillow cannot read, or not in full: NumPy arrays, TIFF and 16-bit PNG."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.readers.bad_image import BadImage, check_pixels

MAX_CHANNELS = 64
ORIENTATION = 274  # tag of TIFF and EXIF
_TURNED = range(2, 9)  # its values for images that are not stored upright
_PREVIEW = 1  # bit of a TIFF page's tag for its type


def read_numpy(path: Path, page: int | None) -> np.ndarray:
    """Return the image in a NumPy file, or one image of an array of four axes, as [C, H, W].

    The channels are the smaller one of the first and the last axis.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim == 4 and page is not None and len(array):
        array = array[page]
    if array.ndim == 2 and 0 not in array.shape:
        return _channels_first(array[None], last=False)
    if array.ndim != 3 or 0 in array.shape:
        raise BadImage(
            f"an array of shape {array.shape}; it must be [H, W], [C, H, W] or [H, W, C], or several "
            "images in four axes with stack: pages"
        )
    if array.shape[0] == array.shape[2]:
        raise BadImage(f"an array of shape {array.shape}, whose first and last axis could both be its channels")
    return _channels_first(array, last=array.shape[2] < array.shape[0])


def read_tiff(path: Path, index: int, *, oriented: bool = True) -> np.ndarray:
    """Return a page of a TIFF file with all its channels and bits, [C, H, W]; see `decode`."""
    with open_tiff(path) as file:
        page: Any = file.pages[index]
        if page.axes not in ("YX", "YXS", "SYX"):
            raise BadImage(f"its page {index + 1} has the axes {page.axes}; it must be one image")
        check_pixels(page.imagewidth, page.imagelength)
        check_not_preview(int(page.subfiletype))
        orientation = int(page.tags.valueof(ORIENTATION, default=1))
        if not oriented:
            check_upright(orientation)
        array = page.asarray()
        if page.photometric.name == "RGB":  # without an alpha channel
            array = array[..., :3] if page.axes == "YXS" else array[:3]
    planes = _channels_first(array[None] if array.ndim == 2 else array, last=page.axes == "YXS")
    return turned_upright(planes, orientation)


@contextlib.contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """Open a TIFF file that is more than Pillow can read."""
    try:
        import tifffile
    except ImportError:
        raise BadImage(
            'a TIFF file of many channels or of 16-bit color, which needs tifffile: pip install "pretext-study[tiff]"'
        ) from None
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except tifffile.TiffFileError as error:
        raise BadImage(str(error).partition("\n")[0]) from error


def read_png16(path: Path, page: int) -> np.ndarray:
    """Return a 16-bit color PNG, upright, as [3, H, W]; Pillow would drop the lower 8 bits."""
    from torchvision.io import ImageReadMode, decode_image

    if page:
        raise BadImage("an animation in 16-bit color; only its first frame can be read")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # TorchCodec, which replaces it, would be one more dependency
        return decode_image(str(path), mode=ImageReadMode.RGB, apply_exif_orientation=True).numpy()


def _channels_first(array: np.ndarray, *, last: bool) -> np.ndarray:
    planes = np.moveaxis(array, -1, 0) if last else array
    check_channels(len(planes))
    check_pixels(planes.shape[2], planes.shape[1])
    return plain(planes)


def check_channels(n_channels: int) -> None:
    """Raise BadImage for too many channels."""
    if n_channels > MAX_CHANNELS:
        raise BadImage(f"{n_channels} channels, more than the limit of {MAX_CHANNELS}")


def check_not_preview(subfile_type: int) -> None:
    """Raise BadImage for a TIFF page that is a smaller copy of an image, as the first page of many raw photographs."""
    if subfile_type & _PREVIEW:
        raise BadImage("only a preview, as in raw photographs (NEF, DNG); save the photograph as TIFF or PNG")


def check_upright(orientation: int) -> None:
    """Raise BadImage for an image with a mask that is not stored upright."""
    if orientation in _TURNED:
        raise BadImage(f"its EXIF orientation is {orientation}, but masks have none; save both upright")


def turned_upright(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Return planes [C, H, W] as their EXIF orientation says that they are shown."""
    if orientation in (5, 6, 7, 8):
        planes = planes.transpose(0, 2, 1)
    if orientation in (3, 4, 7, 8):
        planes = planes[:, ::-1]
    if orientation in (2, 3, 6, 7):
        planes = planes[:, :, ::-1]
    return np.ascontiguousarray(planes)


def plain(array: np.ndarray) -> np.ndarray:
    """Return real values as uint8, uint16 or float32, by their type alone, so that all files of one kind agree.

    Unsigned integers of 8 and 16 bits keep their type; all others become float32.

    Raises:
        BadImage: The values are not numbers, or not finite.
    """
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    if array.dtype.kind not in "iuf":
        raise BadImage(f"values of type {array.dtype}; they must be integers or real numbers")
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise BadImage("it has values that are not finite (NaN or infinity)")
    return values
