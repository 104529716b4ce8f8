"""Decoding of one file: an 8-bit RGB image, or the stored values of an image with more bits or other channels."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainables.data.readers.bad_image import DECODER_ERRORS, BadImage, check_pixels, decoding
from trainables.data.readers.formats import NUMPY, TIFF, formats_of
from trainables.data.readers.stored_values import check_channels, open_tiff, plain, read_numpy, read_png16, read_tiff

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
        oriented: Whether EXIF orientation is applied.

    Returns:
        The image and its number of pages, 1 with `pages`. Images of 8 bits in color or gray are RGB, with alpha
        composited on white. All others are their stored values, [C, H, W] of uint8, uint16 or float32, with C = 1 for
        gray.

    Raises:
        BadImage: The file cannot be decoded, or has more pixels than Pillow's limit against decompression bombs.
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
                return read_tiff(path, page), 1
            raise
        with image:
            check_pixels(*image.size)
            n_pages = 1 if stack == PAGES else _n_frames(image)  # counting reads the headers of all pages
            if stack == CHANNELS and n_pages > 1:
                return _stacked(image, n_pages), n_pages
            if page and not _turned_to(image, page):
                return read_tiff(path, page), n_pages
            if image.format == "TIFF" and _loses_values(image):
                return read_tiff(path, page), n_pages
            if image.format == "PNG" and _loses_values(image):
                return read_png16(path, page), n_pages
            return pixels_of(image, oriented=oriented), n_pages


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
                with open_tiff(path) as file:
                    return [not int(page.subfiletype) & _SMALLER_COPY_OR_MASK for page in file.pages]
            raise
        with image:
            n_pages = _n_frames(image)
            if image.format != "TIFF" or n_pages == 1:
                return [True] * n_pages
            return [_is_own_page(image, page) for page in range(n_pages)]


def pixels_of(image: Image.Image, *, oriented: bool = True) -> Image.Image | np.ndarray:
    """Return an image that Pillow has opened as RGB, or as its stored values [1, H, W] if it has more than 8 bits.

    Args:
        image: The image.
        oriented: Whether EXIF orientation is applied.
    """
    upright = ImageOps.exif_transpose(image) if oriented else image
    return _values(upright) if _is_deep(image) else _to_rgb(upright)


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


def _values(image: Image.Image) -> np.ndarray:
    """Return the stored values of a gray page, [1, H, W]."""
    return plain(np.asarray(image))[None]


def _stacked(image: Image.Image, n_pages: int) -> np.ndarray:
    """Return the gray pages of a stack as channels, [C, H, W]."""
    check_channels(n_pages)
    pages = []
    for page in range(n_pages):
        image.seek(page)
        if not _is_deep(image) and image.mode != "L":
            raise BadImage(f"page {page + 1} has mode {image.mode}; stack: channels needs pages in gray")
        pages.append(_values(image)[0])
    if len({page.shape for page in pages}) > 1:
        raise BadImage("its pages differ in size; stack: channels needs pages of one size")
    return np.stack(pages)
