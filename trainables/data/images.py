"""Image decoding: files to square uint8 arrays, one at a time or many with all broken files reported together."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainables.data.table import VOID
from trainables.errors import DataError, printable

logger = logging.getLogger(__name__)

_MAX_NAMED = 3  # broken images that a message names
_PHOTOGRAPH_BYTES = 16_384
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")  # not all of Pillow's: EPS would start Ghostscript
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


def read_image(path: Path, image_size: int, *, upscale: bool = False, squash: bool = False) -> np.ndarray:
    """Read an image file as an RGB square.

    EXIF orientation is applied, 16-bit gray keeps its upper 8 bits, alpha is composited on white, and the first frame
    of an animation is taken.

    Args:
        path: Image file.
        image_size: Side S of the result in pixels.
        upscale: Whether to enlarge images whose short side is below `image_size`.
        squash: Whether to resize both sides independently, which distorts shapes. By default the short side is resized
            with antialiasing and the center square is cropped.

    Returns:
        uint8 [3, S, S].

    Raises:
        BadImage: The file cannot be decoded, has more pixels than Pillow's limit against decompression bombs, or is too
            small.
    """
    with _decoding(), _open(path) as image:
        _check_pixels(image)
        rgb = _to_rgb(ImageOps.exif_transpose(image))
        return _square(rgb, image_size, upscale, squash).transpose(2, 0, 1)


def read_image_and_mask(
    image_path: Path, mask_path: Path, image_size: int, n_classes: int, *, squash: bool = False
) -> np.ndarray:
    """Read an image and its class mask with the same crop; the mask is resized by nearest neighbor.

    Smaller images are enlarged. EXIF orientation is ignored, since masks have none.

    Args:
        image_path: Image file.
        mask_path: Palette or gray image of class ids: 0 .. n_classes - 1, and 255 for void.
        image_size: Side S of the result in pixels.
        n_classes: Number of classes.
        squash: See `read_image`.

    Returns:
        uint8 [4, S, S], the mask last.

    Raises:
        BadImage: As for `read_image`, or the mask does not match its image.
    """
    with _decoding(), _open(image_path) as image:
        _check_pixels(image)
        planes = _square(_to_rgb(image), image_size, True, squash)
    with _decoding("its mask: "), _open(mask_path) as mask:
        if mask.mode not in ("P", "L"):
            raise BadImage(f"its mask is a {mask.mode} image; it must be a palette or gray image of class ids")
        if mask.size != image.size:
            raise BadImage(f"{_format_size(image.size)} pixels, but its mask has {_format_size(mask.size)}")
        classes = _resized(mask, image_size, Image.Resampling.NEAREST, squash)
    foreign = classes[(classes >= n_classes) & (classes != VOID)]
    if len(foreign):
        raise BadImage(f"its mask has the class id {foreign[0]}; allowed ids are 0 to {n_classes - 1} and {VOID}")
    return np.concatenate([planes, classes[:, :, None]], axis=2).transpose(2, 0, 1)


def read_all(
    paths: Sequence[Path], read: Callable[[Path], np.ndarray], *, name: str, root: Path, on_bad_image: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read many image files and report all broken ones together.

    Args:
        paths: Image files.
        read: Function that reads one file as uint8 [C, S, S] or raises BadImage.
        name: Name of the data set, for messages.
        root: Folder that paths in messages are relative to.
        on_bad_image: `stop` raises one error that names the first few broken files; `skip` leaves them out and logs one
            warning.

    Returns:
        Images, uint8 [M, C, S, S], and their indices in `paths`, int64 [M].

    Raises:
        DataError: A file is broken and `on_bad_image` is `stop`, or no image is left.
    """
    blocks: np.ndarray | None = None
    good = np.zeros(len(paths), bool)
    bad: list[tuple[Path, BadImage]] = []
    for index, result in enumerate(_attempts(read, paths)):
        if isinstance(result, BadImage):
            bad.append((paths[index], result))
            continue
        if blocks is None:
            blocks = np.empty((len(paths), *result.shape), np.uint8)
        blocks[index], good[index] = result, True
    if bad:
        what = f"{name}: {len(bad)} of {len(paths)} images in {root} cannot be used: {_first_few(bad, root)}"
        if on_bad_image == "stop" or blocks is None:
            raise DataError(f"{what}. {_remedy(bad)}")
        logger.warning("%s. They are left out", printable(what))
    if blocks is None:
        raise DataError(f"{name}: there is no image in {root}")
    return (blocks if good.all() else blocks[good]), np.flatnonzero(good)


def resize_arrays(images: np.ndarray, image_size: int, name: str) -> np.ndarray:
    """Return images uint8 [N, H, H, 3] as uint8 [N, 3, S, S], reduced with antialiasing if S < H.

    Args:
        images: uint8 [N, H, H, 3].
        image_size: Side S of the result in pixels.
        name: Name of the data set, for error messages.

    Raises:
        DataError: S > H.
    """
    native = images.shape[1]
    if image_size > native:
        raise DataError(f"{name}: image_size = {image_size}, but its images have {native} pixels; set {native} or less")
    if image_size < native:
        images = np.stack([_square(Image.fromarray(image), image_size, False, squash=False) for image in images])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _attempts(read: Callable[[Path], np.ndarray], paths: Sequence[Path]) -> Iterator[np.ndarray | BadImage]:
    """Yield the result of `read`, or the BadImage that it raises, for each path in order."""

    def attempt(path: Path) -> np.ndarray | BadImage:
        try:
            return read(path)
        except BadImage as bad:
            return bad

    # Pillow releases the GIL while it decodes, but for small files the threads mostly compete for it: 12,000 files
    # of 1 kB took 4 s in one thread and up to 14 s in several.
    if not any(_is_photograph(path) for path in paths[:: max(1, len(paths) // 8)]):
        yield from map(attempt, paths)
        return
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        yield from pool.map(attempt, paths)


def _is_photograph(path: Path) -> bool:
    return path.is_file() and path.stat().st_size >= _PHOTOGRAPH_BYTES


def _open(path: Path) -> Image.Image:
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadImage("not a regular file")  # reading a pipe would block forever
    return Image.open(path, formats=_FORMATS)


@contextlib.contextmanager
def _decoding(what: str = "") -> Iterator[None]:
    """Turn Pillow's exceptions into a BadImage with a one-line reason; `what` prefixes it."""
    try:
        yield
    except _DECODER_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        # Pillow ends some messages with the path, which the caller already names.
        line = re.sub(r":?\s*'[^']*'$", "", reason.strip().partition("\n")[0])
        raise BadImage(what + (line or type(error).__name__)) from error


def _check_pixels(image: Image.Image) -> None:
    # Pillow only warns above its limit and refuses at twice the limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise BadImage(f"{_format_size(image.size)} pixels, above the limit of {limit:,} against decompression bombs")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise BadImage("floating-point pixels have no defined white; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise BadImage("32-bit pixels have no defined white; save it with 8 or 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image, image_size: int, upscale: bool, squash: bool) -> np.ndarray:
    """Return an image resized to a square, uint8 [S, S, C]."""
    if not upscale and min(image.size) < image_size:
        reason = f"{_format_size(image.size)} pixels, too small for image_size {image_size}"
        raise BadImage(reason, short_side=min(image.size))
    return _resized(image, image_size, Image.Resampling.BILINEAR, squash)


def _resized(image: Image.Image, image_size: int, resampling: Image.Resampling, squash: bool) -> np.ndarray:
    size = (image_size, image_size)
    return np.asarray(image.resize(size, resampling) if squash else ImageOps.fit(image, size, resampling))


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _first_few(bad: list[tuple[Path, BadImage]], root: Path) -> str:
    # Smallest first, since the message should show how far image_size would have to be lowered.
    ordered = sorted(bad, key=lambda item: item[1].short_side or 0)
    named = [f"{path.relative_to(root).as_posix()} ({reason})" for path, reason in ordered[:_MAX_NAMED]]
    return ", ".join(named) + (f" and {len(bad) - _MAX_NAMED} more" if len(bad) > _MAX_NAMED else "")


def _remedy(bad: list[tuple[Path, BadImage]]) -> str:
    small = [reason.short_side for _, reason in bad if reason.short_side is not None]
    lower = f", lower image_size to {min(small)}" if small else ""
    return f"Fix or remove them{lower}, or leave them out with on_bad_image: skip"
