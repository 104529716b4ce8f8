"""Decoding of one file: an 8-bit RGB image, or the stored values of an image with more bits or other channels."""

from __future__ import annotations

import contextlib
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from trainables.data.readers.formats import NUMPY, TIFF, formats_of

STACK = ("first", "channels")
MAX_CHANNELS = 64

_ANIMATED = ("TIFF", "GIF", "WEBP", "PNG")  # formats whose frames after the first are images of their own
_PHOTOMETRIC, _SAMPLES_PER_PIXEL, _GRAY = 262, 277, (0, 1)  # tags of TIFF
# Every exception that Pillow's decoders have been seen to raise on broken files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class BadImage(Exception):  # noqa: N818 (a property of the image; `read_all` turns many into one DataError)
    """A file without a usable image; `short_side`, in pixels, is set if the image is merely too small."""

    def __init__(self, reason: str, short_side: int | None = None) -> None:
        super().__init__(reason)
        self.short_side = short_side


def decode(path: Path, *, stack: str = "first", oriented: bool = True) -> tuple[Image.Image | np.ndarray, int]:
    """Decode an image file.

    Args:
        path: Image file.
        stack: `first` reads the first page or frame, `channels` makes each gray page a channel.
        oriented: Whether EXIF orientation is applied.

    Returns:
        The image and its number of pages. Images of 8 bits in color or gray are RGB, with alpha composited on white.
        All others are their stored values, [C, H, W] of uint8, uint16 or float32, with C = 1 for gray.

    Raises:
        BadImage: The file cannot be decoded, or has more pixels than Pillow's limit against decompression bombs.
    """
    with decoding():
        head = _head(path)
        if head.startswith(NUMPY):
            return _numpy(path), 1
        try:
            image = Image.open(path, formats=formats_of(head))
        except Image.UnidentifiedImageError:
            if head.startswith(TIFF):  # more channels than Pillow knows
                return _tiff(path), 1
            raise
        with image:
            _check_pixels(*image.size)
            n_pages = getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1
            if stack == "channels" and n_pages > 1:
                return _stacked(image, n_pages), n_pages
            if image.format == "TIFF" and _loses_values(image):
                return _tiff(path), n_pages
            if image.format == "PNG" and _loses_values(image):
                return _png16(path), n_pages
            return pixels_of(image, oriented=oriented), n_pages


def pixels_of(image: Image.Image, *, oriented: bool = True) -> Image.Image | np.ndarray:
    """Return an image that Pillow has opened as RGB, or as its stored values [1, H, W] if it has more than 8 bits.

    Args:
        image: The image.
        oriented: Whether EXIF orientation is applied.
    """
    upright = ImageOps.exif_transpose(image) if oriented else image
    return _values(upright) if _is_deep(image) else _to_rgb(upright)


@contextlib.contextmanager
def decoding(what: str = "") -> Iterator[None]:
    """Turn decoders' exceptions into a BadImage with a one-line reason; `what` prefixes it."""
    try:
        yield
    except _DECODER_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        # Pillow ends some messages with the path, which the caller already names.
        line = re.sub(r":?\s*'[^']*'$", "", reason.strip().partition("\n")[0])
        raise BadImage(what + (line or type(error).__name__)) from error


def open_image(path: Path) -> Image.Image:
    """Open an image file with Pillow, which decodes it when its pixels are read."""
    head = _head(path)
    return Image.open(path, formats=formats_of(head))


def format_size(width: int, height: int) -> str:
    """Return a size as messages print it."""
    return f"{width} x {height}"


def _head(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadImage("not a regular file")  # reading a pipe would block forever
    with path.open("rb") as file:
        return file.read(8)


def _check_pixels(width: int, height: int) -> None:
    # Pillow only warns above its limit and refuses at twice the limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise BadImage(f"{format_size(width, height)} pixels, above the limit of {limit:,} against decompression bombs")


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _loses_values(image: Image.Image) -> bool:
    """Return whether Pillow would drop channels of a TIFF or PNG file, or the lower 8 bits of its colors."""
    tile = getattr(image, "tile", [])
    raw = str(tile[0][3]) if tile else ""
    if image.mode in ("RGB", "RGBA") and ";16" in raw:
        return True
    tags = getattr(image, "tag_v2", {})
    return tags.get(_PHOTOMETRIC) in _GRAY and tags.get(_SAMPLES_PER_PIXEL, 1) > len(image.getbands())


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _values(image: Image.Image) -> np.ndarray:
    """Return the stored values of a gray page, [1, H, W]."""
    return _plain(np.asarray(image))[None]


def _stacked(image: Image.Image, n_pages: int) -> np.ndarray:
    """Return the gray pages of a stack as channels, [C, H, W]."""
    _check_channels(n_pages)
    pages = []
    for page in range(n_pages):
        image.seek(page)
        if not _is_deep(image) and image.mode != "L":
            raise BadImage(f"page {page + 1} has mode {image.mode}; stack: channels needs pages in gray")
        pages.append(_values(image)[0])
    if len({page.shape for page in pages}) > 1:
        raise BadImage("its pages differ in size; stack: channels needs pages of one size")
    return np.stack(pages)


def _numpy(path: Path) -> np.ndarray:
    """Return a NumPy array as [C, H, W]; the channels are the smaller one of the first and the last axis."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim == 2 and 0 not in array.shape:
        return _channels_first(array[None], last=False)
    if array.ndim != 3 or 0 in array.shape:
        raise BadImage(f"an array of shape {array.shape}; it must be [H, W], [C, H, W] or [H, W, C]")
    if array.shape[0] == array.shape[2]:
        raise BadImage(f"an array of shape {array.shape}, whose first and last axis could both be its channels")
    return _channels_first(array, last=array.shape[2] < array.shape[0])


def _tiff(path: Path) -> np.ndarray:
    """Return the first page of a TIFF file with all its channels and bits, [C, H, W]."""
    try:
        import tifffile
    except ImportError:
        raise BadImage(
            'a TIFF file of many channels or of 16-bit color, which needs tifffile: pip install "pretext-study[tiff]"'
        ) from None
    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            if page.axes not in ("YX", "YXS", "SYX"):
                raise BadImage(f"its first page has the axes {page.axes}; it must be one image")
            _check_pixels(page.imagewidth, page.imagelength)
            array = page.asarray()
            if page.photometric.name == "RGB":  # without an alpha channel
                array = array[..., :3] if page.axes == "YXS" else array[:3]
    except tifffile.TiffFileError as error:
        raise BadImage(str(error).partition("\n")[0]) from error
    return _channels_first(array[None] if array.ndim == 2 else array, last=page.axes == "YXS")


def _png16(path: Path) -> np.ndarray:
    """Return a 16-bit color PNG as [3, H, W]; Pillow would drop the lower 8 bits."""
    from torchvision.io import ImageReadMode, decode_image

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # TorchCodec, which replaces it, would be one more dependency
        return decode_image(str(path), mode=ImageReadMode.RGB).numpy()


def _channels_first(array: np.ndarray, *, last: bool) -> np.ndarray:
    planes = np.moveaxis(array, -1, 0) if last else array
    _check_channels(len(planes))
    _check_pixels(planes.shape[2], planes.shape[1])
    return _plain(planes)


def _check_channels(n_channels: int) -> None:
    if n_channels > MAX_CHANNELS:
        raise BadImage(f"{n_channels} channels, more than the limit of {MAX_CHANNELS}")


def _plain(array: np.ndarray) -> np.ndarray:
    """Return real values as uint8, uint16 or float32: integers as the smallest type that holds them.

    Raises:
        BadImage: The values are not numbers, or not finite.
    """
    if array.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "iuf":
        raise BadImage(f"values of type {array.dtype}; they must be integers or real numbers")
    if array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 0xFFFF:
        return array.astype(np.uint16)
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise BadImage("it has values that are not finite (NaN or infinity)")
    return values
