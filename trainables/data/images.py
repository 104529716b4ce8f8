"""Image files to uint8 squares: one file, or many with every broken one reported."""

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

_NAMED = 3  # broken images that a message names
_PHOTOGRAPH_BYTES = 16_384
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")  # of Pillow's others, EPS would start Ghostscript
# All that Pillow's decoders were seen to raise on broken files.
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


class BadImage(Exception):  # noqa: N818 (it says what the image is; `read_all` turns many into one DataError)
    """A file that gives no usable image. `short_side` is set where it is merely too small."""

    def __init__(self, reason: str, short_side: int | None = None) -> None:
        super().__init__(reason)
        self.short_side = short_side


def read_image(path: Path, image_size: int, *, upscale: bool = False, squash: bool = False) -> np.ndarray:
    """Return an image file as uint8 [3, S, S] RGB: short side resized with antialias, then the center square.

    squash: resize both sides instead, so that nothing is cut off and shapes are distorted.

    EXIF orientation is applied, 16-bit gray keeps its upper 8 bits, alpha is laid on white, of an animation the first
    frame is taken. Raises BadImage for what cannot be decoded, for more pixels than Pillow's limit against
    decompression bombs, and, without `upscale`, for a short side below `image_size`.
    """
    with _decoding(), _open(path) as image:
        _check_pixels(image)
        rgb = _to_rgb(ImageOps.exif_transpose(image))
        return _square(rgb, image_size, upscale, squash).transpose(2, 0, 1)


def read_image_and_mask(
    image_path: Path, mask_path: Path, image_size: int, n_classes: int, *, squash: bool = False
) -> np.ndarray:
    """Return image and class mask as uint8 [4, S, S], the mask last, both cut alike; masks by nearest neighbor.

    Mask values are 0 .. n_classes - 1 and 255 for void. Smaller images are enlarged; EXIF orientation is left alone,
    since masks have none. Raises BadImage as `read_image` does, and for a mask that does not fit its image.
    """
    with _decoding(), _open(image_path) as image:
        _check_pixels(image)
        planes = _square(_to_rgb(image), image_size, True, squash)
    with _decoding("its mask: "), _open(mask_path) as mask:
        if mask.mode not in ("P", "L"):
            raise BadImage(f"its mask is a {mask.mode} image; class ids in a palette or gray image are needed")
        if mask.size != image.size:
            raise BadImage(f"{_by(image.size)} pixels, but its mask has {_by(mask.size)}")
        classes = _resized(mask, image_size, Image.Resampling.NEAREST, squash)
    foreign = classes[(classes >= n_classes) & (classes != VOID)]
    if len(foreign):
        raise BadImage(f"its mask holds the class id {foreign[0]}; 0 to {n_classes - 1} and {VOID} are known")
    return np.concatenate([planes, classes[:, :, None]], axis=2).transpose(2, 0, 1)


def read_all(
    paths: Sequence[Path], read: Callable[[Path], np.ndarray], *, name: str, root: Path, on_bad_image: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read all files: blocks uint8 [M, C, S, S] as `read` gives them, and their int64 [M] places in `paths`.

    Every broken file is collected first. With `on_bad_image="stop"` they raise one DataError that names the first few,
    relative to `root`; with `skip` they are left out and one warning counts them. DataError too if none is left.
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
    """Return uint8 [N, H, H, 3] images as uint8 [N, 3, S, S], made smaller with antialias where S < H.

    Raises DataError for S > H.
    """
    native = images.shape[1]
    if image_size > native:
        raise DataError(f"{name}: image_size = {image_size}, but its images have {native} pixels; set {native} or less")
    if image_size < native:
        images = np.stack([_square(Image.fromarray(image), image_size, False, squash=False) for image in images])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _attempts(read: Callable[[Path], np.ndarray], paths: Sequence[Path]) -> Iterator[np.ndarray | BadImage]:
    """Yield what `read` returns, or the BadImage it raises, for each path in order."""

    def attempt(path: Path) -> np.ndarray | BadImage:
        try:
            return read(path)
        except BadImage as bad:
            return bad

    # Photographs are decoded outside Python's lock, but threads on thumbnails only fight for it: 12,000 files of 1 kB
    # took 4 s in one thread and up to 14 s in several.
    if not any(_is_photograph(path) for path in paths[:: max(1, len(paths) // 8)]):
        yield from map(attempt, paths)
        return
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        yield from pool.map(attempt, paths)


def _is_photograph(path: Path) -> bool:
    return path.is_file() and path.stat().st_size >= _PHOTOGRAPH_BYTES


def _open(path: Path) -> Image.Image:
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadImage("not a regular file")  # a pipe would be waited for without end
    return Image.open(path, formats=_FORMATS)


@contextlib.contextmanager
def _decoding(what: str = "") -> Iterator[None]:
    """Turn what Pillow raises into a BadImage with a one-line reason; `what` says whose fault it is."""
    try:
        yield
    except _DECODER_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        # Pillow ends some messages with the path, which is named already.
        line = re.sub(r":?\s*'[^']*'$", "", reason.strip().partition("\n")[0])
        raise BadImage(what + (line or type(error).__name__)) from error


def _check_pixels(image: Image.Image) -> None:
    # Pillow warns above its limit and refuses at twice the limit; here the limit itself is one.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise BadImage(f"{_by(image.size)} pixels, above the limit of {limit:,} against decompression bombs")


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
    """Return uint8 [S, S, C]."""
    if not upscale and min(image.size) < image_size:
        reason = f"{_by(image.size)} pixels, too small for image_size {image_size}"
        raise BadImage(reason, short_side=min(image.size))
    return _resized(image, image_size, Image.Resampling.BILINEAR, squash)


def _resized(image: Image.Image, image_size: int, how: Image.Resampling, squash: bool) -> np.ndarray:
    size = (image_size, image_size)
    return np.asarray(image.resize(size, how) if squash else ImageOps.fit(image, size, how))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _first_few(bad: list[tuple[Path, BadImage]], root: Path) -> str:
    # The smallest first, so that the message shows how far image_size would have to go down.
    ordered = sorted(bad, key=lambda item: item[1].short_side or 0)
    named = [f"{path.relative_to(root).as_posix()} ({reason})" for path, reason in ordered[:_NAMED]]
    return ", ".join(named) + (f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else "")


def _remedy(bad: list[tuple[Path, BadImage]]) -> str:
    small = [reason.short_side for _, reason in bad if reason.short_side is not None]
    lower = f", lower image_size to {min(small)}" if small else ""
    return f"Mend or remove them{lower}, or leave them out with on_bad_image: skip"
