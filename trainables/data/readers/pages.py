"""Pages of a file as images of their own, named by paths below the file: `scan.tif/page 3`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trainables.data.readers.bad_image import BadImage
from trainables.data.readers.decode import UNCOUNTED, own_pages


class Page(NamedTuple):
    """One page or frame of a file.

    Attributes:
        file: The file.
        number: Number of the page, from 0; UNCOUNTED if the pages of the file cannot be counted.
    """

    file: Path
    number: int


def pages_of(file: Path) -> tuple[dict[Path, Page], list[Path]]:
    """Return the pages of a file that are images, by the paths that name them, and the names of the other pages.

    The other pages are those that a TIFF file marks as a smaller copy or a mask of another one. A file with one image
    keeps its name; so does a file whose pages cannot be counted, which its reader reports.
    """
    try:
        own = own_pages(file)
    except BadImage:
        return {file: Page(file, UNCOUNTED)}, []
    kept = [index for index, is_own in enumerate(own) if is_own]
    if not kept:
        return {file: Page(file, 0)}, []
    others = [_name(file, index) for index, is_own in enumerate(own) if not is_own]
    if len(kept) == 1:
        return {file: Page(file, kept[0])}, others
    return {_name(file, index): Page(file, index) for index in kept}, others


def _name(file: Path, index: int) -> Path:
    return file / f"page {index + 1}"
