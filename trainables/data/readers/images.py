"""Images from files, one at a time, as square arrays."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainables.data.intensity import Depth, depth_of
from trainables.data.readers.bad_image import BadImage, decoding, format_size
from trainables.data.readers.decode import FIRST, decode, open_image
from trainables.data.readers.pages import Page
from trainables.data.table import VOID
from trainables.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageReader:
    """A reader of image files as squares, which notes what it has found in them.

    Attributes:
        image_size: Side S of the result in pixels.
        upscale: Whether to enlarge images whose short side is below `image_size`.
        squash: Whether to resize both sides independently, which distorts shapes. By default the short side is resized
            with antialiasing and the center square is cropped.
        stack: Pages that are read of a file with several: the `first`, all gray ones as `channels`, or each of `pages`.
        pages: Page that each path names which is not a file, or not the first page of it.
        sizes: Width and height of each file that was decoded, also where it is too small.
        depths: Bits per value and highest value of each file that was read.
        stacks: Pages of each file that has several.
    """

    image_size: int
    upscale: bool = False
    squash: bool = False
    stack: str = FIRST
    pages: Mapping[Path, Page] = field(default_factory=dict)
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)
    depths: dict[Path, Depth] = field(default_factory=dict)
    stacks: dict[Path, int] = field(default_factory=dict)

    def __call__(self, path: Path) -> np.ndarray:
        """Read an image file; see `read`."""
        return self.read(path)

    def read(self, path: Path, *, oriented: bool = True) -> np.ndarray:
        """Read an image file. Alpha is composited on white, and one channel becomes three equal ones.

        Args:
            path: Image file.
            oriented: Whether EXIF orientation is applied; otherwise an image that is not stored upright is refused.

        Returns:
            uint8 [3, S, S] of an image of 8 bits in color or gray; otherwise its values as stored, uint8, uint16 or
            float32 [C, S, S].

        Raises:
            BadImage: The file cannot be decoded, has more pixels than Pillow's limit against decompression bombs, or
                is too small.
        """
        page = self.page_of(path)
        with decoding():
            image, n_pages = decode(page.file, stack=self.stack, page=page.number, oriented=oriented)
            self.sizes[path] = _size(image)
            square = _square(image, self.image_size, self.upscale, self.squash)
        self.depths[path] = depth_of(np.asarray(image))
        if n_pages > 1:
            self.stacks[path] = n_pages
        return square

    def page_of(self, path: Path) -> Page:
        """Return the file and the page that a path names."""
        return self.pages.get(path) or Page(path, 0)

    def warn_of_stacks(self, name: str) -> None:
        """Log how many files of the data set `name` have pages that were not read."""
        if self.stack == FIRST and self.stacks:
            logger.warning(
                "%s: %d files have several pages or frames, and only the first is read; "
                "stack: channels reads the pages of a file as its channels, stack: pages as separate images",
                name,
                len(self.stacks),
            )


def read_image(path: Path, image_size: int, *, upscale: bool = False, squash: bool = False) -> np.ndarray:
    """Read an image file as a square, uint8, uint16 or float32 [C, S, S]; see `ImageReader`."""
    return ImageReader(image_size, upscale, squash)(path)


def fit_image(image: Image.Image | np.ndarray, image_size: int, *, squash: bool = False) -> np.ndarray:
    """Return an image, RGB or values [C, H, W], as a square of any size, [C, S, S]; a single channel becomes three."""
    return _square(image, image_size, True, squash)


def read_mask(
    mask_path: Path, size: tuple[int, int], image_size: int, n_classes: int, *, squash: bool = False, page: int = 0
) -> np.ndarray:
    """Read a class mask as a square, uint8 [S, S], with the crop of its image.

    Args:
        mask_path: Palette or gray image of class ids: 0 .. n_classes - 1, and 255 for void.
        size: Width and height of its image in px.
        image_size: Side S of the result in pixels.
        n_classes: Number of classes.
        squash: See `ImageReader`.
        page: Index of the page to read.

    Raises:
        BadImage: The mask cannot be decoded, or does not match its image.
    """
    with decoding("its mask: "), open_image(mask_path) as mask:
        if page:
            mask.seek(page)
        if mask.mode not in ("P", "L"):
            raise BadImage(f"its mask is a {mask.mode} image; it must be a palette or gray image of class ids")
        if mask.size != size:
            raise BadImage(f"{format_size(*size)} pixels, but its mask has {format_size(*mask.size)}")
        classes = _resized(mask, image_size, Image.Resampling.NEAREST, squash)
    foreign = classes[(classes >= n_classes) & (classes != VOID)]
    if len(foreign):
        raise BadImage(f"its mask has the class id {foreign[0]}; allowed ids are 0 to {n_classes - 1} and {VOID}")
    return classes


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
        squares = [_square(Image.fromarray(image), image_size, False, squash=False) for image in images]
        return np.ascontiguousarray(np.stack(squares))
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _square(image: Image.Image | np.ndarray, image_size: int, upscale: bool, squash: bool) -> np.ndarray:
    """Return an image, RGB or values [C, H, W], resized to a square, [C, S, S]; a single channel becomes three."""
    size = _size(image)
    if not upscale and min(size) < image_size:
        reason = f"{format_size(*size)} pixels, too small for image_size {image_size}"
        raise BadImage(reason, short_side=min(size))
    if isinstance(image, Image.Image):
        return _resized(image, image_size, Image.Resampling.BILINEAR, squash).transpose(2, 0, 1)
    # Pillow interpolates 8 bits and float32. A weighted mean of 16-bit values is within their range.
    exact = image if image.dtype == np.uint8 else image.astype(np.float32)
    planes = np.stack(
        [_resized(Image.fromarray(plane), image_size, Image.Resampling.BILINEAR, squash) for plane in exact]
    )
    values = np.rint(planes).astype(image.dtype) if image.dtype == np.uint16 else planes
    return np.repeat(values, 3, axis=0) if len(values) == 1 else values


def _size(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """Return the width and height of an image, RGB or values [C, H, W]."""
    return image.size if isinstance(image, Image.Image) else (image.shape[2], image.shape[1])


def _resized(image: Image.Image, image_size: int, resampling: Image.Resampling, squash: bool) -> np.ndarray:
    size = (image_size, image_size)
    return np.asarray(image.resize(size, resampling) if squash else ImageOps.fit(image, size, resampling))
