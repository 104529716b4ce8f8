"""A file that cannot be used as an image, and why: decoders' exceptions as one line."""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

# Every exception that Pillow's decoders have been seen to raise on broken files.
DECODER_ERRORS = (
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


@contextlib.contextmanager
def decoding(what: str = "") -> Iterator[None]:
    """Turn decoders' exceptions into a BadImage with a one-line reason; `what` prefixes it."""
    try:
        yield
    except DECODER_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        # Pillow ends some messages with the path, which the caller already names.
        line = re.sub(r":?\s*'[^']*'$", "", reason.strip().partition("\n")[0])
        raise BadImage(what + (line or type(error).__name__)) from error


def check_pixels(width: int, height: int) -> None:
    """Raise BadImage for more pixels than Pillow's limit against decompression bombs."""
    # Pillow only warns above its limit and refuses at twice the limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise BadImage(f"{format_size(width, height)} pixels, above the limit of {limit:,} against decompression bombs")


def format_size(width: int, height: int) -> str:
    """Return a size as messages print it."""
    return f"{width} x {height}"
