"""Decoding of one file: an 8-bit RGB image, or the stored values of an image with more bits or other channels."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainables.data.readers.bad_image import DECODER_ERRORS, BadImage, check_pixels, decoding
from trainables.data.readers.formats import NUMPY, TIFF, formats_of
from trainables.data.readers.stored_values import (
    ORIENTATION,
    check_channels,
    check_not_preview,
    check_upright,
    open_tiff,
    plain,
    read_numpy,
    read_png16,
    read_tiff,
)

FIRST, CHANNELS, PAGES = "first", "channels", "pages"
STACK = (FIRST, CHANNELS, PAGES)
UNCOUNTED = -1  # page of a file whose pages cannot be counted
_ANIMATED = ("TIFF", "GIF", "WEBP", "PNG")  # formats whose frames after the first are images of their own
_PHOTOMETRIC, _SAMPLES_PER_PIXEL, _GRAY = 262, 277, (0, 1)  # tags of TIFF
_SUBFILE_TYPE, _SMALLER_COPY_OR_MASK = 254, 0b101  # a tag of TIFF, and its bits for pages that belong to another one


def decode(
    path: Path, *, stack: str = FIRST, page: int = 0, oriented: bool = True
) -> tuple[Image.Image | np.ndarray, int]:
    """Decode an image file.

    Args:
        path: Image file.
        stack: `first` reads the first page or frame, `channels` makes each gray page a channel, `pages` reads one page.
        page: Index of the page to read with `pages`; UNCOUNTED raises the reason why the pages cannot be counted.
        oriented: Whether EXIF orientation is applied; otherwise an image that is not stored upright is refused.

    Returns:
        The image and its number of pages, 1 with `pages`. Images of 8 bits in color or gray are RGB, with alpha
        composited on white. All others are their stored values, [C, H, W] of uint8, uint16 or float32, with C = 1 for
        gray.

    Raises:
        BadImage: The file cannot be decoded, is a preview of a raw photograph, or has more pixels than Pillow's limit
            against decompression bombs.
    """
    with decoding():
        if page == UNCOUNTED:
            raise BadImage(f"its {len(own_pages(path))} pages could not be counted before; start again")
        head = _head(path)
        if head.startswith(NUMPY):
            return read_numpy(path, page if stack == PAGES else None), 1
        try:
            image = Image.open(path, formats=formats_of(head))
        except Image.UnidentifiedImageError:
            if head.startswith(TIFF):  # more channels than Pillow knows
                return _unknown_to_pillow(path, stack, page, oriented)
            raise
        with image:
            check_pixels(*image.size)
            n_pages = 1 if stack == PAGES else _n_frames(image)  # counting reads the headers of all pages
            if stack == CHANNELS and n_pages > 1:
                return _stacked(image, n_pages, oriented), n_pages
            if page and not _turned_to(image, page):
                return read_tiff(path, page, oriented=oriented), n_pages
            loses_values = _loses_values(image)  # unknown after the EXIF of a PNG file is read
            if image.format == "TIFF":
                check_not_preview(int(image.tag_v2.get(_SUBFILE_TYPE, 0)))  # type: ignore[attr-defined]
            if not oriented:
                _check_upright(image)
            if image.format == "TIFF" and loses_values:
                return read_tiff(path, page, oriented=oriented), n_pages
            if image.format == "PNG" and loses_values:
                return read_png16(path, page), n_pages
            return pixels_of(image), n_pages


def own_pages(path: Path) -> list[bool]:
    """Return whether each page or frame of a file is an image of its own, not a smaller copy or a mask of another one.

    Raises:
        BadImage: The pages cannot be counted.
    """
    with decoding():
        head = _head(path)
        if head.startswith(NUMPY):
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            return [True] * (shape[0] if len(shape) == 4 else 1)
        try:
            image = Image.open(path, formats=formats_of(head))
        except Image.UnidentifiedImageError:
            if head.startswith(TIFF):
                return _own_pages_unknown_to_pillow(path)
            raise
        with image:
            n_pages = _n_frames(image)
            if image.format != "TIFF" or n_pages == 1:
                return [True] * n_pages
            return [_is_own_page(image, page) for page in range(n_pages)]


def pixels_of(image: Image.Image) -> Image.Image | np.ndarray:
    """Return an image of Pillow, upright: RGB, or its stored values [1, H, W] if it has more than 8 bits."""
    upright = ImageOps.exif_transpose(image)
    return _values(upright, image.format) if _is_deep(image) else _to_rgb(upright)


def open_image(path: Path) -> Image.Image:
    """Open an image file with Pillow, which decodes it when its pixels are read."""
    head = _head(path)
    return Image.open(path, formats=formats_of(head))


def _head(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadImage("not a regular file")  # reading a pipe would block forever
    with path.open("rb") as file:
        return file.read(8)


def _n_frames(image: Image.Image) -> int:
    return getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1


def _turned_to(image: Image.Image, page: int) -> bool:
    """Turn to a page; return False if it is a page of a TIFF file with more channels than Pillow knows."""
    try:
        image.seek(page)
    except SyntaxError:
        if image.format != "TIFF":
            raise
        return False
    check_pixels(*image.size)
    return True


def _unknown_to_pillow(path: Path, stack: str, page: int, oriented: bool) -> tuple[np.ndarray, int]:
    """Return an image of a TIFF file that Pillow cannot open, and its number of pages; see `decode`."""
    own = [] if stack == PAGES else [index for index, is_own in enumerate(_own_pages_unknown_to_pillow(path)) if is_own]
    if stack != CHANNELS or len(own) < 2:
        return read_tiff(path, page, oriented=oriented), max(1, len(own))
    check_channels(len(own))
    pages = [read_tiff(path, index, oriented=oriented) for index in own]
    for index, each in zip(own, pages, strict=True):
        if len(each) > 1:
            raise BadImage(f"page {index + 1} has {len(each)} channels; stack: channels needs pages in gray")
    return _as_channels(pages), len(own)


def _own_pages_unknown_to_pillow(path: Path) -> list[bool]:
    with open_tiff(path) as file:
        return [not int(page.subfiletype) & _SMALLER_COPY_OR_MASK for page in file.pages]


def _check_upright(image: Image.Image) -> None:
    check_upright(image.getexif().get(ORIENTATION, 1))


def _is_own_page(image: Image.Image, page: int) -> bool:
    with contextlib.suppress(*DECODER_ERRORS):  # a broken page is an image that its reader reports
        image.seek(page)
        return not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & _SMALLER_COPY_OR_MASK  # type: ignore[attr-defined]
    return True


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


def _values(image: Image.Image, file_format: str | None) -> np.ndarray:
    """Return the stored values of a gray page, [1, H, W]."""
    values = np.asarray(image)
    if file_format == "PPM" and image.mode == "I":  # their 16 bits are unsigned
        values = values.astype(np.uint16)
    return plain(values)[None]


def _stacked(image: Image.Image, n_pages: int, oriented: bool) -> np.ndarray:
    """Return the gray pages of a stack as channels, [C, H, W]."""
    check_channels(n_pages)
    pages = []
    for page in range(n_pages):
        image.seek(page)
        if not oriented:
            _check_upright(image)
        if not _is_deep(image) and image.mode != "L":
            raise BadImage(f"page {page + 1} has mode {image.mode}; stack: channels needs pages in gray")
        pages.append(_values(image, image.format))
    return _as_channels(pages)


def _as_channels(pages: Sequence[np.ndarray]) -> np.ndarray:
    """Return gray pages, each [1, H, W], as the channels of one image."""
    if len({page.shape for page in pages}) > 1:
        raise BadImage("its pages differ in size; stack: channels needs pages of one size")
    return np.concatenate(pages)
