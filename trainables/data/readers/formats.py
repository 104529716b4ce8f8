"""Formats of image files: which files are images, by their first bytes, and which formats Pillow may open."""

from __future__ import annotations

import functools
import re
import stat
from pathlib import Path

from PIL import features

# Not all of Pillow's formats: EPS would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", *(("AVIF",) if features.check("avif") else ()))
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NUMPY = b"\x93NUMPY"
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", NUMPY, *TIFF)
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of ISO base media files
_AVIF = (b"avif", b"avis")
# Formats that are named but cannot be read: where their files have which bytes, and what to convert them to.
_UNREAD = (
    ("DICOM", 128, (b"DICM",), "TIFF or NumPy arrays"),
    ("JPEG 2000", 0, (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), "TIFF or PNG"),
    ("JPEG XL", 0, (b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"), "TIFF or PNG"),
)
_PNM = re.compile(rb"P[1-6][\s#]")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the header that follows the first 14 bytes


def is_image(path: Path) -> bool:
    """Return whether a file is an image that `decode` can read, by its first bytes rather than its suffix.

    Raises:
        OSError: The file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        return False  # reading a pipe would block forever
    with path.open("rb") as file:
        head = file.read(32)
    if head[4:8] == b"ftyp":
        return (head[8:12] in _AVIF and "AVIF" in _FORMATS) or (head[8:12] in _HEIC and _has_heic())
    if head.startswith(_SIGNATURES) or _PNM.match(head) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    if head[:2] == b"BM":
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return False


def missing_decoder(path: Path) -> str | None:
    """Return what to do about an image that `is_image` refuses; None if it is not an image of a known kind.

    Raises:
        OSError: The file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        return None
    with path.open("rb") as file:
        head = file.read(132)
    for name, start, signatures, target in _UNREAD:
        if head[start:].startswith(signatures):
            return f"in {name} format, which cannot be read; convert them to {target}"
    if head[4:8] != b"ftyp":
        return None
    if head[8:12] in _HEIC and not _has_heic():
        return 'in HEIC format, which needs pillow-heif: pip install "pretext-study[heic]"'
    return "in AVIF format, which needs Pillow 11.3 or newer" if head[8:12] in _AVIF else None


@functools.cache
def _has_heic() -> bool:
    """Whether Pillow can read HEIC, after making it able to where pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def formats_of(head: bytes) -> tuple[str, ...]:
    """Return the formats that Pillow may try on a file with these first bytes."""
    return (*_FORMATS, "HEIF") if head[4:8] == b"ftyp" and _has_heic() else _FORMATS
