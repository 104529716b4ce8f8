"""Memory that the C library keeps for the next step of a training process."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_MAX_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make the GNU C library reuse the memory that tensors free, rather than return it to the system after each op.

    By default, each large tensor is new memory that the system has to clear page by page: a seventh of a training step
    of context prediction (measured). The process then keeps its largest size so far. Results do not change.

    Returns:
        Whether the C library has these settings; others, as on macOS, are left as they are.
    """
    if not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    settings = {_TRIM_THRESHOLD: _MAX_INT, _TOP_PAD: 2**26, _MMAP_MAX: 0, _ARENA_MAX: 1}
    return all(ctypes.CDLL(None).mallopt(name, value) == 1 for name, value in settings.items())
